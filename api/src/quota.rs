//! What objects count for in a ResourceQuota. Shared by admission, which charges before it stores, and by the controller, which
//! counts what is there.
//!
//! Entry points: [`Subject::usage`], [`Subject::matches`] and [`Subject::tracked`]. Pure; the time is an argument.
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

mod scopes;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, PersistentVolumeClaim, Pod, ResourceQuota, Service};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::names::qualified_name;
use crate::pods::{self, Resources};
use crate::quantity::Quantity;
use crate::well_known::annotations;

/// Kinds that have a short name of their own in quotas besides `count/…`.
const ALIASED: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];
/// What quotas count of pods, besides huge pages and extended resources.
const OF_PODS: [&str; 11] = [
    "count/pods",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "pods",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const OF_SERVICES: [&str; 4] = ["count/services", "services", "services.loadbalancers", "services.nodeports"];
const OF_CLAIMS: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
/// What every container must say if a quota counts it. No others: that was upstream's mistake, kept for compatibility.
const REQUIRED: [&str; 6] = ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
/// Between the name of a storage class and what is counted of its claims.
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

/// An object as quotas see it.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// A pod.
    Pod(&'a Pod),
    /// A service.
    Service(&'a Service),
    /// A claim.
    Claim(&'a PersistentVolumeClaim),
    /// Anything else counts one: group and plural.
    Other(&'a str, &'a str),
}

/// `count/pods`, `count/jobs.batch`.
pub fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

/// The storage class that a claim names, by annotation or field; none for an empty one.
pub fn storage_class(claim: &PersistentVolumeClaim) -> Option<&str> {
    let annotated = claim.metadata.annotations.as_ref().and_then(|all| all.get(annotations::STORAGE_CLASS));
    let named = annotated.or_else(|| claim.spec.as_ref()?.storage_class_name.as_ref());
    named.map(String::as_str).filter(|name| !name.is_empty())
}

impl Subject<'_> {
    /// Those of a quota's resources that this kind of object counts for.
    pub fn tracked<'b>(&self, resources: impl IntoIterator<Item = &'b String>) -> BTreeSet<String> {
        resources.into_iter().filter(|resource| self.counts_for(resource)).cloned().collect()
    }

    /// Whether objects of this kind may count for a resource.
    pub fn counts_for(&self, resource: &str) -> bool {
        match self {
            Self::Pod(_) => {
                let huge = resource.starts_with("hugepages-") || resource.starts_with("requests.hugepages-");
                let extended = resource.starts_with("requests.") && !is_native(resource);
                OF_PODS.contains(&resource) || huge || extended
            }
            Self::Service(_) => OF_SERVICES.contains(&resource),
            Self::Claim(_) => {
                let of_class = resource.split_once(OF_CLASS).is_some_and(|(_, what)| OF_CLAIMS.contains(&what));
                resource == "count/persistentvolumeclaims" || OF_CLAIMS.contains(&resource) || of_class
            }
            Self::Other(group, plural) => {
                let alias = group.is_empty() && ALIASED.contains(plural) && resource == *plural;
                alias || resource == count_name(group, plural)
            }
        }
    }

    /// Whether a quota counts this object: one of its resources is counted for, and all its scopes hold.
    pub fn matches(&self, quota: &ResourceQuota, hard: &BTreeSet<String>) -> bool {
        hard.iter().any(|resource| self.counts_for(resource)) && self.in_scopes(quota)
    }

    /// Whether all scopes of a quota hold for this object.
    pub fn in_scopes(&self, quota: &ResourceQuota) -> bool {
        scopes::of(quota).iter().all(|scope| scopes::holds(scope, self))
    }

    /// What the object counts for.
    pub fn usage(&self, now: Timestamp) -> Resources {
        match self {
            Self::Pod(pod) => pod_usage(pod, now),
            Self::Service(service) => service_usage(service),
            Self::Claim(claim) => claim_usage(claim),
            Self::Other(group, plural) => {
                let mut names = vec![count_name(group, plural)];
                if group.is_empty() && ALIASED.contains(plural) {
                    names.push((*plural).to_owned());
                }
                Resources(names.into_iter().map(|name| (name, Quantity::new(1))).collect())
            }
        }
    }

    /// What is missing if a quota counts `resources`: upstream's words, or nothing.
    pub fn missing(&self, resources: &BTreeSet<String>) -> Option<String> {
        let Self::Pod(pod) = self else { return None };
        let spec = pod.spec.as_ref()?;
        let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
            let said = container_usage(container);
            for required in REQUIRED.into_iter().filter(|name| resources.contains(*name)) {
                if !said.0.contains_key(required) {
                    missing.entry(required).or_default().insert(&container.name);
                }
            }
        }
        let part = |(resource, names): (&str, BTreeSet<&str>)| {
            format!("{resource} for: {}", names.into_iter().collect::<Vec<_>>().join(","))
        };
        let parts: Vec<String> = missing.into_iter().map(part).collect();
        (!parts.is_empty()).then(|| format!("must specify {}", parts.join("; ")))
    }
}

/// Unprefixed, or under kubernetes.io.
fn is_native(resource: &str) -> bool {
    !resource.contains('/') || resource.contains("kubernetes.io/")
}

fn is_extended(resource: &str) -> bool {
    !is_native(resource)
        && !resource.starts_with("requests.")
        && qualified_name(&format!("requests.{resource}")).is_empty()
}

/// A pod is charged until it is over, or until its grace period has passed though it is still there.
fn is_charged(pod: &Pod, now: Timestamp) -> bool {
    if pods::is_terminal(pod) {
        return false;
    }
    let ends = pod.metadata.deletion_timestamp.as_ref().zip(pod.metadata.deletion_grace_period_seconds);
    ends.is_none_or(|(deleted, grace)| now <= deleted.0 + SignedDuration::from_secs(grace))
}

fn pod_usage(pod: &Pod, now: Timestamp) -> Resources {
    let mut usage = Resources::default();
    if is_charged(pod, now) {
        usage = compute_usage(&pods::requests(pod), &pods::limits(pod));
    }
    usage.0.insert("count/pods".to_owned(), Quantity::new(1));
    usage
}

fn container_usage(container: &Container) -> Resources {
    let own = container.resources.as_ref();
    let requests = Resources::from_wire(own.and_then(|own| own.requests.as_ref()));
    compute_usage(&requests, &Resources::from_wire(own.and_then(|own| own.limits.as_ref())))
}

/// Requests and limits by the names that quotas give them.
fn compute_usage(requests: &Resources, limits: &Resources) -> Resources {
    let mut usage = Resources::default();
    let mut put = |name: String, amount: &Quantity| {
        usage.0.insert(name, *amount);
    };
    put("pods".to_owned(), &Quantity::new(1));
    for (name, amount) in &requests.0 {
        let plain = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
        if plain {
            put(name.clone(), amount);
        }
        if plain || is_extended(name) {
            put(format!("requests.{name}"), amount);
        }
    }
    for (name, amount) in &limits.0 {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            put(format!("limits.{name}"), amount);
        }
    }
    usage
}

fn service_usage(service: &Service) -> Resources {
    let spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.unwrap_or_default();
    let given = ports.iter().filter(|port| port.node_port.is_some_and(|number| number != 0)).count();
    let (node_ports, balancers) = match spec.type_.as_deref() {
        Some("NodePort") => (ports.len(), 0),
        Some("LoadBalancer") if spec.allocate_load_balancer_node_ports == Some(false) => (given, 1),
        Some("LoadBalancer") => (ports.len(), 1),
        Some(_) | None => (0, 0),
    };
    let whole = |count: usize| Quantity::new(i64::try_from(count).unwrap_or(i64::MAX));
    let counts = [(OF_SERVICES[0], 1), (OF_SERVICES[1], 1), (OF_SERVICES[2], balancers), (OF_SERVICES[3], node_ports)];
    Resources(counts.into_iter().map(|(name, count)| (name.to_owned(), whole(count))).collect())
}

fn claim_usage(claim: &PersistentVolumeClaim) -> Resources {
    let one = Quantity::new(1);
    let mut usage = BTreeMap::from([("persistentvolumeclaims".to_owned(), one)]);
    if let Some(size) = claim_size(claim) {
        usage.insert("requests.storage".to_owned(), size);
    }
    if let Some(class) = storage_class(claim) {
        let of_class: Vec<_> =
            usage.iter().map(|(name, amount)| (format!("{class}{OF_CLASS}{name}"), *amount)).collect();
        usage.extend(of_class);
    }
    usage.insert("count/persistentvolumeclaims".to_owned(), one);
    Resources(usage)
}

/// What is asked for, or what has been set aside if that is more; in whole bytes.
fn claim_size(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let whole = |amount: Quantity| if amount.is_integer() { amount } else { Quantity::new(amount.value()) };
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref();
    let asked = Resources::from_wire(requests).0.get("storage").copied().map(whole)?;
    let set_aside = claim.status.as_ref().and_then(|status| status.allocated_resources.as_ref());
    Some(asked.max(whole(Resources::from_wire(set_aside).get("storage"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn shown(usage: &Resources) -> Value {
        json!(usage.0.iter().map(|(name, amount)| (name.clone(), amount.to_string())).collect::<BTreeMap<_, _>>())
    }

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().expect("a time")
    }

    #[test]
    fn pods_count_until_they_are_over() {
        let containers = json!([{"name": "c", "resources": {"requests": {"cpu": "600m", "example.org/gpu": "2", "hugepages-2Mi": "4Mi"},
            "limits": {"memory": "1Gi", "example.org/gpu": "2"}}}]);
        let full = json!({"count/pods": "1", "pods": "1", "cpu": "600m", "requests.cpu": "600m", "limits.memory": "1Gi",
            "requests.example.org/gpu": "2", "hugepages-2Mi": "4Mi", "requests.hugepages-2Mi": "4Mi"});
        let deleted = |seconds: i64| json!({"name": "p", "deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": seconds});
        let table = [
            (json!({"name": "p"}), "Running", full.clone()),
            (json!({"name": "p"}), "Succeeded", json!({"count/pods": "1"})),
            (deleted(30), "Running", full),
            (deleted(10), "Running", json!({"count/pods": "1"})),
        ];
        for (meta, phase, expected) in table {
            let pod = json!({"metadata": meta, "spec": {"containers": containers}, "status": {"phase": phase}});
            let pod: Pod = serde_json::from_value(pod).expect("a pod");
            assert_eq!(shown(&Subject::Pod(&pod).usage(now())), expected, "{meta} {phase}");
        }
    }

    #[test]
    fn services_and_claims_count_by_what_they_take() {
        let service =
            |spec: Value| -> Service { serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap() };
        let ports = json!([{"port": 1}, {"port": 2, "nodePort": 30001}]);
        let table = [
            (json!({"ports": ports}), "0", "0"),
            (json!({"ports": ports, "type": "NodePort"}), "2", "0"),
            (json!({"ports": ports, "type": "LoadBalancer"}), "2", "1"),
            (json!({"ports": ports, "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false}), "1", "1"),
        ];
        for (spec, node_ports, balancers) in table {
            let usage = Subject::Service(&service(spec.clone())).usage(now());
            assert_eq!(
                shown(&usage),
                json!({"count/services": "1", "services": "1", "services.nodeports": node_ports, "services.loadbalancers": balancers}),
                "{spec}"
            );
        }
        let claim = json!({"metadata": {}, "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1.5"}}}});
        let claim: PersistentVolumeClaim = serde_json::from_value(claim).unwrap();
        let subject = Subject::Claim(&claim);
        assert_eq!(
            shown(&subject.usage(now())),
            json!({"count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1", "requests.storage": "2",
                "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1", "gold.storageclass.storage.k8s.io/requests.storage": "2"})
        );
        assert!(subject.counts_for("bronze.storageclass.storage.k8s.io/requests.storage"));
        assert!(!subject.counts_for("requests.cpu"));
    }

    #[test]
    fn other_kinds_count_one() {
        assert_eq!(shown(&Subject::Other("batch", "jobs").usage(now())), json!({"count/jobs.batch": "1"}));
        assert_eq!(shown(&Subject::Other("", "secrets").usage(now())), json!({"count/secrets": "1", "secrets": "1"}));
        assert!(!Subject::Other("", "endpoints").counts_for("endpoints"));
    }

    #[test]
    fn containers_say_what_is_counted() {
        let pod = json!({"metadata": {}, "spec": {"containers": [{"name": "b", "resources": {"limits": {"cpu": "1"}}}, {"name": "a"}],
            "initContainers": [{"name": "i", "resources": {"requests": {"memory": "1"}}}]}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let missing =
            |resources: &[&str]| Subject::Pod(&pod).missing(&resources.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(missing(&["limits.cpu"]).as_deref(), Some("must specify limits.cpu for: a,i"));
        assert_eq!(
            missing(&["requests.memory", "limits.cpu"]).as_deref(),
            Some("must specify limits.cpu for: a,i; requests.memory for: a,b")
        );
        assert_eq!(missing(&["pods", "requests.ephemeral-storage"]), None);
    }
}
