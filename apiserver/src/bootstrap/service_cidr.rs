//! The ServiceCIDR `kubernetes`: the range that this server gives addresses from.

use api::error::ApiError;
use k8s_openapi::api::networking::v1::{ServiceCIDR, ServiceCIDRSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use serde_json::json;

use super::writer::Writer;

const NAME: &str = "kubernetes";
/// Keeps a range while addresses of it are in use.
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: &str = "Ready";

/// Creates it, and says that it is ready.
pub(super) async fn ensure(writer: &Writer) -> Result<(), ApiError> {
    let cidrs = vec![writer.server.config.service_cidr.clone()];
    if writer.get::<ServiceCIDR>("", NAME).is_none() {
        let range = ServiceCIDR {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                finalizers: Some(vec![FINALIZER.to_owned()]),
                ..ObjectMeta::default()
            },
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
    let ready = Condition {
        type_: READY.to_owned(),
        status: "True".to_owned(),
        message: "Kubernetes default Service CIDR is ready".to_owned(),
        last_transition_time: Time(writer.server.clock.now_seconds()),
        observed_generation: None,
        reason: String::new(),
    };
    let fields = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": NAME},
        "status": {"conditions": [ready]},
    });
    writer.apply_status::<ServiceCIDR>(NAME, &fields).await
}
