//! Which pods stand behind a service, and at which ports: what Endpoints and EndpointSlices have in common.
//!
//! Entry points: [`watch`] and [`selected`] to observe; [`may_serve`], [`ports_on`], [`Triggers::latest`] to decide. The latter are
//! pure; invariant: what they answer depends on the service and the pod alone, never on the order in which changes arrived.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::ObjectKey;
pub use api::well_known::annotations::ENDPOINTS_LAST_CHANGE as TRIGGER_TIME;
pub use api::well_known::labels::HEADLESS;
use client::{Change, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::stores::Stores;
use crate::{pods, replicas};

/// A port as a pod serves it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackendPort {
    /// The service's name for it.
    pub name: String,
    /// The number on the pod.
    pub port: i32,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// The application protocol, if the service names one.
    pub app_protocol: Option<String>,
}

/// Puts a service into the queue when it changes, or when a pod that it selects changes in a way it cares about.
pub fn watch(stores: &Stores, queue: &WorkQueue<ObjectKey>) {
    let keys = queue.clone();
    stores.services.on_change(move |change: Change<Service>| keys.add(ObjectKey::of(&change.object().metadata)));
    let (keys, services) = (queue.clone(), stores.services.clone());
    stores.pods.on_change(move |change: Change<Pod>| {
        let states = match &change {
            Change::Upsert { old: Some(old), new } if is_same_backend(old, new) => return,
            Change::Upsert { old, new } => [old.as_ref(), Some(new)],
            Change::Delete { old } => [Some(old), None],
        };
        for pod in states.into_iter().flatten() {
            for service in services.in_namespace(pod.metadata.namespace.as_deref().unwrap_or_default()) {
                if selector_of(&service).is_some_and(|selector| replicas::selects(selector, pod)) {
                    keys.add(ObjectKey::of(&service.metadata));
                }
            }
        }
    });
}

/// Whether nothing that a service shows of a pod has changed.
fn is_same_backend(old: &Pod, new: &Pod) -> bool {
    let addresses = |pod: &Pod| addresses_of(pod).map(str::to_owned).collect::<Vec<_>>();
    old.metadata.labels == new.metadata.labels
        && old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
        && old.spec == new.spec
        && pods::is_terminal(old) == pods::is_terminal(new)
        && pods::ready_since(old) == pods::ready_since(new)
        && addresses(old) == addresses(new)
}

/// The pods of the namespace that the selector selects.
pub fn selected(stores: &Stores, namespace: &str, selector: &BTreeMap<String, String>) -> Vec<Arc<Pod>> {
    let mut pods = stores.pods.in_namespace(namespace);
    pods.retain(|pod| replicas::selects(selector, pod));
    pods
}

/// The selector of a service whose endpoints are ours to write; `None` if a user or nobody writes them.
pub fn selector_of(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().filter(|selector| !selector.is_empty())
}

/// Whether a pod has an address to send to at all.
pub fn may_serve(pod: &Pod, even_if_leaving: bool) -> bool {
    !pods::is_terminal(pod)
        && addresses_of(pod).next().is_some()
        && (even_if_leaving || pod.metadata.deletion_timestamp.is_none())
}

/// All addresses of a pod.
pub fn addresses_of(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = pod.status.as_ref();
    let first = status.and_then(|status| status.pod_ip.as_deref());
    let all = status.into_iter().flat_map(|status| status.pod_ips.iter().flatten()).map(|address| address.ip.as_str());
    first.into_iter().chain(all.filter(move |address| Some(*address) != first)).filter(|address| !address.is_empty())
}

/// Whether an address is of the family `IPv4` or `IPv6`.
pub fn is_of_family(address: &str, family: &str) -> bool {
    match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => family == "IPv4",
        Ok(std::net::IpAddr::V6(_)) => family == "IPv6",
        Err(_) => false,
    }
}

/// The families a service asks for; IPv4 if it does not say.
pub fn families_of(service: &Service) -> Vec<String> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    if families.is_empty() { vec!["IPv4".to_owned()] } else { families }
}

/// Whether a service has no cluster IP.
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
}

/// Whether a service wants pods that are not ready, too.
pub fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.publish_not_ready_addresses == Some(true))
}

/// The host name of a pod within its service's domain.
pub fn hostname_in(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let here = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    spec.hostname.clone().filter(|hostname| here && !hostname.is_empty())
}

/// The ports of a service as this pod serves them; one that the pod does not name is left out.
pub fn ports_on(service: &Service, pod: &Pod) -> Vec<BackendPort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    ports
        .iter()
        .filter_map(|port| {
            Some(BackendPort {
                name: port.name.clone().unwrap_or_default(),
                port: target_on(port, pod)?,
                protocol: protocol_of(port).to_owned(),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn protocol_of(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn target_on(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let beside = |container: &&Container| api::pods::is_sidecar(container);
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(beside));
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .find(|open| open.name.as_ref() == Some(name) && open.protocol.as_deref().unwrap_or("TCP") == protocol_of(port))
        .map(|open| open.container_port)
}

/// Remembers, per service, which changes have been published already, to tell the time of the newest one.
#[derive(Debug, Default, Clone)]
pub struct Triggers {
    service: Option<Timestamp>,
    pods: BTreeMap<String, Timestamp>,
}

impl Triggers {
    /// The time of the earliest change since the last call, if there was one.
    pub fn latest(&mut self, service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let mut changed = created.filter(|created| self.service.is_none_or(|known| *created > known));
        let mut seen = BTreeMap::new();
        for pod in pods {
            let Some(at) = ready_changed(pod) else { continue };
            let name = pod.metadata.name.clone().unwrap_or_default();
            if self.pods.get(&name).is_none_or(|known| at > *known) {
                changed = Some(changed.map_or(at, |earliest| earliest.min(at)));
            }
            seen.insert(name, at);
        }
        (self.service, self.pods) = (created, seen);
        changed
    }
}

fn ready_changed(pod: &Pod) -> Option<Timestamp> {
    api::pods::condition(pod, "Ready")?.last_transition_time.as_ref().map(|time| time.0)
}

#[cfg(test)]
pub(crate) mod fixtures {
    //! A service and pods behind it.
    use super::*;
    use crate::pods::fixtures::{ago, pod};
    use k8s_openapi::api::core::v1::{ContainerPort, ServiceSpec};

    /// A service `s` with port `a` (80 to 8080) and `b` (81 to the port named `web`).
    pub fn service() -> Service {
        let port = |name: &str, port: i32, target: IntOrString| ServicePort {
            name: Some(name.into()),
            port,
            protocol: Some("TCP".into()),
            target_port: Some(target),
            ..Default::default()
        };
        let mut service = Service {
            spec: Some(ServiceSpec {
                cluster_ip: Some("10.96.0.7".into()),
                selector: Some([("app".to_owned(), "web".to_owned())].into()),
                ports: Some(vec![
                    port("a", 80, IntOrString::Int(8080)),
                    port("b", 81, IntOrString::String("web".into())),
                ]),
                ..Default::default()
            }),
            ..Default::default()
        };
        service.metadata.name = Some("s".into());
        service.metadata.namespace = Some("default".into());
        service.metadata.uid = Some("uid-s".into());
        service.metadata.creation_timestamp = Some(ago(60));
        service
    }

    /// A pod with an address that serves `web` on 9090.
    pub fn backend(name: &str, ip: &str) -> Pod {
        let mut pod = pod(name, "n1");
        pod.status.get_or_insert_default().pod_ip = Some(ip.into());
        pod.spec.get_or_insert_default().containers = vec![Container {
            name: "c".into(),
            ports: Some(vec![ContainerPort { name: Some("web".into()), container_port: 9090, ..Default::default() }]),
            ..Default::default()
        }];
        pod
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::*;
    use super::*;
    use crate::pods::fixtures::{ago, in_phase, ready};

    #[test]
    fn ports_are_resolved_on_the_pod() {
        let ports = ports_on(&service(), &backend("p", "10.0.0.1"));
        assert_eq!(
            ports.iter().map(|port| (port.name.as_str(), port.port)).collect::<Vec<_>>(),
            [("a", 8080), ("b", 9090)]
        );
        let mut nameless = backend("p", "10.0.0.1");
        nameless.spec.as_mut().unwrap().containers.clear();
        assert_eq!(ports_on(&service(), &nameless).len(), 1);
    }

    #[test]
    fn only_living_pods_with_an_address_serve() {
        let mut leaving = backend("p", "10.0.0.1");
        leaving.metadata.deletion_timestamp = Some(ago(1));
        assert!(may_serve(&backend("p", "10.0.0.1"), false));
        assert!(!may_serve(&backend("p", ""), true));
        assert!(!may_serve(&in_phase(backend("p", "10.0.0.1"), "Failed"), true));
        assert!(!may_serve(&leaving, false));
        assert!(may_serve(&leaving, true));
    }

    #[test]
    fn each_change_triggers_once() {
        let mut triggers = Triggers::default();
        let pods = [Arc::new(ready(backend("p", "10.0.0.1"), 5))];
        assert_eq!(triggers.latest(&service(), &[]), Some(ago(60).0));
        assert_eq!(triggers.latest(&service(), &pods), Some(ago(5).0));
        assert_eq!(triggers.latest(&service(), &pods), None);
    }
}
