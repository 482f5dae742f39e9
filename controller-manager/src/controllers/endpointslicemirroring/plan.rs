//! The EndpointSlices that mirror an Endpoints: one for each address family and set of ports.
//!
//! Entry points: [`is_mirrored`], [`plan`]. Pure; invariant: planning again with what was written plans nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::well_known::annotations::{ENDPOINTS_LAST_CHANGE, LAST_APPLIED};
use api::well_known::labels::{ENDPOINTSLICE_MANAGED_BY as MANAGED_BY, ENDPOINTSLICE_SKIP_MIRROR, SERVICE_NAME};
use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::slices::Plan;

/// The value of the label that marks our slices among those of others.
pub const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// `--mirroring-max-endpoints-per-subset` of Kubernetes.
pub const MOST_PER_SUBSET: usize = 1000;
/// Endpoints that are a lock of old leader elections have this annotation.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// What to write, and what is left out.
#[derive(Debug, Default, PartialEq)]
pub struct Mirrored {
    /// The writes.
    pub plan: Plan,
    /// Addresses that are none.
    pub invalid: usize,
    /// All addresses that are left out.
    pub skipped: usize,
}

/// Whether Endpoints are to be mirrored: they are somebody's own, and a service without a selector has their name.
pub fn is_mirrored(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    let meta = &endpoints.metadata;
    let skipped = meta
        .labels
        .as_ref()
        .is_some_and(|labels| labels.get(ENDPOINTSLICE_SKIP_MIRROR).is_some_and(|value| value == "true"));
    let lock = meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER));
    let unselected = |service: &Service| service.spec.as_ref().is_none_or(|spec| spec.selector.is_none());
    !skipped && !lock && service.is_some_and(unselected)
}

/// Name, number, protocol and application protocol, which say whether two ports are the same.
type PortKey = (String, Option<i32>, String, Option<String>);
/// The endpoints of a family and set of ports by their addresses.
type Groups = BTreeMap<(&'static str, Vec<PortKey>), BTreeMap<String, Endpoint>>;

/// Decides what to write for Endpoints that are mirrored; `slices` are those that mirror them now.
pub fn plan(endpoints: &Endpoints, slices: &[Arc<EndpointSlice>]) -> Mirrored {
    let mut mirrored = Mirrored::default();
    let groups = groups(endpoints, &mut mirrored);
    let mut unused: Vec<Arc<EndpointSlice>> = slices.to_vec();
    let mut missing = Vec::new();
    for ((family, ports), wanted) in groups {
        let wanted = slice(endpoints, family, &ports, wanted.into_values().collect());
        let same_ports = |slice: &Arc<EndpointSlice>| slice.address_type == family && keys_of(slice) == ports;
        match unused.iter().position(same_ports).map(|at| unused.remove(at)) {
            Some(old) if same(&wanted, &old) => {}
            Some(old) => mirrored.plan.update.push(renewed(wanted, &old)),
            None => missing.push(wanted),
        }
    }
    // A slice that would go and one that would come: one write instead of two.
    for wanted in missing {
        match unused.iter().position(|old| old.address_type == wanted.address_type).map(|at| unused.remove(at)) {
            Some(old) => mirrored.plan.update.push(renewed(wanted, &old)),
            None if endpoints.metadata.deletion_timestamp.is_none() => mirrored.plan.create.push(wanted),
            None => {}
        }
    }
    mirrored.plan.delete = unused;
    mirrored
}

/// Which addresses serve which ports, whatever the subsets that say so.
fn groups(endpoints: &Endpoints, mirrored: &mut Mirrored) -> Groups {
    let mut served: BTreeMap<String, (Endpoint, Vec<PortKey>)> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<PortKey> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| {
                let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
                (port.name.clone().unwrap_or_default(), Some(port.port), protocol, port.app_protocol.clone())
            })
            .collect();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let waiting = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(waiting) {
            let entry = served.entry(address.ip.clone()).or_insert_with(|| (endpoint(address, ready), Vec::new()));
            entry.1.extend(ports.iter().cloned());
        }
    }
    let mut groups = Groups::new();
    for (address, (endpoint, mut ports)) in served {
        ports.sort();
        ports.dedup();
        let family = match address.parse() {
            Ok(IpAddr::V4(_)) => "IPv4",
            Ok(IpAddr::V6(_)) => "IPv6",
            Err(_) => {
                mirrored.invalid += 1;
                mirrored.skipped += 1;
                continue;
            }
        };
        let group = groups.entry((family, ports)).or_default();
        if group.len() < MOST_PER_SUBSET {
            group.insert(address, endpoint);
        } else {
            mirrored.skipped += 1;
        }
    }
    groups
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn slice(endpoints: &Endpoints, family: &str, ports: &[PortKey], addresses: Vec<Endpoint>) -> EndpointSlice {
    let meta = &endpoints.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| key != ENDPOINTS_LAST_CHANGE && key != LAST_APPLIED);
    let ports: Vec<EndpointPort> = ports
        .iter()
        .map(|(name, port, protocol, app_protocol)| EndpointPort {
            name: Some(name.clone()),
            port: *port,
            protocol: Some(protocol.clone()),
            app_protocol: app_protocol.clone(),
        })
        .collect();
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: Some(vec![api::owners::owner_reference(endpoints, true, true)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: (!addresses.is_empty()).then_some(addresses),
        ports: (!ports.is_empty()).then_some(ports),
    }
}

/// The slice in the place of an old one.
fn renewed(new: EndpointSlice, old: &EndpointSlice) -> EndpointSlice {
    let (name, uid) = (old.metadata.name.clone(), old.metadata.uid.clone());
    let resource_version = old.metadata.resource_version.clone();
    let metadata = ObjectMeta { name, uid, resource_version, generate_name: None, ..new.metadata };
    EndpointSlice { metadata, ..new }
}

fn same(new: &EndpointSlice, old: &EndpointSlice) -> bool {
    let by_address = |slice: &EndpointSlice| -> BTreeMap<Vec<String>, Endpoint> {
        slice.endpoints.iter().flatten().map(|one| (one.addresses.clone(), one.clone())).collect()
    };
    by_address(new) == by_address(old)
        && new.metadata.labels == old.metadata.labels
        && new.metadata.annotations.as_ref().filter(|all| !all.is_empty())
            == old.metadata.annotations.as_ref().filter(|all| !all.is_empty())
}

fn keys_of(slice: &EndpointSlice) -> Vec<PortKey> {
    let key = |port: &EndpointPort| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        (port.name.clone().unwrap_or_default(), port.port, protocol, port.app_protocol.clone())
    };
    let mut keys: Vec<PortKey> = slice.ports.iter().flatten().map(key).collect();
    keys.sort();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn endpoints(subsets: Value) -> Endpoints {
        serde_json::from_value(json!({"metadata": {"name": "e", "namespace": "n", "uid": "u", "labels": {"a": "b"},
            "annotations": {"k": "v", LAST_APPLIED: "{}"}}, "subsets": subsets}))
        .expect("endpoints")
    }

    /// Plans, carries it out on the slices, and checks that nothing is left to plan.
    fn settle(endpoints: &Endpoints, slices: &mut Vec<Arc<EndpointSlice>>) -> (usize, usize, usize) {
        let Plan { create, update, delete } = plan(endpoints, slices).plan;
        let counts = (create.len(), update.len(), delete.len());
        slices.retain(|slice| !delete.contains(slice));
        for new in update {
            let name = new.metadata.name.clone();
            let same_name = |slice: &&mut Arc<EndpointSlice>| slice.metadata.name == name;
            *slices.iter_mut().find(same_name).expect("what is updated exists") = Arc::new(new);
        }
        for mut new in create {
            new.metadata.name = Some(format!("e-{}", slices.len()));
            slices.push(Arc::new(new));
        }
        assert!(plan(endpoints, slices).plan.is_empty());
        counts
    }

    #[test]
    fn each_set_of_ports_and_family_has_a_slice() {
        let mut slices = Vec::new();
        let subsets = json!([
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "ports": [{"port": 80}]},
            {"addresses": [{"ip": "10.0.0.1"}], "notReadyAddresses": [{"ip": "10.0.0.2", "hostname": "h"}], "ports": [{"port": 81, "name": "b"}]},
        ]);
        assert_eq!(settle(&endpoints(subsets), &mut slices), (3, 0, 0));
        let shown: Vec<_> = slices
            .iter()
            .map(|slice| {
                let ports: Vec<_> = slice.ports.iter().flatten().filter_map(|port| port.port).collect();
                let endpoints = slice.endpoints.iter().flatten();
                let ready: Vec<_> = endpoints.map(|one| one.conditions.as_ref().and_then(|c| c.ready)).collect();
                (slice.address_type.as_str(), ports, ready)
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("IPv4", vec![80, 81], vec![Some(true)]),
                ("IPv4", vec![81], vec![Some(false)]),
                ("IPv6", vec![80], vec![Some(true)])
            ]
        );
        let meta = &slices[0].metadata;
        let labels = [("a", "b"), (MANAGED_BY, MANAGER), (SERVICE_NAME, "e")];
        assert_eq!(meta.labels, Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()));
        assert_eq!(meta.annotations, Some([("k".to_owned(), "v".to_owned())].into()));
        assert_eq!(meta.owner_references.as_ref().unwrap()[0].kind, "Endpoints");
    }

    #[test]
    fn slices_are_changed_rather_than_made_anew() {
        let mut slices = Vec::new();
        let of = |ip: &str, port: i32| endpoints(json!([{"addresses": [{"ip": ip}], "ports": [{"port": port}]}]));
        assert_eq!(settle(&of("10.0.0.1", 80), &mut slices), (1, 0, 0));
        assert_eq!(settle(&of("10.0.0.2", 80), &mut slices), (0, 1, 0));
        assert_eq!(settle(&of("10.0.0.2", 81), &mut slices), (0, 1, 0));
        assert_eq!(settle(&endpoints(json!([])), &mut slices), (0, 0, 1));
    }

    #[test]
    fn what_can_not_be_mirrored_is_counted() {
        let addresses: Vec<Value> = (0..1001).map(|i| json!({"ip": format!("10.0.{}.{}", i / 250, i % 250)})).collect();
        let mirrored = plan(&endpoints(json!([{"addresses": addresses}, {"addresses": [{"ip": "x"}]}])), &[]);
        assert_eq!((mirrored.invalid, mirrored.skipped), (1, 2));
        assert_eq!(mirrored.plan.create[0].endpoints.as_ref().map(Vec::len), Some(1000));
    }

    #[test]
    fn only_own_endpoints_of_services_without_selector() {
        let service = |spec: Value| serde_json::from_value::<Service>(json!({"spec": spec})).expect("a service");
        let (plain, selecting) = (service(json!({})), service(json!({"selector": {"a": "b"}})));
        let mut own = endpoints(json!([]));
        assert!(is_mirrored(&own, Some(&plain)));
        assert!(!is_mirrored(&own, Some(&selecting)));
        assert!(!is_mirrored(&own, None));
        own.metadata.labels = Some([(ENDPOINTSLICE_SKIP_MIRROR.to_owned(), "true".to_owned())].into());
        assert!(!is_mirrored(&own, Some(&plain)));
    }
}
