//! The one word that says where a pod stands.
//!
//! Entry: [`phase`]. Invariant: the rule is upstream's; Succeeded and Failed are final.

use super::Input;
use super::containers::Statuses;
use crate::members::{Member, Role, restart_policy};

#[derive(Default)]
struct Counts {
    pending_init: usize,
    failed_init: usize,
    waiting: usize,
    running: usize,
    stopped: usize,
    succeeded: usize,
    unknown: usize,
}

/// The phase of a pod.
pub(super) fn phase(input: &Input, all: &[Member], lists: &Statuses) -> &'static str {
    if input.failed.is_some() {
        return "Failed";
    }
    match input.pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Failed") => return "Failed",
        Some("Succeeded") => return "Succeeded",
        Some(_) | None => {}
    }
    let counts = count(all, lists);
    let spec = input.pod.spec.as_ref();
    let policy = spec.and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
    if counts.failed_init > 0 && policy == "Never" {
        return "Failed";
    }
    if !input.ended && (counts.pending_init > 0 || counts.waiting > 0) {
        return "Pending";
    }
    if counts.running > 0 && counts.unknown == 0 {
        return "Running";
    }
    if counts.running == 0 && counts.stopped > 0 && (counts.unknown == 0 || input.ended) {
        return stopped_phase(input, all, &counts);
    }
    if input.ended && counts.unknown + counts.waiting + counts.pending_init + counts.failed_init > 0 {
        return "Failed";
    }
    "Pending"
}

fn stopped_phase(input: &Input, all: &[Member], counts: &Counts) -> &'static str {
    let all_well = counts.stopped == counts.succeeded && counts.unknown == 0 && counts.failed_init == 0;
    if input.ended {
        return if all_well { "Succeeded" } else { "Failed" };
    }
    let regular = || all.iter().filter(|member| member.role == Role::Regular);
    if regular().any(|member| restart_policy(input.pod, member) == "Always") {
        return "Running";
    }
    if all_well {
        return "Succeeded";
    }
    let none_again = regular().all(|member| restart_policy(input.pod, member) == "Never");
    let rules = regular().any(|member| member.container.restart_policy_rules.is_some());
    if none_again && !rules { "Failed" } else { "Running" }
}

fn count(all: &[Member], lists: &Statuses) -> Counts {
    let mut counts = Counts::default();
    for member in all {
        let status = lists.of(member.name());
        let state = status.and_then(|status| status.state.as_ref());
        let last_end = status.and_then(|s| s.last_state.as_ref()).and_then(|state| state.terminated.as_ref());
        let end = state.and_then(|state| state.terminated.as_ref());
        match member.role {
            Role::Init => match (end, last_end) {
                (Some(end), _) if end.exit_code == 0 => {}
                (Some(_), _) => counts.failed_init += 1,
                (None, Some(last)) if last.exit_code != 0 => {
                    counts.failed_init += 1;
                    counts.pending_init += 1;
                }
                (None, _) => counts.pending_init += 1,
            },
            Role::Sidecar => {
                let ever = end.is_some() || last_end.is_some();
                if !ever && status.is_none_or(|status| status.started != Some(true)) {
                    counts.pending_init += 1;
                }
            }
            Role::Regular => match (state, end) {
                (Some(_), Some(end)) => {
                    counts.stopped += 1;
                    counts.succeeded += usize::from(end.exit_code == 0);
                }
                (Some(state), None) if state.running.is_some() => counts.running += 1,
                (Some(_), None) if last_end.is_some() => counts.stopped += 1,
                (Some(_), None) => counts.waiting += 1,
                (None, _) => counts.unknown += 1,
            },
            Role::Ephemeral => {}
        }
    }
    counts
}
