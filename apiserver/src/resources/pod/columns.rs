//! What `kubectl get pods` shows: above all the one word under STATUS, which stands in no single field.

use api::pods::is_sidecar;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod as Object, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::is_ready;
use crate::resources::Columns;
use crate::resources::printing::{self, AGE, NAME, or_none};

/// Columns and cells of pods.
pub fn columns() -> Columns<Object> {
    let columns = vec![
        NAME,
        printing::text("Ready", "The aggregate readiness state of this pod for accepting traffic."),
        printing::text("Status", "The aggregate status of the containers in this pod."),
        printing::text(
            "Restarts",
            "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
        ),
        AGE,
        printing::wide(
            "IP",
            "podIP address allocated to the pod. Routable at least within the cluster. Empty if not yet allocated.",
        ),
        printing::wide(
            "Node",
            "NodeName indicates in which node this pod is scheduled. If empty, this pod is a candidate for scheduling by the scheduler defined in schedulerName. Once this field is set, the kubelet for this node becomes responsible for the lifecycle of this pod. This field should not be used to express a desire for the pod to be scheduled on a specific node. https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#nodename",
        ),
        printing::wide(
            "Nominated Node",
            "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be scheduled right away as preemption victims receive their graceful termination periods. This field does not guarantee that the pod will be scheduled on this node. Scheduler may decide to place the pod elsewhere if other nodes become available sooner. Scheduler may also decide to give the resources on this node to a higher priority pod that is created after preemption. As a result, this field may be different than PodSpec.nodeName when the pod is scheduled.",
        ),
        printing::wide(
            "Readiness Gates",
            "If specified, all readiness gates will be evaluated for pod readiness. A pod is ready when all its containers are ready AND all conditions specified in the readiness gates have status equal to \"True\" More info: https://git.k8s.io/enhancements/keps/sig-network/580-pod-readiness-gates",
        ),
    ];
    Columns { columns, cells }
}

fn cells(pod: &Object, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let status = pod.status.as_ref();
    let address = status.and_then(|s| s.pod_ips.as_ref()).and_then(|ips| ips.first()).map(|ip| ip.ip.as_str());
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let nominated = status.and_then(|status| status.nominated_node_name.as_deref());
    let texts = [format!("{}/{}", summary.ready, summary.containers), summary.reason.clone(), summary.restarts(now)];
    let wide = [
        or_none(address.unwrap_or_default()),
        or_none(node.unwrap_or_default()),
        or_none(nominated.unwrap_or_default()),
        gates(pod),
    ];
    let mut cells = vec![printing::name(&pod.metadata)];
    cells.extend(texts.map(Value::from));
    cells.push(printing::age(&pod.metadata, now));
    cells.extend(wide.map(Value::from));
    cells
}

fn gates(pod: &Object) -> String {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_true = |kind: &str| conditions.iter().find(|c| c.type_ == kind).is_some_and(|c| c.status == "True");
    match gates.len() {
        0 => "<none>".to_owned(),
        all => format!("{}/{all}", gates.iter().filter(|gate| is_true(&gate.condition_type)).count()),
    }
}

/// Restarts with the time of the last one.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i32,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &ContainerStatus) {
        self.count += status.restart_count;
        let terminated = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let finished = terminated.and_then(|terminated| terminated.finished_at.as_ref()).map(|Time(at)| *at);
        self.last = self.last.max(finished);
    }
}

struct Summary {
    ready: usize,
    containers: usize,
    reason: String,
    restarts: Restarts,
}

impl Summary {
    fn of(pod: &Object) -> Self {
        let empty = PodStatus::default();
        let status = pod.status.as_ref().unwrap_or(&empty);
        let phase = status.phase.clone().unwrap_or_default();
        let stated = status.reason.clone().filter(|reason| !reason.is_empty());
        let containers = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
        let mut summary = Self {
            ready: 0,
            containers,
            reason: stated.clone().unwrap_or_else(|| phase.clone()),
            restarts: Restarts::default(),
        };
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let gated = |kind: &str, reason: Option<&str>| kind == "PodScheduled" && reason == Some("SchedulingGated");
        if conditions.iter().any(|c| gated(&c.type_, c.reason.as_deref())) {
            summary.reason = "SchedulingGated".to_owned();
        }
        let (initializing, of_sidecars) = summary.init_containers(pod, status);
        let initialized = conditions.iter().any(|c| c.type_ == "Initialized" && c.status == "True");
        if !initializing || initialized {
            summary.restarts = of_sidecars;
            summary.main_containers(pod, status);
        }
        if pod.metadata.deletion_timestamp.is_some() {
            if stated.as_deref() == Some("NodeLost") {
                summary.reason = "Unknown".to_owned();
            } else if !matches!(phase.as_str(), "Succeeded" | "Failed") {
                summary.reason = "Terminating".to_owned();
            }
        }
        summary
    }

    /// Whether an init container holds the pod up, and the restarts of the sidecars.
    fn init_containers(&mut self, pod: &Object, status: &PodStatus) -> (bool, Restarts) {
        let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
        self.containers += init.iter().filter(|container| is_sidecar(container)).count();
        let sidecar = |name: &str| init.iter().any(|container| container.name == name && is_sidecar(container));
        let mut of_sidecars = Restarts::default();
        for (i, found) in status.init_container_statuses.iter().flatten().enumerate() {
            self.restarts.add(found);
            if sidecar(&found.name) {
                of_sidecars.add(found);
            }
            let state = found.state.clone().unwrap_or_default();
            if state.terminated.as_ref().is_some_and(|terminated| terminated.exit_code == 0) {
                continue;
            }
            if sidecar(&found.name) && found.started == Some(true) {
                self.ready += usize::from(found.ready);
                continue;
            }
            self.reason = match waiting_reason(&state).filter(|reason| *reason != "PodInitializing") {
                _ if state.terminated.is_some() => {
                    format!("Init:{}", state.terminated.as_ref().map(ended).unwrap_or_default())
                }
                Some(reason) => format!("Init:{reason}"),
                None => format!("Init:{i}/{}", init.len()),
            };
            return (true, of_sidecars);
        }
        (false, of_sidecars)
    }

    fn main_containers(&mut self, pod: &Object, status: &PodStatus) {
        let mut running = false;
        for found in status.container_statuses.iter().flatten().rev() {
            self.restarts.add(found);
            let state = found.state.clone().unwrap_or_default();
            if let Some(reason) = waiting_reason(&state) {
                self.reason = reason.to_owned();
            } else if let Some(terminated) = &state.terminated {
                self.reason = ended(terminated);
            } else if found.ready && state.running.is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            self.reason = if is_ready(pod) { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn restarts(&self, now: Timestamp) -> String {
        match self.restarts {
            Restarts { count, last: Some(last) } if count != 0 => {
                format!("{count} ({} ago)", printing::since(Some(last), now))
            }
            Restarts { count, .. } => count.to_string(),
        }
    }
}

fn waiting_reason(state: &ContainerState) -> Option<&str> {
    state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref()).filter(|reason| !reason.is_empty())
}

fn ended(terminated: &ContainerStateTerminated) -> String {
    match (terminated.reason.as_deref(), terminated.signal) {
        (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", terminated.exit_code),
    }
}
