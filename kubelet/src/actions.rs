//! What has to be done so that a pod on this node becomes what its spec says.
//!
//! Entry: [`compute`], a function from data to data. Invariants: what is wanted and exists is never touched; at most
//! one init container is under way at a time; a container that keeps failing waits longer each time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::backoff::{Backoffs, go_duration};
use crate::health::{Healths, Verdict, known_status};
use crate::members::{Member, Role, members, restarts_after, spec_hash};
use crate::view::{ContainerView, PodView, RunState};

/// Everything that a decision may look at.
pub struct Input<'a> {
    pub pod: &'a Pod,
    pub view: &'a PodView,
    pub healths: &'a Healths,
    pub backoffs: &'a Backoffs,
    pub now: Timestamp,
}

/// What to do, in this order: kill, make the sandbox, start, remove.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Actions {
    pub kill: Vec<Kill>,
    /// Sandboxes to stop: they are broken or surplus.
    pub stop_sandboxes: Vec<String>,
    pub sandbox: SandboxAction,
    pub start: Vec<Start>,
    /// Dead containers that nobody needs any more.
    pub remove_containers: Vec<String>,
    pub remove_sandboxes: Vec<String>,
    /// Containers that wait before they are started again.
    pub backing_off: Vec<BackingOff>,
    /// When to decide again although nothing has happened.
    pub wake_at: Option<Timestamp>,
    /// All containers have ended and none is to be started again.
    pub completed: bool,
}

/// What to do about the pod's sandbox.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum SandboxAction {
    /// None is there and none is needed.
    #[default]
    None,
    Keep(String),
    Create {
        attempt: u32,
    },
}

/// Start one container.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    pub name: String,
    pub restart_count: u32,
    /// The end of the run before, if there was one: what its back-off counts from.
    pub after: Option<Timestamp>,
}

/// Kill one container.
#[derive(Clone, Debug, PartialEq)]
pub struct Kill {
    pub id: String,
    pub name: String,
    pub message: String,
    /// Overrides the pod's grace period (a probe may bring its own).
    pub grace_seconds: Option<i64>,
}

/// A container in CrashLoopBackOff.
#[derive(Clone, Debug, PartialEq)]
pub struct BackingOff {
    pub name: String,
    pub message: String,
}

/// Decides what to do for a pod that is to run.
pub fn compute(input: &Input) -> Actions {
    let all = members(input.pod);
    let mut actions = Actions::default();
    match usable_sandbox(input) {
        Some(id) => {
            actions.sandbox = SandboxAction::Keep(id.clone());
            if initialized(input, &all, &id, &mut actions) {
                keep_running(input, &all, Role::Regular, &mut actions);
                keep_running(input, &all, Role::Ephemeral, &mut actions);
            }
        }
        None => plan_new_sandbox(input, &all, &mut actions),
    }
    collect_garbage(input, &all, &mut actions);
    actions
}

/// The back-off key of one container: a changed spec starts afresh.
pub fn backoff_key(member: &Member) -> String {
    format!("{}/{}", member.name(), spec_hash(&member.container))
}

/// The newest sandbox, if a pod can live in it.
fn usable_sandbox(input: &Input) -> Option<String> {
    let sandbox = input.view.ready_sandbox()?;
    let wants_host_network = input.pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    let network_fits = sandbox.host_network == wants_host_network && (wants_host_network || !sandbox.ips.is_empty());
    network_fits.then(|| sandbox.id.clone())
}

fn plan_new_sandbox(input: &Input, all: &[Member], actions: &mut Actions) {
    for container in input.view.running() {
        actions.kill.push(Kill {
            id: container.id.clone(),
            name: container.name.clone(),
            message: format!("Stopping container {}", container.name),
            grace_seconds: None,
        });
    }
    actions.stop_sandboxes = input.view.sandboxes.iter().filter(|s| s.ready).map(|s| s.id.clone()).collect();
    let ran_before = !input.view.containers.is_empty() || has_ended_before(input.pod);
    let wanted = all.iter().any(|member| member.role == Role::Regular && wants_start(input, member));
    let failed_init = ran_before && init_failed_for_good(input, all);
    if !wanted || failed_init {
        actions.completed = ran_before;
        return;
    }
    let attempt = input.view.sandbox().map_or(0, |sandbox| sandbox.attempt + 1);
    actions.sandbox = SandboxAction::Create { attempt };
    match all.iter().find(|member| matches!(member.role, Role::Init | Role::Sidecar)) {
        Some(first) => start(input, first, actions),
        None => {
            for member in all.iter().filter(|member| member.role == Role::Regular) {
                if wants_start(input, member) {
                    start(input, member, actions);
                }
            }
        }
    }
}

/// True if the API remembers an end of one of the pod's containers (their records here may be gone).
fn has_ended_before(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.container_statuses.as_ref())
        .is_some_and(|list| list.iter().any(|one| one.state.as_ref().is_some_and(|state| state.terminated.is_some())))
}

fn init_failed_for_good(input: &Input, all: &[Member]) -> bool {
    all.iter().filter(|member| member.role == Role::Init).any(|member| {
        let exit = input.view.newest(member.name()).and_then(ContainerView::exit);
        exit.is_some_and(|exit| exit.code != 0 && !restarts_after(input.pod, member, exit.code))
    })
}

/// Whether a container that does not run should.
fn wants_start(input: &Input, member: &Member) -> bool {
    match input.view.newest(member.name()).map(|container| &container.state) {
        Some(RunState::Running { .. }) => false,
        Some(RunState::Exited(exit)) => restarts_after(input.pod, member, exit.code),
        Some(RunState::Created | RunState::Unknown) => true,
        None => known_end(input.pod, member).is_none_or(|code| restarts_after(input.pod, member, code)),
    }
}

/// The exit code of a run that only the API remembers.
fn known_end(pod: &Pod, member: &Member) -> Option<i32> {
    Some(known_status(pod, member)?.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// Goes through the init containers in order; true when all have done their part.
fn initialized(input: &Input, all: &[Member], sandbox: &str, actions: &mut Actions) -> bool {
    let inits: Vec<&Member> = all.iter().filter(|m| matches!(m.role, Role::Init | Role::Sidecar)).collect();
    let has_run = |member: &Member| input.view.newest_in(sandbox, member.name()).is_some();
    let begun = all.iter().any(|member| member.role == Role::Regular && has_run(member));
    if begun {
        let open = regular_wanted(input, all);
        for member in inits.iter().filter(|member| member.role == Role::Sidecar && open) {
            keep_one(input, member, actions);
        }
        return true;
    }
    for (index, member) in inits.iter().enumerate() {
        let later_began = inits[index + 1..].iter().any(|later| has_run(later));
        let run = input.view.newest_in(sandbox, member.name());
        let passed = match member.role {
            Role::Sidecar => {
                keep_one(input, member, actions);
                later_began
                    || run.is_some_and(|run| input.healths.started(member, run, known_status(input.pod, member)))
            }
            Role::Init | Role::Regular | Role::Ephemeral => init_passed(input, member, run, actions),
        };
        if !passed {
            return false;
        }
    }
    true
}

/// Decides about one init container that must run to its end.
fn init_passed(input: &Input, member: &Member, run: Option<&ContainerView>, actions: &mut Actions) -> bool {
    match run.map(|run| &run.state) {
        Some(RunState::Exited(exit)) if exit.code == 0 => return true,
        Some(RunState::Exited(exit)) if !restarts_after(input.pod, member, exit.code) => actions.completed = true,
        Some(RunState::Running { .. }) => {}
        Some(RunState::Exited(_) | RunState::Created | RunState::Unknown) | None => start(input, member, actions),
    }
    false
}

/// True while some regular container runs or is to run: as long as that holds, sidecars are kept.
fn regular_wanted(input: &Input, all: &[Member]) -> bool {
    all.iter().filter(|member| member.role == Role::Regular).any(|member| {
        input.view.newest(member.name()).is_some_and(ContainerView::is_running) || wants_start(input, member)
    })
}

fn keep_running(input: &Input, all: &[Member], role: Role, actions: &mut Actions) {
    for member in all.iter().filter(|member| member.role == role) {
        keep_one(input, member, actions);
    }
    if role == Role::Regular {
        actions.completed = !regular_wanted(input, all);
    }
}

/// Keeps one container running: starts it, restarts it, or kills a run that is out of date or unhealthy.
fn keep_one(input: &Input, member: &Member, actions: &mut Actions) {
    match input.view.newest(member.name()) {
        Some(run) if run.is_running() => {
            if let Some(kill) = reason_to_kill(input, member, run) {
                actions.kill.push(kill);
            }
        }
        Some(_) | None if wants_start(input, member) => start(input, member, actions),
        Some(_) | None => {}
    }
}

fn reason_to_kill(input: &Input, member: &Member, run: &ContainerView) -> Option<Kill> {
    let name = member.name();
    let health = input.healths.of(&run.id);
    let (message, probe) = if !run.hash.is_empty() && run.hash != spec_hash(&member.container) {
        (format!("Container {name} definition changed"), None)
    } else if health.liveness == Verdict::Failure {
        (format!("Container {name} failed liveness probe"), member.container.liveness_probe.as_ref())
    } else if health.startup == Verdict::Failure {
        (format!("Container {name} failed startup probe"), member.container.startup_probe.as_ref())
    } else {
        return None;
    };
    // A killed process does not end with 0.
    let again = restarts_after(input.pod, member, 137);
    let message = if again { format!("{message}, will be restarted") } else { message };
    let grace_seconds = probe.and_then(|probe| probe.termination_grace_period_seconds);
    Some(Kill { id: run.id.clone(), name: name.to_owned(), message, grace_seconds })
}

/// Plans a start, or a wait if the container has failed too recently.
fn start(input: &Input, member: &Member, actions: &mut Actions) {
    let last = input.view.newest(member.name());
    let after = last.and_then(ContainerView::exit).map(|exit| exit.finished_at);
    if let Some(since) = after
        && let Some((until, delay)) = input.backoffs.waits_until(&backoff_key(member), since, input.now)
    {
        actions.wake_at = Some(actions.wake_at.map_or(until, |other| other.min(until)));
        let message = back_off_message(input.pod, member.name(), &go_duration(delay));
        actions.backing_off.push(BackingOff { name: member.name().to_owned(), message });
        return;
    }
    let known = known_status(input.pod, member).filter(|status| status.container_id.is_some());
    let restart_count = match (last, known) {
        (Some(last), _) => last.restart_count + 1,
        (None, Some(status)) => u32::try_from(status.restart_count).unwrap_or(0) + 1,
        (None, None) => 0,
    };
    actions.start.push(Start { name: member.name().to_owned(), restart_count, after });
}

fn back_off_message(pod: &Pod, container: &str, delay: &str) -> String {
    format!("back-off {delay} restarting failed container={container} pod={}", full_name(pod))
}

/// A pod as Kubernetes names it in messages: `name_namespace(uid)`.
pub fn full_name(pod: &Pod) -> String {
    let meta = &pod.metadata;
    format!(
        "{}_{}({})",
        meta.name.as_deref().unwrap_or_default(),
        meta.namespace.as_deref().unwrap_or_default(),
        meta.uid.as_deref().unwrap_or_default()
    )
}

/// Keeps two runs of each container (the newest, and the one whose log is "previous") and the newest sandbox.
fn collect_garbage(input: &Input, all: &[Member], actions: &mut Actions) {
    let mut kept: BTreeMap<&str, usize> = BTreeMap::new();
    let mut sandboxes_in_use: Vec<&str> = Vec::new();
    for container in &input.view.containers {
        let count = kept.entry(container.name.as_str()).or_default();
        *count += 1;
        let known = all.iter().any(|member| member.name() == container.name);
        if container.is_running() || (known && *count <= 2) {
            sandboxes_in_use.push(&container.sandbox_id);
        } else {
            actions.remove_containers.push(container.id.clone());
        }
    }
    for sandbox in input.view.sandboxes.iter().skip(1) {
        if sandbox.ready {
            if !actions.stop_sandboxes.contains(&sandbox.id) {
                actions.stop_sandboxes.push(sandbox.id.clone());
            }
        } else if !sandboxes_in_use.contains(&sandbox.id.as_str()) {
            actions.remove_sandboxes.push(sandbox.id.clone());
        }
    }
}

#[cfg(test)]
mod tests;
