//! The Endpoints object that a service should have.
//!
//! Entry point: [`plan`]. Pure; invariant: planning again with what was written plans nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::well_known::annotations::ENDPOINTS_OVER_CAPACITY as OVER_CAPACITY;
use api::well_known::labels::ENDPOINTS_MANAGED_BY as MANAGED_BY;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::backends::{self, BackendPort, HEADLESS, TRIGGER_TIME};
use crate::pods;

/// More addresses than this make an object too large to send to every node; the rest are left out.
const MOST_ADDRESSES: usize = 1000;

/// What to write.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// It is as it should be.
    Nothing,
    /// There is none yet.
    Create(Box<Endpoints>),
    /// It differs; the object carries the resourceVersion it was derived from.
    Update(Box<Endpoints>),
}

/// Decides what the Endpoints of a service with a selector should be. `pods` are those that the selector selects.
pub fn plan(service: &Service, pods: &[Arc<Pod>], existing: Option<&Endpoints>, trigger: Option<Timestamp>) -> Plan {
    let (subsets, truncated) = subsets(service, pods);
    let subsets = (!subsets.is_empty()).then_some(subsets);
    let labels = labels(service);
    let empty = BTreeMap::new();
    if let Some(existing) = existing {
        let annotations = existing.metadata.annotations.as_ref().unwrap_or(&empty);
        let same_subsets = existing.subsets.as_deref().unwrap_or_default() == subsets.as_deref().unwrap_or_default();
        let same_labels = existing.metadata.labels.as_ref() == Some(&labels);
        if same_subsets && same_labels && annotations.contains_key(OVER_CAPACITY) == truncated {
            return Plan::Nothing;
        }
    }
    let mut wanted = existing.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    set(annotations, TRIGGER_TIME, trigger.map(|at| at.to_string()));
    set(annotations, OVER_CAPACITY, truncated.then(|| "truncated".to_owned()));
    wanted.metadata.labels = Some(labels);
    wanted.metadata.managed_fields = None;
    wanted.subsets = subsets;
    if existing.is_some() { Plan::Update(Box::new(wanted)) } else { Plan::Create(Box::new(wanted)) }
}

fn set(annotations: &mut BTreeMap<String, String>, key: &str, value: Option<String>) {
    match value {
        Some(value) => annotations.insert(key.to_owned(), value),
        None => annotations.remove(key),
    };
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if backends::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), "endpoint-controller".to_owned());
    labels
}

/// An address, with what must be equal for two mentions of it to be one; ordered by IP, then by pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    ip: String,
    uid: String,
    ready: bool,
}

/// The addresses by the set of ports they serve, in Kubernetes' canonical order, and whether any were left out.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let publish = backends::publishes_not_ready(service);
    let mut addresses: BTreeMap<Key, (EndpointAddress, BTreeSet<BackendPort>)> = BTreeMap::new();
    for pod in pods {
        let Some((key, address)) = address(service, pod, publish) else { continue };
        let ports = backends::ports_on(service, pod);
        let portless = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).is_none_or(Vec::is_empty);
        if ports.is_empty() && !(portless && backends::is_headless(service)) {
            continue;
        }
        addresses.entry(key).or_insert_with(|| (address, BTreeSet::new())).1.extend(ports);
    }
    let truncated = truncate(&mut addresses);
    let mut groups: BTreeMap<BTreeSet<BackendPort>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    for (key, (address, ports)) in addresses {
        let (up, down) = groups.entry(ports).or_default();
        if key.ready { up.push(address) } else { down.push(address) }
    }
    let some = |list: Vec<EndpointAddress>| (!list.is_empty()).then_some(list);
    let subset = |(ports, (up, down)): (BTreeSet<BackendPort>, _)| EndpointSubset {
        addresses: some(up),
        not_ready_addresses: some(down),
        ports: (!ports.is_empty()).then(|| ports.into_iter().map(endpoint_port).collect()),
    };
    (groups.into_iter().map(subset).collect(), truncated)
}

fn truncate<V>(addresses: &mut BTreeMap<Key, V>) -> bool {
    if addresses.len() <= MOST_ADDRESSES {
        return false;
    }
    let mut keys: Vec<_> = addresses.keys().cloned().collect();
    keys.sort_by_key(|key| !key.ready);
    for key in &keys[MOST_ADDRESSES..] {
        addresses.remove(key);
    }
    true
}

fn address(service: &Service, pod: &Pod, publish: bool) -> Option<(Key, EndpointAddress)> {
    let family = backends::families_of(service).into_iter().next()?;
    // Without a node the address could not be stored: an empty nodeName is invalid.
    if !backends::may_serve(pod, publish) || pods::node_of(pod).is_empty() {
        return None;
    }
    let ip = backends::addresses_of(pod).find(|ip| backends::is_of_family(ip, &family))?.to_owned();
    let ready = publish || pods::ready_since(pod).is_some();
    let key = Key { ip: ip.clone(), uid: pod.metadata.uid.clone().unwrap_or_default(), ready };
    let address = EndpointAddress {
        ip,
        hostname: backends::hostname_in(service, pod),
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    };
    Some((key, address))
}

fn endpoint_port(port: BackendPort) -> EndpointPort {
    EndpointPort {
        name: (!port.name.is_empty()).then_some(port.name),
        port: port.port,
        protocol: Some(port.protocol),
        app_protocol: port.app_protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::fixtures::*;
    use crate::pods::fixtures::{ago, now, ready};

    fn planned(service: &Service, pods: &[Pod], existing: Option<&Endpoints>) -> Option<Endpoints> {
        let pods: Vec<_> = pods.iter().cloned().map(Arc::new).collect();
        match plan(service, &pods, existing, Some(now())) {
            Plan::Nothing => None,
            Plan::Create(endpoints) | Plan::Update(endpoints) => Some(*endpoints),
        }
    }

    /// `ready/not ready@ports` of each subset.
    fn shape(endpoints: &Endpoints) -> Vec<String> {
        let ips = |list: &Option<Vec<EndpointAddress>>| {
            list.iter().flatten().map(|a| a.ip.clone()).collect::<Vec<_>>().join(",")
        };
        let ports = |subset: &EndpointSubset| {
            subset.ports.iter().flatten().map(|p| p.port.to_string()).collect::<Vec<_>>().join(",")
        };
        endpoints
            .subsets
            .iter()
            .flatten()
            .map(|s| format!("{}/{}@{}", ips(&s.addresses), ips(&s.not_ready_addresses), ports(s)))
            .collect()
    }

    #[test]
    fn subsets_group_addresses_by_their_ports() {
        let mut publishing = service();
        publishing.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
        let mut headless = service();
        headless.spec.as_mut().unwrap().cluster_ip = Some("None".into());
        headless.spec.as_mut().unwrap().ports = None;
        let mut leaving = backend("l", "10.0.0.9");
        leaving.metadata.deletion_timestamp = Some(ago(1));
        let mut unbound = backend("u", "10.0.0.8");
        unbound.spec.as_mut().unwrap().node_name = None;
        let mut odd = ready(backend("o", "10.0.0.7"), 1);
        odd.spec.as_mut().unwrap().containers[0].ports.as_mut().unwrap()[0].container_port = 7070;
        let (up, down) = (ready(backend("p", "10.0.0.1"), 1), backend("q", "10.0.0.2"));
        let table: [(&str, Service, Vec<Pod>, &[&str]); 6] = [
            ("nobody", service(), vec![], &[]),
            ("one up, one down", service(), vec![down.clone(), up.clone()], &["10.0.0.1/10.0.0.2@8080,9090"]),
            (
                "not ready is published",
                publishing,
                vec![down.clone(), leaving.clone()],
                &["10.0.0.2,10.0.0.9/@8080,9090"],
            ),
            ("leaving or unbound", service(), vec![leaving, unbound], &[]),
            (
                "other numbers, other subset",
                service(),
                vec![up.clone(), odd],
                &["10.0.0.7/@8080,7070", "10.0.0.1/@8080,9090"],
            ),
            ("headless without ports", headless, vec![up], &["10.0.0.1/@"]),
        ];
        for (what, service, pods, expected) in table {
            let first = planned(&service, &pods, None).unwrap();
            assert_eq!(shape(&first), expected, "{what}");
            assert_eq!(planned(&service, &pods, Some(&first)), None, "{what}: again");
        }
    }

    #[test]
    fn labels_and_annotation_are_as_upstream() {
        let made = planned(&service(), &[], None).unwrap();
        assert_eq!(made.metadata.labels.unwrap(), [(MANAGED_BY.to_owned(), "endpoint-controller".to_owned())].into());
        assert_eq!(made.metadata.annotations.unwrap()[TRIGGER_TIME], "2026-01-01T00:00:00Z");
        assert_eq!(made.subsets, None);
    }

    #[test]
    fn too_many_addresses_are_cut_and_the_ready_ones_kept() {
        let mut pods: Vec<_> =
            (0..1000).map(|i| ready(backend(&format!("p{i}"), &format!("10.1.{}.{}", i / 250, i % 250)), 1)).collect();
        pods.insert(0, backend("down", "10.0.0.1"));
        let made = planned(&service(), &pods, None).unwrap();
        assert_eq!(made.subsets.as_ref().unwrap()[0].not_ready_addresses, None);
        assert_eq!(made.metadata.annotations.as_ref().unwrap()[OVER_CAPACITY], "truncated");
        assert_eq!(planned(&service(), &pods, Some(&made)), None);
    }
}
