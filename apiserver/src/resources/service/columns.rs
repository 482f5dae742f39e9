//! What `kubectl get services` shows.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{LoadBalancerStatus, Service as Object, ServicePort, ServiceSpec};
use serde_json::Value;

use super::kind;
use crate::resources::Columns;
use crate::resources::printing::{self, AGE, NAME, or_none};

/// Columns and cells of services.
pub fn columns() -> Columns<Object> {
    let columns = vec![
        NAME,
        printing::text(
            "Type",
            "type determines how the Service is exposed. Defaults to ClusterIP. Valid options are ExternalName, ClusterIP, NodePort, and LoadBalancer.",
        ),
        printing::text("Cluster-IP", "clusterIP is the IP address of the service and is usually assigned randomly."),
        printing::text(
            "External-IP",
            "externalIPs is a list of IP addresses for which nodes in the cluster will also accept traffic for this service.",
        ),
        printing::text("Port(s)", "The list of ports that are exposed by this service."),
        AGE,
        printing::wide("Selector", "Route service traffic to pods with label keys and values matching this selector."),
    ];
    Columns {
        columns,
        cells: |object, now| {
            let spec = object.spec.clone().unwrap_or_default();
            let balancer = object.status.as_ref().and_then(|status| status.load_balancer.clone()).unwrap_or_default();
            let cluster_ip = spec.cluster_ips.as_ref().and_then(|ips| ips.first()).map_or("<none>", String::as_str);
            vec![
                printing::name(&object.metadata),
                Value::from(kind(&spec)),
                Value::from(cluster_ip),
                Value::from(external_ip(&spec, &balancer)),
                Value::from(ports(spec.ports.as_deref().unwrap_or_default())),
                printing::age(&object.metadata, now),
                Value::from(printing::labels(spec.selector.as_ref())),
            ]
        },
    }
}

fn external_ip(spec: &ServiceSpec, balancer: &LoadBalancerStatus) -> String {
    let external = spec.external_ips.as_deref().unwrap_or_default();
    match kind(spec) {
        "ClusterIP" | "NodePort" => or_none(&external.join(",")),
        "LoadBalancer" => {
            let points = balancer.ingress.iter().flatten();
            let point = |p: &k8s_openapi::api::core::v1::LoadBalancerIngress| {
                p.ip.clone()
                    .filter(|ip| !ip.is_empty())
                    .or_else(|| p.hostname.clone())
                    .filter(|point| !point.is_empty())
            };
            let mut shown: Vec<String> = points.filter_map(point).collect::<BTreeSet<_>>().into_iter().collect();
            shown.extend(external.iter().cloned());
            if shown.is_empty() { "<pending>".to_owned() } else { shown.join(",") }
        }
        "ExternalName" => spec.external_name.clone().unwrap_or_default(),
        _ => "<unknown>".to_owned(),
    }
}

fn ports(ports: &[ServicePort]) -> String {
    let shown = |port: &ServicePort| {
        let protocol = port.protocol.as_deref().unwrap_or_default();
        match port.node_port {
            Some(node_port) if node_port > 0 => format!("{}:{node_port}/{protocol}", port.port),
            Some(_) | None => format!("{}/{protocol}", port.port),
        }
    };
    or_none(&ports.iter().map(shown).collect::<Vec<_>>().join(","))
}
