//! What happens to the fields of a Service when its type changes or a client leaves allocated values out.

use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};

use super::{is_external, kind};

/// `clusterIP` is the first of `clusterIPs`; a client may change either and leave the other as it was.
pub fn agree_on_cluster_ips(new: &mut ServiceSpec, old: &ServiceSpec) {
    let given = |ip: &Option<String>| ip.clone().unwrap_or_default();
    let (now, before) = (given(&new.cluster_ip), given(&old.cluster_ip));
    let list = |ips: &Option<Vec<String>>| ips.clone().unwrap_or_default();
    if now == before && list(&new.cluster_ips).is_empty() {
        new.cluster_ips.clone_from(&old.cluster_ips);
    }
    if now != before && list(&new.cluster_ips) == list(&old.cluster_ips) {
        new.cluster_ips = (!now.is_empty()).then(|| vec![now]);
    }
}

/// Fields that the old type needed and the new one forbids go, unless the client changed them.
pub fn drop_what_the_type_forbids(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if new.cluster_ips == old.cluster_ips {
            new.cluster_ip = None;
            new.cluster_ips = None;
        }
        drop_if_same(&mut new.ip_families, &old.ip_families);
        drop_if_same(&mut new.ip_family_policy, &old.ip_family_policy);
        drop_if_same(&mut new.internal_traffic_policy, &old.internal_traffic_policy);
    }
    if needs_node_ports(old) && !needs_node_ports(new) && node_ports(new) == node_ports(old) {
        new.ports.iter_mut().flatten().for_each(|port| port.node_port = None);
    }
    if needs_health_check(old) && !needs_health_check(new) {
        drop_if_same(&mut new.health_check_node_port, &old.health_check_node_port);
    }
    if is_external(old) && !is_external(new) {
        drop_if_same(&mut new.external_traffic_policy, &old.external_traffic_policy);
    }
    if kind(old) == "LoadBalancer" && kind(new) != "LoadBalancer" {
        drop_if_same(&mut new.allocate_load_balancer_node_ports, &old.allocate_load_balancer_node_ports);
        drop_if_same(&mut new.load_balancer_class, &old.load_balancer_class);
    }
}

/// Allocated values that the client left out stay as they are; a node port stays with the name of its port.
pub fn keep_what_was_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    let missing = |ip: &Option<String>| ip.as_deref().unwrap_or_default().is_empty();
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if missing(&new.cluster_ip) {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if new.cluster_ips.as_ref().is_none_or(Vec::is_empty) && new.cluster_ip == old.cluster_ip {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
    }
    if needs_node_ports(old) && needs_node_ports(new) {
        let wanted = node_ports(new);
        let named = |name: &Option<String>| {
            let same =
                |port: &&ServicePort| port.name.as_deref().unwrap_or_default() == name.as_deref().unwrap_or_default();
            let port = old.ports.iter().flatten().rev().find(same)?.node_port.filter(|port| *port != 0)?;
            (!wanted.contains(&port)).then_some(port)
        };
        for port in new.ports.iter_mut().flatten().filter(|port| port.node_port.unwrap_or_default() == 0) {
            port.node_port = named(&port.name);
        }
    }
    if needs_health_check(old) && needs_health_check(new) && new.health_check_node_port.unwrap_or_default() == 0 {
        new.health_check_node_port = old.health_check_node_port;
    }
}

fn drop_if_same<T: PartialEq>(new: &mut Option<T>, old: &Option<T>) {
    if new == old {
        *new = None;
    }
}

fn needs_cluster_ip(spec: &ServiceSpec) -> bool {
    kind(spec) != "ExternalName"
}

fn needs_node_ports(spec: &ServiceSpec) -> bool {
    matches!(kind(spec), "NodePort" | "LoadBalancer")
}

fn needs_health_check(spec: &ServiceSpec) -> bool {
    kind(spec) == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local")
}

fn node_ports(spec: &ServiceSpec) -> Vec<i32> {
    let mut ports: Vec<i32> =
        spec.ports.iter().flatten().filter_map(|port| port.node_port).filter(|port| *port != 0).collect();
    ports.sort_unstable();
    ports
}
