//! What upstream warns of in Services: fields without effect, addresses that are not written as they should be.

use api::field::FieldPath;
use k8s_openapi::api::core::v1::Service as Object;

use super::validate::{TOPOLOGY_HINTS, TOPOLOGY_MODE};
use super::{is_headless, kind};
use crate::resources::address_warnings::{address, range};

/// Warnings for a new or changed Service.
pub fn warnings(service: &Object) -> Vec<String> {
    let mut warnings = Vec::new();
    let spec = service.spec.clone().unwrap_or_default();
    if service.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(TOPOLOGY_HINTS)) {
        warnings.push(format!("annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"));
    }
    let path = FieldPath::root("spec");
    let headless = is_headless(&spec) && kind(&spec) == "ClusterIP";
    if !matches!(spec.cluster_ip.as_deref(), None | Some("" | "None")) {
        for (i, ip) in spec.cluster_ips.iter().flatten().enumerate() {
            warnings.extend(address(&path.child("clusterIPs").index(i), ip));
        }
    }
    let external = spec.external_ips.as_deref().unwrap_or_default();
    let balancer = spec.load_balancer_ip.as_deref().unwrap_or_default();
    if headless {
        let affinity = spec.session_affinity.as_deref() != Some("None");
        let fields = [
            (!balancer.is_empty(), "loadBalancerIP"),
            (!external.is_empty(), "externalIPs"),
            (affinity, "SessionAffinity"),
        ];
        let set = fields.iter().filter(|(set, _)| *set);
        warnings.extend(set.map(|(_, field)| format!("spec.{field} is ignored for headless services")));
    }
    for (i, ip) in external.iter().enumerate() {
        warnings.extend(address(&path.child("externalIPs").index(i), ip));
    }
    if !external.is_empty() && !headless && kind(&spec) != "ExternalName" {
        warnings.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    if !balancer.is_empty() {
        warnings.extend(address(&path.child("loadBalancerIP"), balancer));
    }
    for (i, found) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        warnings.extend(range(&path.child("loadBalancerSourceRanges").index(i), found));
    }
    if kind(&spec) == "ExternalName" && !external.is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if kind(&spec) != "ExternalName" && spec.external_name.is_some_and(|name| !name.is_empty()) {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.traffic_distribution.as_deref() == Some("PreferClose") {
        warnings.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_without_effect_and_odd_addresses() {
        let table = [
            (
                json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "sessionAffinity": "ClientIP", "externalIPs": ["192.0.2.1"]}),
                vec![
                    "spec.externalIPs is ignored for headless services",
                    "spec.SessionAffinity is ignored for headless services",
                ],
            ),
            (
                json!({"type": "ClusterIP", "externalIPs": ["2001:DB8::1"], "externalName": "x", "trafficDistribution": "PreferClose"}),
                vec![
                    "spec.externalIPs[0]: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")",
                    "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
                    "spec.externalName is ignored when spec.type is not \"ExternalName\"",
                    "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
                ],
            ),
            (json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}), vec![]),
        ];
        for (spec, expected) in table {
            let service: Object = serde_json::from_value(json!({"spec": spec})).expect("a service");
            assert_eq!(warnings(&service), expected);
        }
    }
}
