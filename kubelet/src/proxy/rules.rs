//! Services and their endpoints as nftables maps.
//!
//! Entry: [`services`] (what is wanted) and [`ruleset`] (how nft is told), both pure. Invariant: a packet is looked up,
//! not walked through rules: the cost does not grow with the number of services.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::sync::Arc;

use api::well_known::labels::SERVICE_NAME;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// The mark of packets whose source has to be hidden: Kubernetes' own.
const MASQUERADE_MARK: &str = "0x4000";

/// Where traffic arrives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Front {
    /// An address of the service itself.
    Address(Ipv4Addr, &'static str, u16),
    /// A port of every node.
    NodePort(&'static str, u16),
}

/// Where it goes: addresses and ports of endpoints.
pub(super) type Services = BTreeMap<Front, BTreeSet<(Ipv4Addr, u16)>>;

/// The table of one node's proxy.
pub(super) fn table_name(node: &str) -> String {
    let clean: String = node.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("kubelab_proxy_{clean}")
}

/// What is wanted, from the API's objects.
pub(super) fn services(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>]) -> Services {
    let mut by_service: BTreeMap<(String, String), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
        let labels = slice.metadata.labels.as_ref();
        let Some(name) = labels.and_then(|labels| labels.get(SERVICE_NAME)) else { continue };
        let namespace = slice.metadata.namespace.clone().unwrap_or_default();
        by_service.entry((namespace, name.clone())).or_default().push(slice);
    }
    let mut wanted = Services::new();
    for service in services {
        let meta = &service.metadata;
        let key = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        add(&mut wanted, service, by_service.get(&key).map(Vec::as_slice).unwrap_or_default());
    }
    wanted
}

fn add(wanted: &mut Services, service: &Service, slices: &[&EndpointSlice]) {
    let Some(spec) = &service.spec else { return };
    if spec.type_.as_deref() == Some("ExternalName") {
        return;
    }
    let addresses = spec.cluster_ip.iter().chain(spec.external_ips.iter().flatten());
    let balancers = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancers.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    let addresses = addresses.cloned().chain(ingress.filter_map(|ingress| ingress.ip.clone()));
    let addresses: BTreeSet<Ipv4Addr> = addresses.filter_map(|text| text.parse().ok()).collect();
    for port in spec.ports.iter().flatten() {
        let protocol = match port.protocol.as_deref() {
            Some("UDP") => "udp",
            Some("SCTP") => "sctp",
            Some(_) | None => "tcp",
        };
        let Ok(number) = u16::try_from(port.port) else { continue };
        let endpoints = endpoints(slices, port.name.as_deref().unwrap_or_default());
        for address in &addresses {
            wanted.insert(Front::Address(*address, protocol, number), endpoints.clone());
        }
        if let Some(node_port) = port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0) {
            wanted.insert(Front::NodePort(protocol, node_port), endpoints);
        }
    }
}

/// The ready endpoints of one port; if there are none, those that still serve while they end.
fn endpoints(slices: &[&EndpointSlice], port_name: &str) -> BTreeSet<(Ipv4Addr, u16)> {
    let (mut ready, mut ending) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices {
        let ports = slice.ports.iter().flatten();
        let mut ports = ports.filter(|port| port.name.as_deref().unwrap_or_default() == port_name);
        let Some(port) = ports.next().and_then(|port| u16::try_from(port.port?).ok()) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let Some(address) = endpoint.addresses.first().and_then(|text| text.parse().ok()) else { continue };
            if conditions.ready.unwrap_or(true) {
                ready.insert((address, port));
            } else if conditions.serving.unwrap_or(false) && conditions.terminating.unwrap_or(false) {
                ending.insert((address, port));
            }
        }
    }
    if ready.is_empty() { ending } else { ready }
}

/// The whole table, as text for `nft -f -`: one transaction that replaces the table of before.
pub(super) fn ruleset(table: &str, services: &Services) -> String {
    let mut sizes = BTreeSet::new();
    let mut hairpins = BTreeSet::new();
    let mut maps = Maps::default();
    for (front, endpoints) in services {
        let count = endpoints.len();
        if count > 0 {
            sizes.insert(count);
        }
        hairpins.extend(endpoints.iter().map(|(address, _)| format!("{address} . {address}")));
        maps.add(front, endpoints);
    }
    let mut text = format!("table ip {table}\ndelete table ip {table}\ntable ip {table} {{\n");
    let key = "ip daddr . meta l4proto . th dport";
    let node_key = "meta l4proto . th dport";
    let number = "numgen random mod 2";
    push_map(&mut text, "services", "type ipv4_addr . inet_proto . inet_service : verdict", &maps.services);
    push_map(&mut text, "node_ports", "type inet_proto . inet_service : verdict", &maps.node_ports);
    let target = "ip daddr . th dport";
    push_map(&mut text, "endpoints", &format!("typeof {key} . {number} : {target}"), &maps.endpoints);
    push_map(&mut text, "node_endpoints", &format!("typeof {node_key} . {number} : {target}"), &maps.node_endpoints);
    push_set(&mut text, "without_endpoints", "type ipv4_addr . inet_proto . inet_service", &maps.without);
    push_set(&mut text, "hairpins", "type ipv4_addr . ipv4_addr", &hairpins);
    for size in sizes {
        let pick = format!("numgen random mod {size}");
        let _ = writeln!(text, "  chain pick_{size} {{ dnat ip to {key} . {pick} map @endpoints; }}");
        let _ = writeln!(
            text,
            "  chain node_pick_{size} {{ meta mark set meta mark or {MASQUERADE_MARK}; \
             dnat ip to {node_key} . {pick} map @node_endpoints; }}"
        );
    }
    let lookups = format!("{key} vmap @services\n    fib daddr type local {node_key} vmap @node_ports");
    for hook in ["prerouting", "output"] {
        let _ = writeln!(
            text,
            "  chain {hook} {{\n    type nat hook {hook} priority -100; policy accept;\n    {lookups}\n  }}"
        );
    }
    let _ = writeln!(
        text,
        "  chain postrouting {{\n    type nat hook postrouting priority srcnat; policy accept;\n    \
         meta mark & {MASQUERADE_MARK} != 0 masquerade\n    ct status dnat ip saddr . ip daddr @hairpins masquerade\n  }}"
    );
    for (chain, hook) in [("refuse_forward", "forward"), ("refuse_output", "output")] {
        let _ = writeln!(
            text,
            "  chain {chain} {{\n    type filter hook {hook} priority filter; policy accept;\n    \
             {key} @without_endpoints reject\n  }}"
        );
    }
    text.push_str("}\n");
    text
}

/// The elements of the maps.
#[derive(Default)]
struct Maps {
    services: BTreeSet<String>,
    node_ports: BTreeSet<String>,
    endpoints: BTreeSet<String>,
    node_endpoints: BTreeSet<String>,
    without: BTreeSet<String>,
}

impl Maps {
    fn add(&mut self, front: &Front, endpoints: &BTreeSet<(Ipv4Addr, u16)>) {
        let count = endpoints.len();
        let (key, verdicts, targets, chain) = match front {
            Front::Address(address, protocol, port) => {
                let key = format!("{address} . {protocol} . {port}");
                if count == 0 {
                    self.without.insert(key);
                    return;
                }
                (key, &mut self.services, &mut self.endpoints, "pick")
            }
            Front::NodePort(protocol, port) => {
                (format!("{protocol} . {port}"), &mut self.node_ports, &mut self.node_endpoints, "node_pick")
            }
        };
        if count == 0 {
            return;
        }
        verdicts.insert(format!("{key} : goto {chain}_{count}"));
        let target =
            |(index, (address, port)): (usize, &(Ipv4Addr, u16))| format!("{key} . {index} : {address} . {port}");
        targets.extend(endpoints.iter().enumerate().map(target));
    }
}

fn push_map(text: &mut String, name: &str, kind: &str, elements: &BTreeSet<String>) {
    push(text, "map", name, kind, elements);
}

fn push_set(text: &mut String, name: &str, kind: &str, elements: &BTreeSet<String>) {
    push(text, "set", name, kind, elements);
}

fn push(text: &mut String, word: &str, name: &str, kind: &str, elements: &BTreeSet<String>) {
    let _ = writeln!(text, "  {word} {name} {{\n    {kind}");
    if !elements.is_empty() {
        let all: Vec<&str> = elements.iter().map(String::as_str).collect();
        let _ = writeln!(text, "    elements = {{ {} }}", all.join(", "));
    }
    text.push_str("  }\n");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn objects() -> (Vec<Arc<Service>>, Vec<Arc<EndpointSlice>>) {
        let service = |name: &str, ip: &str| {
            let value = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {"clusterIP": ip,
                "ports": [{"port": 80, "protocol": "TCP", "nodePort": if name == "web" { 30080 } else { 0 }}]}});
            Arc::new(serde_json::from_value(value).expect("a service"))
        };
        let slice = json!({"metadata": {"name": "web-1", "namespace": "ns", "labels": {SERVICE_NAME: "web"}},
            "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
                {"addresses": ["10.0.0.3"]}]});
        let slices = vec![Arc::new(serde_json::from_value(slice).expect("a slice"))];
        (vec![service("web", "10.96.0.5"), service("empty", "10.96.0.6"), service("headless", "None")], slices)
    }

    #[test]
    fn what_is_wanted() {
        let (all, slices) = objects();
        let wanted = services(&all, &slices);
        let lines: Vec<String> =
            wanted.iter().map(|(front, endpoints)| format!("{front:?} -> {}", endpoints.len())).collect();
        assert_eq!(
            lines,
            [
                "Address(10.96.0.5, \"tcp\", 80) -> 2",
                "Address(10.96.0.6, \"tcp\", 80) -> 0",
                "NodePort(\"tcp\", 30080) -> 2"
            ]
        );
    }

    #[test]
    fn the_table() {
        let (all, slices) = objects();
        let text = ruleset("t", &services(&all, &slices));
        for part in [
            "elements = { 10.96.0.5 . tcp . 80 : goto pick_2 }",
            "elements = { tcp . 30080 : goto node_pick_2 }",
            "10.96.0.5 . tcp . 80 . 0 : 10.0.0.1 . 8080, 10.96.0.5 . tcp . 80 . 1 : 10.0.0.3 . 8080",
            "elements = { 10.96.0.6 . tcp . 80 }",
            "10.0.0.1 . 10.0.0.1",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
