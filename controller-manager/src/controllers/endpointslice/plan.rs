//! The EndpointSlices that a service should have, with as few writes as possible.
//!
//! Entry point: [`plan`]. Pure; invariants: no slice holds more than [`MOST_PER_SLICE`] endpoints, and planning again
//! with what was written plans nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::well_known::labels::{ENDPOINTSLICE_MANAGED_BY as MANAGED_BY, SERVICE_NAME, ZONE};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::backends::{self, BackendPort, HEADLESS, TRIGGER_TIME};
use crate::pods;
pub use crate::slices::Plan;

/// The value of the label that marks our slices among those of others.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// `--max-endpoints-per-slice` of Kubernetes.
pub const MOST_PER_SLICE: usize = 100;

/// What is known when planning.
pub struct Observed<'a> {
    /// The service, which has a selector.
    pub service: &'a Service,
    /// The pods that the selector selects.
    pub pods: &'a [Arc<Pod>],
    /// The nodes by name, for the zones.
    pub nodes: &'a BTreeMap<String, Arc<Node>>,
    /// Our slices of this service.
    pub slices: &'a [Arc<EndpointSlice>],
    /// When the change behind this plan happened.
    pub trigger: Option<Timestamp>,
}

/// Decides what to write for one service.
pub fn plan(observed: &Observed) -> Plan {
    let families = backends::families_of(observed.service);
    let mut plan = Plan::default();
    let (known, foreign): (Vec<_>, Vec<_>) =
        observed.slices.iter().cloned().partition(|slice| families.contains(&slice.address_type));
    plan.delete = foreign;
    for family in &families {
        let slices: Vec<_> = known.iter().filter(|slice| &slice.address_type == family).cloned().collect();
        plan_family(observed, family, &slices, &mut plan);
    }
    plan
}

type Group = (Vec<EndpointPort>, BTreeMap<String, Endpoint>);

fn plan_family(observed: &Observed, family: &str, slices: &[Arc<EndpointSlice>], plan: &mut Plan) {
    let groups = groups(observed, family);
    let mut unused: Vec<Arc<EndpointSlice>> = slices.to_vec();
    let mut create = Vec::new();
    for (ports, endpoints) in groups {
        let (matching, others): (Vec<_>, Vec<_>) =
            unused.into_iter().partition(|slice| slice.ports.as_deref().unwrap_or_default() == ports);
        unused = others;
        unused.extend(fill(observed, family, &ports, endpoints, matching, &mut create, &mut plan.update));
    }
    // A slice that would go and one that would come: one write instead of two.
    while !create.is_empty() && !unused.is_empty() {
        let (mut new, old) = (create.remove(0), unused.remove(0));
        let (name, version) = (old.metadata.name.clone(), old.metadata.resource_version.clone());
        let uid = old.metadata.uid.clone();
        new.metadata = ObjectMeta { name, uid, resource_version: version, ..new.metadata };
        if !same(&new, &old) {
            plan.update.push(new);
        }
    }
    plan.create.append(&mut create);
    plan.delete.append(&mut unused);
}

/// The endpoints by the ports they serve; one group without endpoints if there are none at all.
fn groups(observed: &Observed, family: &str) -> Vec<Group> {
    let mut groups: BTreeMap<Vec<BackendPort>, BTreeMap<String, Endpoint>> = BTreeMap::new();
    for pod in observed.pods.iter().filter(|pod| backends::may_serve(pod, true)) {
        if let Some(endpoint) = endpoint(observed, family, pod) {
            let key = pod.metadata.uid.clone().unwrap_or_default();
            groups.entry(backends::ports_on(observed.service, pod)).or_default().insert(key, endpoint);
        }
    }
    if groups.is_empty() {
        return vec![(Vec::new(), BTreeMap::new())];
    }
    groups.into_iter().map(|(ports, endpoints)| (ports.into_iter().map(slice_port).collect(), endpoints)).collect()
}

/// Puts a group's endpoints into the slices that have its ports; answers the slices that became needless.
fn fill(
    observed: &Observed,
    family: &str,
    ports: &[EndpointPort],
    mut wanted: BTreeMap<String, Endpoint>,
    slices: Vec<Arc<EndpointSlice>>,
    create: &mut Vec<EndpointSlice>,
    update: &mut Vec<EndpointSlice>,
) -> Vec<Arc<EndpointSlice>> {
    let placeholder = wanted.is_empty();
    let mut kept: Vec<(Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    for slice in slices {
        let still = slice.endpoints.iter().flatten().filter_map(|endpoint| wanted.remove(&key_of(endpoint))).collect();
        kept.push((slice, still));
    }
    // Slices that are written anyway take newcomers first.
    kept.sort_by_key(|(slice, still)| slice.endpoints.as_deref().unwrap_or_default() == still.as_slice());
    let mut rest = wanted.into_values();
    for (_, endpoints) in &mut kept {
        let room = MOST_PER_SLICE.saturating_sub(endpoints.len());
        endpoints.extend(rest.by_ref().take(room));
    }
    let rest: Vec<_> = rest.collect();
    for chunk in rest.chunks(MOST_PER_SLICE) {
        create.push(slice(observed, family, ports, chunk.to_vec()));
    }
    let mut needless = Vec::new();
    for (index, (old, endpoints)) in kept.into_iter().enumerate() {
        if endpoints.is_empty() && !(placeholder && index == 0) {
            needless.push(old);
            continue;
        }
        let mut new = slice(observed, family, ports, endpoints);
        new.metadata.name = old.metadata.name.clone();
        new.metadata.uid = old.metadata.uid.clone();
        new.metadata.resource_version = old.metadata.resource_version.clone();
        if !same(&new, &old) {
            update.push(new);
        }
    }
    if placeholder
        && needless.is_empty()
        && create.is_empty()
        && !observed.slices.iter().any(|s| s.address_type == family && s.ports.as_deref().unwrap_or_default() == ports)
    {
        create.push(slice(observed, family, ports, Vec::new()));
    }
    needless
}

fn same(new: &EndpointSlice, old: &EndpointSlice) -> bool {
    new.endpoints.as_deref().unwrap_or_default() == old.endpoints.as_deref().unwrap_or_default()
        && new.ports.as_deref().unwrap_or_default() == old.ports.as_deref().unwrap_or_default()
        && new.metadata.labels == old.metadata.labels
        && new.metadata.owner_references == old.metadata.owner_references
}

fn key_of(endpoint: &Endpoint) -> String {
    endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()).unwrap_or_default()
}

fn slice(observed: &Observed, family: &str, ports: &[EndpointPort], endpoints: Vec<Endpoint>) -> EndpointSlice {
    let service = observed.service;
    let name = service.metadata.name.clone().unwrap_or_default();
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service, &name)),
            annotations: observed.trigger.map(|at| [(TRIGGER_TIME.to_owned(), at.to_string())].into()),
            owner_references: Some(vec![api::owners::owner_reference(service, true, true)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: (!endpoints.is_empty()).then_some(endpoints),
        ports: (!ports.is_empty()).then(|| ports.to_vec()),
    }
}

fn labels(service: &Service, name: &str) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if backends::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), name.to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

fn endpoint(observed: &Observed, family: &str, pod: &Pod) -> Option<Endpoint> {
    let addresses: Vec<_> =
        backends::addresses_of(pod).filter(|ip| backends::is_of_family(ip, family)).map(str::to_owned).collect();
    if addresses.is_empty() {
        return None;
    }
    let serving = api::pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let ready = backends::publishes_not_ready(observed.service) || serving && !terminating;
    let node = pods::node_of(pod);
    let zone = observed.nodes.get(node).and_then(|node| node.metadata.labels.as_ref()?.get(ZONE).cloned());
    Some(Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: backends::hostname_in(observed.service, pod),
        node_name: (!node.is_empty()).then(|| node.to_owned()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone,
        ..Endpoint::default()
    })
}

fn slice_port(port: BackendPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name),
        port: Some(port.port),
        protocol: Some(port.protocol),
        app_protocol: port.app_protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::fixtures::*;
    use crate::pods::fixtures::{ago, ready};

    /// Plans, carries it out on the slices, and checks that nothing is left to plan.
    fn settle(service: &Service, pods: &[Pod], slices: &mut Vec<Arc<EndpointSlice>>) -> Plan {
        let pods: Vec<_> = pods.iter().cloned().map(Arc::new).collect();
        let nodes = BTreeMap::new();
        let look = |slices: &[Arc<EndpointSlice>]| {
            plan(&Observed { service, pods: &pods, nodes: &nodes, slices, trigger: None })
        };
        let first = look(slices);
        let name = |slice: &EndpointSlice| slice.metadata.name.clone();
        let gone: Vec<_> = first.delete.iter().map(|slice| name(slice)).collect();
        slices.retain(|slice| !gone.contains(&name(slice)));
        for slice in slices.iter_mut() {
            if let Some(new) = first.update.iter().find(|new| name(new) == name(slice)) {
                *slice = Arc::new(new.clone());
            }
        }
        for (index, new) in first.create.iter().enumerate() {
            let mut new = new.clone();
            new.metadata.name = Some(format!("s-{index}-{}", slices.len()));
            slices.push(Arc::new(new));
        }
        assert!(look(slices).is_empty(), "planning again plans {:?}", look(slices));
        first
    }

    fn total(slices: &[Arc<EndpointSlice>]) -> usize {
        slices.iter().map(|slice| slice.endpoints.iter().flatten().count()).sum()
    }

    fn many(count: usize) -> Vec<Pod> {
        (0..count).map(|i| ready(backend(&format!("p{i:03}"), &format!("10.0.{}.{}", i / 250, i % 250)), 1)).collect()
    }

    #[test]
    fn a_service_without_pods_has_an_empty_slice() {
        let mut slices = Vec::new();
        let first = settle(&service(), &[], &mut slices);
        assert_eq!(
            (first.create.len(), first.create[0].endpoints.clone(), first.create[0].ports.clone()),
            (1, None, None)
        );
        assert_eq!(first.create[0].metadata.labels.as_ref().unwrap()[MANAGED_BY], MANAGER);
        let next = settle(&service(), &many(1), &mut slices);
        assert_eq!((next.create.len(), next.update.len(), next.delete.len()), (0, 1, 0), "the empty slice is used");
        let last = settle(&service(), &[], &mut slices);
        assert_eq!((last.create.len(), last.update.len(), last.delete.len()), (0, 1, 0), "and emptied again");
    }

    #[test]
    fn slices_hold_a_hundred_and_are_filled_up() {
        let mut slices = Vec::new();
        settle(&service(), &many(250), &mut slices);
        assert_eq!((slices.len(), total(&slices)), (3, 250));
        let more = settle(&service(), &many(290), &mut slices);
        assert_eq!((more.create.len(), more.update.len(), total(&slices)), (0, 1, 290));
        settle(&service(), &many(120), &mut slices);
        assert_eq!(total(&slices), 120);
        assert!(slices.iter().all(|slice| slice.endpoints.iter().flatten().count() <= MOST_PER_SLICE));
    }

    #[test]
    fn conditions_tell_readiness_and_leaving() {
        let leaving = |mut pod: Pod| {
            pod.metadata.deletion_timestamp = Some(ago(1));
            pod
        };
        let mut publishing = service();
        publishing.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
        let (up, down) = (ready(backend("p", "10.0.0.1"), 1), backend("p", "10.0.0.1"));
        let table = [
            (service(), up.clone(), (true, true, false)),
            (service(), down.clone(), (false, false, false)),
            (service(), leaving(up), (false, true, true)),
            (publishing, down, (true, false, false)),
        ];
        for (service, pod, (ready, serving, terminating)) in table {
            let made = settle(&service, &[pod], &mut Vec::new());
            let conditions = made.create[0].endpoints.as_ref().unwrap()[0].conditions.clone().unwrap();
            assert_eq!(
                (conditions.ready, conditions.serving, conditions.terminating),
                (Some(ready), Some(serving), Some(terminating))
            );
        }
    }

    #[test]
    fn pods_with_other_ports_have_another_slice() {
        let mut pods = many(2);
        pods[1].spec.as_mut().unwrap().containers[0].ports.as_mut().unwrap()[0].container_port = 7070;
        let mut slices = Vec::new();
        settle(&service(), &pods, &mut slices);
        assert_eq!(slices.len(), 2);
        settle(&service(), &many(2), &mut slices);
        assert_eq!((slices.len(), total(&slices)), (1, 2));
    }
}
