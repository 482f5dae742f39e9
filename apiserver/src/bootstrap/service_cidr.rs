//! The ServiceCIDR `kubernetes`: the range that this server gives addresses from.

use api::error::ApiError;
use k8s_openapi::api::networking::v1::{ServiceCIDR, ServiceCIDRSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::writer::Writer;

/// Who owns the condition.
const MANAGER: &str = "kubernetes-service-cidr-controller";
const NAME: &str = "kubernetes";
const READY: &str = "Ready";

/// Creates it, and says that it is ready.
pub(super) async fn ensure(writer: &Writer) -> Result<(), ApiError> {
    let cidrs = vec![writer.server.config.service_cidr.clone()];
    if writer.get::<ServiceCIDR>("", NAME).is_none() {
        let range = ServiceCIDR {
            metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
            spec: Some(ServiceCIDRSpec { cidrs: Some(cidrs.clone()) }),
            status: None,
        };
        writer.create(range).await?;
        writer.refresh().await?;
    }
    let Some(range) = writer.get::<ServiceCIDR>("", NAME) else { return Ok(()) };
    let same = range.spec.as_ref().and_then(|spec| spec.cidrs.as_ref()) == Some(&cidrs);
    let conditions = range.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    if !same || conditions.iter().any(|condition| condition.type_ == READY) {
        return Ok(());
    }
    let ready = json!({
        "type": READY,
        "status": "True",
        "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": writer.server.clock.now_seconds().to_string(),
    });
    let fields = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": NAME},
        "status": {"conditions": [ready]},
    });
    Writer::named(&writer.server, MANAGER).apply_status::<ServiceCIDR>(NAME, &fields).await
}
