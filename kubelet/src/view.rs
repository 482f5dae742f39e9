//! What the runtime has of one pod, as plain data: the input of every decision in this crate.
//!
//! Entry: [`PodView`]. Invariant: sandboxes and containers are ordered newest first, so "the" container of a name is
//! the first one found.

use jiff::Timestamp;

/// All sandboxes and containers of one pod uid.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodView {
    pub sandboxes: Vec<SandboxView>,
    pub containers: Vec<ContainerView>,
}

/// One sandbox: the pod's namespaces and network.
#[derive(Clone, Debug, PartialEq)]
pub struct SandboxView {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    pub created_at: Timestamp,
    pub ips: Vec<String>,
    pub host_network: bool,
}

/// One run of one container.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerView {
    pub id: String,
    pub sandbox_id: String,
    pub name: String,
    /// How often the container had been restarted when this run began.
    pub restart_count: u32,
    /// Hash of the container's spec when it was created; empty when unknown.
    pub hash: String,
    pub image: String,
    pub image_id: String,
    pub created_at: Timestamp,
    pub state: RunState,
    pub log_path: String,
}

/// How far a run has come.
#[derive(Clone, Debug, PartialEq)]
pub enum RunState {
    Created,
    Running { started_at: Timestamp },
    Exited(Exit),
    Unknown,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub code: i32,
    pub reason: String,
    pub message: String,
}

impl RunState {
    fn rank(&self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Created => 1,
            Self::Running { .. } => 2,
            Self::Exited(_) => 3,
        }
    }
}

impl ContainerView {
    /// True while its process runs.
    pub fn is_running(&self) -> bool {
        matches!(self.state, RunState::Running { .. })
    }

    /// How it ended, if it did.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            RunState::Exited(exit) => Some(exit),
            RunState::Created | RunState::Running { .. } | RunState::Unknown => None,
        }
    }
}

impl PodView {
    /// The newest run of a container.
    pub fn newest(&self, name: &str) -> Option<&ContainerView> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The newest run of a container inside one sandbox.
    pub fn newest_in(&self, sandbox: &str, name: &str) -> Option<&ContainerView> {
        self.containers.iter().find(|container| container.name == name && container.sandbox_id == sandbox)
    }

    /// The run before the newest one.
    pub fn previous(&self, name: &str) -> Option<&ContainerView> {
        self.containers.iter().filter(|container| container.name == name).nth(1)
    }

    /// The sandbox that pods' containers live in now.
    pub fn sandbox(&self) -> Option<&SandboxView> {
        self.sandboxes.first()
    }

    /// The newest sandbox if it is ready.
    pub fn ready_sandbox(&self) -> Option<&SandboxView> {
        self.sandbox().filter(|sandbox| sandbox.ready)
    }

    /// Containers whose process runs, newest first.
    pub fn running(&self) -> impl Iterator<Item = &ContainerView> {
        self.containers.iter().filter(|container| container.is_running())
    }

    /// True if nothing of the pod can run any more: no process, no live sandbox.
    pub fn is_stopped(&self) -> bool {
        self.running().next().is_none() && self.sandboxes.iter().all(|sandbox| !sandbox.ready)
    }

    /// True if this view already knows everything that `news` (an event's snapshot of one sandbox) says: the states of
    /// containers and sandboxes only go forward.
    pub fn knows(&self, news: &PodView) -> bool {
        let container_known = |new: &ContainerView| {
            self.containers.iter().any(|known| known.id == new.id && known.state.rank() >= new.state.rank())
        };
        let sandbox_known =
            |new: &SandboxView| self.sandboxes.iter().any(|known| known.id == new.id && (!known.ready || new.ready));
        news.containers.iter().all(container_known) && news.sandboxes.iter().all(sandbox_known)
    }

    /// Establishes the order that the rest of the crate relies on.
    pub fn sort(&mut self) {
        self.sandboxes.sort_by(|a, b| (b.created_at, b.attempt, &b.id).cmp(&(a.created_at, a.attempt, &a.id)));
        self.containers
            .sort_by(|a, b| (b.created_at, b.restart_count, &b.id).cmp(&(a.created_at, a.restart_count, &a.id)));
    }
}
