//! The Service `default/kubernetes`: the first address of the range leads to the API servers.

use api::error::ApiError;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::writer::Writer;
use crate::service_ip::Cidr;

/// Its namespace.
pub(super) const NAMESPACE: &str = api::well_known::namespaces::DEFAULT;
/// Its name.
pub(super) const NAME: &str = "kubernetes";
/// The name of its port.
pub(super) const PORT_NAME: &str = "https";
const PORT: i32 = 443;

/// Creates it, or brings its ports up to date.
pub(super) async fn ensure(writer: &Writer) -> Result<(), ApiError> {
    let ports = vec![ServicePort {
        name: Some(PORT_NAME.to_owned()),
        port: PORT,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::Int(i32::from(writer.server.config.secure_port))),
        ..ServicePort::default()
    }];
    match writer.get::<Service>(NAMESPACE, NAME) {
        None => writer.create(new(writer, ports)).await,
        Some(mut service) => {
            let spec = service.spec.get_or_insert_default();
            if spec.ports.as_ref() == Some(&ports) {
                return Ok(());
            }
            spec.ports = Some(ports);
            writer.replace(service).await.or_else(|error| if error.is_conflict() { Ok(()) } else { Err(error) })
        }
    }
}

fn new(writer: &Writer, ports: Vec<ServicePort>) -> Service {
    let first = writer.server.config.service_cidr.parse::<Cidr>().map(|range| range.first().to_string()).ok();
    let labels = [("component", "apiserver"), ("provider", "kubernetes")];
    Service {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ips: first.clone().map(|ip| vec![ip]),
            cluster_ip: first,
            ports: Some(ports),
            session_affinity: Some("None".to_owned()),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
