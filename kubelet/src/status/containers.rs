//! The status of each container.
//!
//! Entry: [`statuses`]. Invariant: a run that the runtime no longer knows but the API does is never reported as if it
//! had not happened: its end is kept, or said to be unknown.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Input, whole_seconds};
use crate::health::known_status;
use crate::members::{Member, Role, restarts_after};
use crate::view::{ContainerView, Exit, RunState};

/// The URL scheme of our container ids, as `containerd://` is containerd's.
const ID_SCHEME: &str = "kubelab://";

/// Statuses by container name.
pub(super) struct Statuses(BTreeMap<String, ContainerStatus>);

impl Statuses {
    pub(super) fn of(&self, name: &str) -> Option<&ContainerStatus> {
        self.0.get(name)
    }

    /// The statuses of some roles, in the order of the spec; `None` if the spec has no such container.
    pub(super) fn list(&self, all: &[Member], wanted: impl Fn(Role) -> bool) -> Option<Vec<ContainerStatus>> {
        let list: Vec<_> =
            all.iter().filter(|member| wanted(member.role)).filter_map(|m| self.of(m.name()).cloned()).collect();
        (!list.is_empty()).then_some(list)
    }
}

/// The status of every container of the pod. A pod that never was admitted has none.
pub(super) fn statuses(input: &Input, all: &[Member]) -> Statuses {
    let untouched = input.view.containers.is_empty() && input.view.sandboxes.is_empty();
    if input.failed.is_some() && untouched && all.iter().all(|member| known_status(input.pod, member).is_none()) {
        return Statuses(BTreeMap::new());
    }
    let has_inits = all.iter().any(|member| matches!(member.role, Role::Init | Role::Sidecar));
    let begun = all.iter().any(|m| m.role == Role::Regular && input.view.newest(m.name()).is_some());
    let idle = if has_inits && !begun { "PodInitializing" } else { "ContainerCreating" };
    let entries = all.iter().map(|member| {
        let idle = if member.role == Role::Regular { idle } else { "PodInitializing" };
        let idle = if member.role == Role::Ephemeral { "ContainerCreating" } else { idle };
        (member.name().to_owned(), one(input, member, idle))
    });
    Statuses(entries.collect())
}

fn one(input: &Input, member: &Member, idle: &str) -> ContainerStatus {
    let known = known_status(input.pod, member);
    let mut status = match input.view.newest(member.name()) {
        Some(run) => from_run(input, member, run, known),
        None => from_memory(input, member, known, idle),
    };
    status.resources = member.container.resources.clone().or_else(|| Some(Default::default()));
    status.allocated_resources = member.container.resources.as_ref().and_then(|resources| resources.requests.clone());
    status.volume_mounts = volume_mounts(&member.container);
    status
}

fn from_run(input: &Input, member: &Member, run: &ContainerView, known: Option<&ContainerStatus>) -> ContainerStatus {
    let mut status = ContainerStatus {
        name: member.name().to_owned(),
        image: run.image.clone(),
        image_id: run.image_id.clone(),
        container_id: Some(format!("{ID_SCHEME}{}", run.id)),
        restart_count: i32::try_from(run.restart_count).unwrap_or(i32::MAX),
        ready: input.healths.ready(member, run, known),
        started: Some(input.healths.started(member, run, known)),
        ..ContainerStatus::default()
    };
    let previous = input.view.previous(member.name()).and_then(|run| Some((run, run.exit()?)));
    status.last_state = match previous {
        Some((run, exit)) => Some(terminated(run, exit)),
        None => known.filter(|_| run.restart_count > 0).and_then(|known| remembered_end(known, &run.id)),
    };
    let waiting = input.waiting.get(member.name());
    status.state = Some(match &run.state {
        RunState::Running { started_at } => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(whole_seconds(*started_at))) }),
            ..ContainerState::default()
        },
        RunState::Exited(exit) => match waiting {
            Some(_) if !input.ended && restarts_after(input.pod, member, exit.code) => {
                status.last_state = Some(terminated(run, exit));
                waits(waiting.map(|w| (w.reason.as_str(), w.message.as_str())), "")
            }
            Some(_) | None => terminated(run, exit),
        },
        RunState::Created | RunState::Unknown => {
            waits(waiting.map(|w| (w.reason.as_str(), w.message.as_str())), "ContainerCreating")
        }
    });
    status
}

/// A container of which the runtime has nothing.
fn from_memory(input: &Input, member: &Member, known: Option<&ContainerStatus>, idle: &str) -> ContainerStatus {
    let mut status = ContainerStatus {
        name: member.name().to_owned(),
        image: member.container.image.clone().unwrap_or_default(),
        ..ContainerStatus::default()
    };
    let waiting = input.waiting.get(member.name()).map(|w| (w.reason.as_str(), w.message.as_str()));
    let known = known.filter(|known| known.container_id.is_some());
    let Some(known) = known else {
        status.started = Some(false);
        status.state = Some(waits(waiting, idle));
        return status;
    };
    status.image = known.image.clone();
    status.image_id = known.image_id.clone();
    status.container_id = known.container_id.clone();
    status.restart_count = known.restart_count;
    status.started = Some(false);
    let state = known.state.as_ref();
    let end = match state.and_then(|state| state.terminated.clone()) {
        Some(end) => end,
        None if state.is_some_and(|state| state.running.is_some()) => lost(input, known),
        None => {
            status.last_state = known.last_state.clone();
            status.state = Some(waits(waiting, idle));
            return status;
        }
    };
    let again = restarts_after(input.pod, member, end.exit_code) && !input.ended;
    let state = ContainerState { terminated: Some(end), ..ContainerState::default() };
    if again && member.role != Role::Init {
        status.last_state = Some(state);
        status.state = Some(waits(waiting, idle));
    } else {
        status.ready = member.role == Role::Init && known.ready;
        status.last_state = known.last_state.clone();
        status.state = Some(state);
    }
    status
}

fn lost(input: &Input, known: &ContainerStatus) -> ContainerStateTerminated {
    let leaving = input.pod.metadata.deletion_timestamp.is_some();
    let message = if leaving {
        "The container could not be located when the pod was deleted.  The container used to be Running"
    } else {
        "The container could not be located when the pod was terminated"
    };
    ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".into()),
        message: Some(message.into()),
        container_id: known.container_id.clone(),
        ..ContainerStateTerminated::default()
    }
}

/// The end of the run before, as the API remembers it.
fn remembered_end(known: &ContainerStatus, current_id: &str) -> Option<ContainerState> {
    let of_current = known.container_id.as_deref().is_some_and(|id| id.ends_with(current_id));
    let state = if of_current { &known.last_state } else { &known.state };
    state.as_ref().filter(|state| state.terminated.is_some()).or(known.last_state.as_ref()).cloned()
}

fn waits(waiting: Option<(&str, &str)>, idle: &str) -> ContainerState {
    let (reason, message) = waiting.unwrap_or((idle, ""));
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }),
        ..ContainerState::default()
    }
}

fn terminated(run: &ContainerView, exit: &Exit) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("{ID_SCHEME}{}", run.id)),
            exit_code: exit.code,
            reason: Some(exit_reason(exit)),
            message: (!exit.message.is_empty()).then(|| exit.message.clone()),
            started_at: Some(Time(whole_seconds(exit.started_at))),
            finished_at: Some(Time(whole_seconds(exit.finished_at))),
            signal: None,
        }),
        ..ContainerState::default()
    }
}

fn exit_reason(exit: &Exit) -> String {
    match exit.reason.as_str() {
        "" if exit.code == 0 => "Completed".into(),
        "" => "Error".into(),
        reason => reason.to_owned(),
    }
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?;
    let status = |mount: &k8s_openapi::api::core::v1::VolumeMount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only,
        recursive_read_only: mount.read_only.unwrap_or(false).then(|| "Disabled".to_owned()),
        ..VolumeMountStatus::default()
    };
    Some(mounts.iter().map(status).collect())
}
