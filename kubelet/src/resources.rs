//! Requests and limits as the kernel understands them.
//!
//! Entry: [`linux_resources`] for a container, [`pod_resources`] and [`cgroup_parent`] for a pod. Invariant: pure;
//! the arithmetic is upstream's, so that a container weighs here what it weighs elsewhere.

use api::Quantity;
use api::pods::{QosClass, Resources};
use cri::v1::LinuxContainerResources;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

const PERIOD_MICROSECONDS: i64 = 100_000;
const SMALLEST_QUOTA: i64 = 1_000;
const SMALLEST_SHARES: i64 = 2;
const LARGEST_SHARES: i64 = 262_144;

/// The quality of service of a pod: what the API says, or what its spec earns.
pub fn qos_class(pod: &Pod) -> QosClass {
    match pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        Some("Guaranteed") => QosClass::Guaranteed,
        Some("BestEffort") => QosClass::BestEffort,
        Some("Burstable") => QosClass::Burstable,
        Some(_) | None => api::pods::qos_class(pod.spec.as_ref().unwrap_or(&PodSpec::default())),
    }
}

/// What a container may use.
pub fn linux_resources(pod: &Pod, container: &Container, node_memory: i64) -> LinuxContainerResources {
    let resources = container.resources.clone().unwrap_or_default();
    let requests = Resources::from_wire(resources.requests.as_ref());
    let limits = Resources::from_wire(resources.limits.as_ref());
    let mut linux = numbers(&requests, &limits);
    linux.oom_score_adj = oom_score(pod, requests.get("memory").value(), node_memory);
    linux
}

/// What all containers of a pod may use together. The memory limit holds only if every container has one.
pub fn pod_resources(pod: &Pod) -> LinuxContainerResources {
    let requests = api::pods::requests(pod);
    let mut limits = api::pods::limits(pod);
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let unlimited = |name: &str| {
        containers.iter().any(|container| {
            let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
            limits.is_none_or(|limits| !limits.contains_key(name))
        })
    };
    for name in ["cpu", "memory"] {
        if unlimited(name) {
            limits.0.remove(name);
        }
    }
    numbers(&requests, &limits)
}

fn numbers(requests: &Resources, limits: &Resources) -> LinuxContainerResources {
    let milli = |amount: Quantity| amount.milli_value();
    let (cpu_request, cpu_limit) = (milli(requests.get("cpu")), milli(limits.get("cpu")));
    let weight = if requests.0.contains_key("cpu") { cpu_request } else { cpu_limit };
    let mut linux = LinuxContainerResources {
        cpu_shares: (weight * 1024 / 1000).clamp(SMALLEST_SHARES, LARGEST_SHARES),
        memory_limit_in_bytes: limits.get("memory").value(),
        ..LinuxContainerResources::default()
    };
    if cpu_limit > 0 {
        linux.cpu_period = PERIOD_MICROSECONDS;
        linux.cpu_quota = (cpu_limit * PERIOD_MICROSECONDS / 1000).max(SMALLEST_QUOTA);
    }
    linux
}

/// Who is killed first when memory runs out: the less of the node's memory a container asked for, the sooner.
fn oom_score(pod: &Pod, memory_request: i64, node_memory: i64) -> i64 {
    const CRITICAL_PRIORITY: i32 = 2_000_000_000;
    if pod.spec.as_ref().and_then(|spec| spec.priority).is_some_and(|priority| priority >= CRITICAL_PRIORITY) {
        return -997;
    }
    match qos_class(pod) {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable if node_memory <= 0 => 999,
        QosClass::Burstable => {
            let share = i128::from(memory_request) * 1000 / i128::from(node_memory);
            i64::try_from(1000 - share).unwrap_or(3).clamp(3, 999)
        }
    }
}

/// The cgroup that holds a pod's containers, by quality of service.
pub fn cgroup_parent(root: &str, pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let root = root.trim_end_matches('/');
    match qos_class(pod) {
        QosClass::Guaranteed => format!("{root}/kubepods/pod{uid}"),
        QosClass::Burstable => format!("{root}/kubepods/burstable/pod{uid}"),
        QosClass::BestEffort => format!("{root}/kubepods/besteffort/pod{uid}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_of_a_container() {
        let gib = 1 << 30;
        let table = [
            (json!({}), (2, 0, 0, 1000), "/kubepods/besteffort/podu"),
            (json!({"requests": {"cpu": "250m", "memory": "1Gi"}}), (256, 0, 0, 900), "/kubepods/burstable/podu"),
            (
                json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}),
                (1024, 100_000, gib, -997),
                "/kubepods/podu",
            ),
            (json!({"limits": {"cpu": "5m"}}), (5, 1000, 0, 999), "/kubepods/burstable/podu"),
        ];
        for (resources, expected, parent) in table {
            let container = json!({"name": "c", "image": "i", "resources": resources});
            let value = json!({"metadata": {"uid": "u"}, "spec": {"containers": [container]}});
            let pod: Pod = serde_json::from_value(value).expect("a pod");
            let container = &pod.spec.as_ref().expect("a spec").containers[0];
            let linux = linux_resources(&pod, container, 10 * gib);
            let got = (linux.cpu_shares, linux.cpu_quota, linux.memory_limit_in_bytes, linux.oom_score_adj);
            assert_eq!(got, expected, "{resources}");
            assert_eq!(cgroup_parent("/", &pod), parent);
        }
    }
}
