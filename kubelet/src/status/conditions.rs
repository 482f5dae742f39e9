//! The conditions of a pod that the kubelet owns.
//!
//! Entry: [`conditions`]. Invariant: a transition time changes with the condition's status only; conditions of other
//! writers are carried over.

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::containers::Statuses;
use super::{Input, whole_seconds};
use crate::members::{Member, Role};

const READY_TO_START: &str = "PodReadyToStartContainers";
const INITIALIZED: &str = "Initialized";
const READY: &str = "Ready";
const CONTAINERS_READY: &str = "ContainersReady";
const SCHEDULED: &str = "PodScheduled";
/// The conditions that a kubelet writes.
pub const OWNED: [&str; 5] = [READY_TO_START, INITIALIZED, READY, CONTAINERS_READY, SCHEDULED];

/// What one condition says.
struct Claim {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Claim {
    fn holds() -> Self {
        Self { holds: true, reason: None, message: None }
    }

    fn fails(reason: &'static str, message: String) -> Self {
        Self { holds: false, reason: Some(reason), message: Some(message).filter(|text| !text.is_empty()) }
    }
}

/// All conditions of the pod: the kubelet's own, then those of others.
pub(super) fn conditions(input: &Input, all: &[Member], lists: &Statuses, status: &PodStatus) -> Vec<PodCondition> {
    let before = input.pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let phase = status.phase.as_deref().unwrap_or_default();
    let containers_ready = containers_ready(all, lists, phase);
    let ready = ready(input.pod, before, &containers_ready, phase);
    let has_sandbox = input.view.ready_sandbox().is_some();
    let claims = [
        (READY_TO_START, Claim { holds: has_sandbox, reason: None, message: None }),
        (INITIALIZED, initialized(all, lists, phase)),
        (READY, ready),
        (CONTAINERS_READY, containers_ready),
        (SCHEDULED, Claim::holds()),
    ];
    let mut result: Vec<_> = claims.into_iter().map(|(name, claim)| settle(input, before, name, claim)).collect();
    result.extend(before.iter().filter(|condition| !OWNED.contains(&condition.type_.as_str())).cloned());
    result
}

fn settle(input: &Input, before: &[PodCondition], name: &str, claim: Claim) -> PodCondition {
    let word = if claim.holds { "True" } else { "False" };
    let known = before.iter().find(|condition| condition.type_ == name && condition.status == word);
    let since = known.and_then(|condition| condition.last_transition_time.clone());
    PodCondition {
        type_: name.to_owned(),
        status: word.to_owned(),
        reason: claim.reason.map(str::to_owned),
        message: claim.message,
        last_transition_time: since.or_else(|| Some(Time(whole_seconds(input.now)))),
        observed_generation: input.pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn initialized(all: &[Member], lists: &Statuses, phase: &str) -> Claim {
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for member in all.iter().filter(|member| matches!(member.role, Role::Init | Role::Sidecar)) {
        match lists.of(member.name()) {
            None => unknown.push(member.name()),
            Some(status) if member.role == Role::Sidecar && status.started == Some(true) => {}
            Some(status) if status.ready => {}
            Some(_) => incomplete.push(member.name()),
        }
    }
    let begun = all
        .iter()
        .filter(|member| member.role == Role::Regular)
        .any(|member| lists.of(member.name()).is_some_and(|status| status.container_id.is_some()));
    if phase == "Succeeded" {
        return Claim { holds: true, reason: Some("PodCompleted"), message: None };
    }
    if begun {
        return Claim::holds();
    }
    match verdict("incomplete", &unknown, &incomplete) {
        Some(message) => Claim::fails("ContainersNotInitialized", message),
        None => Claim::holds(),
    }
}

fn containers_ready(all: &[Member], lists: &Statuses, phase: &str) -> Claim {
    match phase {
        "Succeeded" => return Claim::fails("PodCompleted", String::new()),
        "Failed" => return Claim::fails("PodFailed", String::new()),
        _ => {}
    }
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for member in all.iter().filter(|member| matches!(member.role, Role::Sidecar | Role::Regular)) {
        match lists.of(member.name()) {
            None => unknown.push(member.name()),
            Some(status) if status.ready => {}
            Some(_) => unready.push(member.name()),
        }
    }
    match verdict("unready", &unknown, &unready) {
        Some(message) => Claim::fails("ContainersNotReady", message),
        None => Claim::holds(),
    }
}

fn verdict(word: &str, unknown: &[&str], other: &[&str]) -> Option<String> {
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!("containers with unknown status: [{}]", unknown.join(" ")));
    }
    if !other.is_empty() {
        parts.push(format!("containers with {word} status: [{}]", other.join(" ")));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn ready(pod: &Pod, before: &[PodCondition], containers: &Claim, phase: &str) -> Claim {
    if !containers.holds {
        let reason = match phase {
            "Succeeded" => "PodCompleted",
            "Failed" => "PodFailed",
            _ => "ContainersNotReady",
        };
        return Claim::fails(reason, containers.message.clone().unwrap_or_default());
    }
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let mut complaints = Vec::new();
    for gate in gates {
        let name = &gate.condition_type;
        match before.iter().find(|condition| &condition.type_ == name) {
            None => {
                complaints.push(format!("corresponding condition of pod readiness gate \"{name}\" does not exist."))
            }
            Some(condition) if condition.status != "True" => complaints
                .push(format!("the status of pod readiness gate \"{name}\" is not \"True\", but {}", condition.status)),
            Some(_) => {}
        }
    }
    if complaints.is_empty() { Claim::holds() } else { Claim::fails("ReadinessGatesNotReady", complaints.join(", ")) }
}
