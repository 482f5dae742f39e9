//! What the probes have found out about running containers.
//!
//! Entry: [`Healths`]. Invariant: keyed by container id, so a result never outlives the run it was measured on.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::members::{Member, Role};
use crate::view::ContainerView;

/// The state of one probe: its thresholds are already applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    #[default]
    Unknown,
    Success,
    Failure,
}

/// The three probes of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    pub startup: Verdict,
    pub readiness: Verdict,
    pub liveness: Verdict,
}

/// Results by container id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healths(pub BTreeMap<String, Health>);

impl Healths {
    /// The results of one container; unknown if there are none.
    pub fn of(&self, id: &str) -> Health {
        self.0.get(id).copied().unwrap_or_default()
    }

    /// Whether the container counts as started: it runs and its startup probe, if any, has succeeded.
    /// `before` is what the API knows: a kubelet that was restarted keeps it until its probes have answered.
    pub fn started(&self, member: &Member, run: &ContainerView, before: Option<&ContainerStatus>) -> bool {
        if !run.is_running() {
            return false;
        }
        if member.container.startup_probe.is_none() {
            return true;
        }
        match self.of(&run.id).startup {
            Verdict::Success => true,
            Verdict::Failure => false,
            Verdict::Unknown => same_run(run, before).is_some_and(|status| status.started == Some(true)),
        }
    }

    /// Whether the container counts as ready.
    pub fn ready(&self, member: &Member, run: &ContainerView, before: Option<&ContainerStatus>) -> bool {
        match member.role {
            Role::Init => return run.exit().is_some_and(|exit| exit.code == 0),
            Role::Ephemeral => return false,
            Role::Sidecar | Role::Regular => {}
        }
        if !self.started(member, run, before) {
            return false;
        }
        if member.container.readiness_probe.is_none() {
            return true;
        }
        match self.of(&run.id).readiness {
            Verdict::Success => true,
            Verdict::Failure => false,
            Verdict::Unknown => same_run(run, before).is_some_and(|status| status.ready),
        }
    }
}

fn same_run<'a>(run: &ContainerView, before: Option<&'a ContainerStatus>) -> Option<&'a ContainerStatus> {
    before.filter(|status| status.container_id.as_deref().is_some_and(|id| id.ends_with(&run.id)))
}

/// The status that the API has of one container.
pub fn known_status<'a>(pod: &'a Pod, member: &Member) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let list = match member.role {
        Role::Init | Role::Sidecar => &status.init_container_statuses,
        Role::Regular => &status.container_statuses,
        Role::Ephemeral => &status.ephemeral_container_statuses,
    };
    list.as_ref()?.iter().find(|known| known.name == member.name())
}
