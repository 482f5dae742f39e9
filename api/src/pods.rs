//! What several components must agree on about pods: whether one is ready, over or active, what it asks for, and what
//! it tolerates.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, Pod, PodCondition, PodSpec, PodStatus, ResourceRequirements, Taint, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

use crate::conditions;
use crate::quantity::Quantity;

/// Amounts by the name of the resource: `cpu`, `memory`, `ephemeral-storage`, `example.com/gpu`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources(pub BTreeMap<String, Quantity>);

impl Resources {
    /// From a map of the API; text that is no quantity counts as nothing (validation does not let it in).
    pub fn from_wire(amounts: Option<&BTreeMap<String, Wire>>) -> Self {
        let parse = |(name, wire): (&String, &Wire)| Some((name.clone(), Quantity::try_from(wire).ok()?));
        Self(amounts.into_iter().flatten().filter_map(parse).collect())
    }

    /// The amount of one resource; nothing if it is not named.
    pub fn get(&self, name: &str) -> Quantity {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Adds the other's amounts.
    pub fn add(&mut self, other: &Resources) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() += *amount;
        }
    }

    /// Subtracts the other's amounts.
    pub fn sub(&mut self, other: &Resources) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() -= *amount;
        }
    }

    /// Takes the larger amount of each resource.
    pub fn max(&mut self, other: &Resources) {
        for (name, amount) in &other.0 {
            let mine = self.0.entry(name.clone()).or_default();
            if *amount > *mine {
                *mine = *amount;
            }
        }
    }

    /// As the API writes them.
    pub fn to_wire(&self) -> BTreeMap<String, Wire> {
        self.0.iter().map(|(name, amount)| (name.clone(), Wire::from(*amount))).collect()
    }
}

/// The quality of service that a pod's requests and limits earn it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QosClass {
    /// No requests, no limits.
    BestEffort,
    /// Anything between.
    Burstable,
    /// Every container has cpu and memory limits equal to its requests.
    Guaranteed,
}

impl QosClass {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BestEffort => "BestEffort",
            Self::Burstable => "Burstable",
            Self::Guaranteed => "Guaranteed",
        }
    }
}

/// A port of the node that a pod occupies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// The address; `0.0.0.0` means all.
    pub ip: String,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// The port.
    pub port: i32,
}

impl HostPort {
    /// Whether two pods cannot have these ports on one node.
    pub fn conflicts_with(&self, other: &HostPort) -> bool {
        let all = |ip: &str| ip == "0.0.0.0" || ip == "::";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || all(&self.ip) || all(&other.ip))
    }
}

fn status(pod: &Pod) -> Option<&PodStatus> {
    pod.status.as_ref()
}

/// `namespace/name` of a pod, for logs and messages.
pub fn full_name(pod: &Pod) -> String {
    crate::names::ObjectKey::of(&pod.metadata).to_string()
}

/// The phase; a pod without one is Pending.
pub fn phase(pod: &Pod) -> &str {
    status(pod).and_then(|s| s.phase.as_deref()).filter(|p| !p.is_empty()).unwrap_or("Pending")
}

/// Whether all its containers are over for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether it is being deleted.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether a controller counts it: neither over nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_terminating(pod)
}

/// The condition of this type.
pub fn condition<'a>(pod: &'a Pod, condition_type: &str) -> Option<&'a PodCondition> {
    conditions::get(status(pod)?.conditions.as_deref()?, condition_type)
}

/// Whether the Ready condition is True.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Whether it has been ready for at least so many seconds.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: k8s_openapi::jiff::Timestamp) -> bool {
    let Some(ready) = condition(pod, "Ready").filter(|c| c.status == "True") else { return false };
    min_ready_seconds == 0
        || ready
            .last_transition_time
            .as_ref()
            .is_some_and(|since| since.0.as_second() + i64::from(min_ready_seconds) <= now.as_second())
}

/// The node that the pod is bound to.
pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())
}

/// Whether an init container is a sidecar, which keeps running.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn named(
    container: &Container,
    pick: fn(&ResourceRequirements) -> Option<&BTreeMap<String, Wire>>,
) -> Option<&BTreeMap<String, Wire>> {
    container.resources.as_ref().and_then(pick)
}

/// The larger of what the containers (with sidecars) ask for together and what any init container asks for while the
/// sidecars before it run; then pod-level requests, then the overhead.
fn total(spec: &PodSpec, pick: fn(&ResourceRequirements) -> Option<&BTreeMap<String, Wire>>) -> Resources {
    let mut sum = Resources::default();
    for container in &spec.containers {
        sum.add(&Resources::from_wire(named(container, pick)));
    }
    let (mut sidecars, mut peak) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let own = Resources::from_wire(named(container, pick));
        if is_sidecar(container) {
            sum.add(&own);
            sidecars.add(&own);
            peak.max(&sidecars);
        } else {
            let mut during = own;
            during.add(&sidecars);
            peak.max(&during);
        }
    }
    sum.max(&peak);
    let pod_level = Resources::from_wire(spec.resources.as_ref().and_then(pick));
    for (name, amount) in pod_level.0 {
        if name == "cpu" || name == "memory" || name.starts_with("hugepages-") {
            sum.0.insert(name, amount);
        }
    }
    sum
}

/// What the containers ask for together, or the pod itself where it says so; without the overhead.
pub fn container_requests(spec: &PodSpec) -> Resources {
    total(spec, |r| r.requests.as_ref())
}

/// What the containers are limited to together, by the same rule.
pub fn container_limits(spec: &PodSpec) -> Resources {
    total(spec, |r| r.limits.as_ref())
}

/// What a pod asks for, as the scheduler counts it.
pub fn requests(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let mut sum = container_requests(spec);
    sum.add(&Resources::from_wire(spec.overhead.as_ref()));
    sum
}

/// What a pod is limited to, by the same rule.
pub fn limits(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let mut sum = container_limits(spec);
    for (name, amount) in Resources::from_wire(spec.overhead.as_ref()).0 {
        if let Some(limit) = sum.0.get_mut(&name) {
            *limit += amount;
        }
    }
    sum
}

/// Upstream's rule: Guaranteed if every container limits cpu and memory and all requests equal the limits, BestEffort
/// if nothing is asked for, else Burstable.
pub fn qos_class(spec: &PodSpec) -> QosClass {
    let compute = |amounts: Option<&BTreeMap<String, Wire>>| {
        let mut amounts = Resources::from_wire(amounts);
        amounts.0.retain(|name, amount| (name == "cpu" || name == "memory") && *amount > Quantity::ZERO);
        amounts
    };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let sets: Vec<Option<&ResourceRequirements>> = match &spec.resources {
        Some(pod_level) if pod_level.requests.is_some() || pod_level.limits.is_some() => vec![Some(pod_level)],
        _ => containers.map(|c| c.resources.as_ref()).collect(),
    };
    let (mut requests, mut limits, mut all_limited) = (Resources::default(), Resources::default(), true);
    for set in sets {
        requests.add(&compute(set.and_then(|r| r.requests.as_ref())));
        let own = compute(set.and_then(|r| r.limits.as_ref()));
        all_limited &= own.0.len() == 2;
        limits.add(&own);
    }
    if requests.0.is_empty() && limits.0.is_empty() {
        return QosClass::BestEffort;
    }
    if all_limited && requests == limits { QosClass::Guaranteed } else { QosClass::Burstable }
}

/// The ports of the node that the pod's containers occupy (with hostNetwork the API sets hostPort for each).
pub fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let mut occupied: Vec<_> = ports
        .filter_map(|port| {
            let number = port.host_port.filter(|p| *p > 0)?;
            let ip = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
            let protocol = port.protocol.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "TCP".to_owned());
            Some(HostPort { ip, protocol, port: number })
        })
        .collect();
    occupied.sort();
    occupied
}

/// The tolerations of a pod.
pub fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default()
}

/// Whether one toleration covers the taint. An empty key tolerates all keys, an empty effect all effects.
pub fn toleration_covers(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match text(&toleration.operator).as_str() {
        "Exists" => true,
        "" | "Equal" => text(&toleration.value) == text(&taint.value),
        _ => false,
    }
}

/// Whether any of the tolerations covers the taint.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| toleration_covers(t, taint))
}

/// The first taint with one of these effects that no toleration covers.
pub fn untolerated<'a>(tolerations: &[Toleration], taints: &'a [Taint], effects: &[&str]) -> Option<&'a Taint> {
    taints.iter().find(|taint| effects.contains(&taint.effect.as_str()) && !tolerates(tolerations, taint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod")
    }

    fn container(cpu: &str, policy: Option<&str>) -> serde_json::Value {
        json!({"name": "c", "restartPolicy": policy, "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn requests_follow_the_schedulers_rule() {
        let table = [
            (json!({"containers": [container("100m", None), container("200m", None)]}), "300m"),
            (json!({"containers": [container("100m", None)], "initContainers": [container("1", None)]}), "1"),
            (
                json!({"containers": [container("100m", None)],
                       "initContainers": [container("500m", Some("Always")), container("1", None)]}),
                "1500m",
            ),
            (
                json!({"containers": [container("2", None)], "initContainers": [container("500m", Some("Always"))]}),
                "2500m",
            ),
            (json!({"containers": [container("1", None)], "overhead": {"cpu": "50m"}}), "1050m"),
            (json!({"containers": [container("1", None)], "resources": {"requests": {"cpu": "3"}}}), "3"),
        ];
        for (spec, cpu) in table {
            assert_eq!(requests(&pod(spec.clone())).get("cpu").to_string(), cpu, "{spec}");
        }
    }

    #[test]
    fn qos_classes() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        let with = |resources: serde_json::Value| json!({"containers": [{"name": "c", "resources": resources}]});
        let table = [
            (with(json!({})), QosClass::BestEffort),
            (with(json!({"requests": {"cpu": "1"}})), QosClass::Burstable),
            (with(json!({"requests": both, "limits": both})), QosClass::Guaranteed),
            (with(json!({"requests": both, "limits": {"cpu": "2", "memory": "1Gi"}})), QosClass::Burstable),
            (with(json!({"requests": {"example.com/gpu": "1"}})), QosClass::BestEffort),
        ];
        for (spec, class) in table {
            let pod = pod(spec);
            assert_eq!(qos_class(pod.spec.as_ref().expect("spec")), class);
        }
    }

    #[test]
    fn tolerations_cover_taints() {
        let taint = Taint { key: "k".into(), value: Some("v".into()), effect: "NoSchedule".into(), time_added: None };
        let table = [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "operator": "Equal", "value": "w"}), false),
            (json!({"key": "k", "value": "v", "effect": "NoExecute"}), false),
            (json!({"key": "x", "operator": "Exists"}), false),
        ];
        for (toleration, covers) in table {
            let parsed: Toleration = serde_json::from_value(toleration.clone()).expect("a toleration");
            assert_eq!(tolerates(&[parsed], &taint), covers, "{toleration}");
        }
    }

    #[test]
    fn host_ports_conflict_on_any_address() {
        let pod = pod(json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80},
            {"containerPort": 81, "hostPort": 81, "hostIP": "10.0.0.1"}, {"containerPort": 82}]}]}));
        let ports = host_ports(&pod);
        assert_eq!(ports.len(), 2);
        let other = HostPort { ip: "10.0.0.2".into(), protocol: "TCP".into(), port: 80 };
        assert!(ports[0].conflicts_with(&other));
        assert!(!ports[1].conflicts_with(&HostPort { port: 81, ..other }));
    }
}
