//! What a runtime knows of a sandbox and of a container, and how CRI wants it told. Pure; shared by both runtimes.
//!
//! Invariant: a container's phase only goes forward: created, running, exited.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use cri::v1;

/// A pod's sandbox.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// As the kubelet asked for it.
    pub config: v1::PodSandboxConfig,
    /// The handler it was asked for with.
    pub runtime_handler: String,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// False once it was stopped or its network is gone.
    pub ready: bool,
    /// None on the host's network.
    pub ip: Option<Ipv4Addr>,
}

impl Sandbox {
    /// CRI's full status.
    pub fn status(&self) -> v1::PodSandboxStatus {
        v1::PodSandboxStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state().into(),
            created_at: self.created_at,
            network: Some(v1::PodSandboxNetworkStatus {
                ip: self.ip.map(|ip| ip.to_string()).unwrap_or_default(),
                additional_ips: Vec::new(),
            }),
            linux: Some(v1::LinuxPodSandboxStatus {
                namespaces: Some(v1::Namespace { options: Some(self.namespaces()) }),
            }),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: self.runtime_handler.clone(),
        }
    }

    /// CRI's short form.
    pub fn listed(&self) -> v1::PodSandbox {
        v1::PodSandbox {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state().into(),
            created_at: self.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: self.runtime_handler.clone(),
        }
    }

    /// Whether a filter selects it.
    pub fn matches(&self, filter: Option<&v1::PodSandboxFilter>) -> bool {
        filter.is_none_or(|f| {
            (f.id.is_empty() || self.id.starts_with(&f.id))
                && f.state.as_ref().is_none_or(|s| s.state() == self.state())
                && selects(&f.label_selector, &self.config.labels)
        })
    }

    /// Which namespaces it shares with the host.
    pub fn namespaces(&self) -> v1::NamespaceOption {
        let security = self.config.linux.as_ref().and_then(|l| l.security_context.as_ref());
        security.and_then(|s| s.namespace_options.clone()).unwrap_or_default()
    }

    /// `namespace/name` of the pod, for messages.
    pub fn pod(&self) -> String {
        let metadata = self.config.metadata.clone().unwrap_or_default();
        format!("{}/{}", metadata.namespace, metadata.name)
    }

    fn state(&self) -> v1::PodSandboxState {
        if self.ready { v1::PodSandboxState::SandboxReady } else { v1::PodSandboxState::SandboxNotready }
    }
}

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// The sandbox it belongs to.
    pub sandbox_id: String,
    /// As the kubelet asked for it.
    pub config: v1::ContainerConfig,
    /// Id of its image.
    pub image_id: String,
    /// A reference by digest, or the id where there is none.
    pub image_ref: String,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// The whole path of its log file; empty without one.
    pub log_path: String,
    /// Where it stands.
    pub phase: Phase,
    /// Who its first process runs as, once known.
    pub user: Option<v1::LinuxContainerUser>,
}

/// Where a container stands. Times are nanoseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Never started.
    Created,
    /// Its first process runs.
    Running {
        /// When it began.
        started_at: i64,
    },
    /// It ran, or could not be started.
    Exited {
        /// When it began; 0 when it never did.
        started_at: i64,
        /// How it ended.
        exit: Exit,
    },
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exit {
    /// Nanoseconds since the epoch.
    pub finished_at: i64,
    /// Exit code, 128 + signal when killed by one.
    pub code: i32,
    /// Completed, Error, OOMKilled, StartError or ContainerCannotRun.
    pub reason: String,
    /// More, for people.
    pub message: String,
}

impl Exit {
    /// The end of a process that ran.
    pub fn of_process(finished_at: i64, code: i32, out_of_memory: bool) -> Self {
        let reason = match (code, out_of_memory) {
            (0, _) => "Completed",
            (_, true) => "OOMKilled",
            (_, false) => "Error",
        };
        Self { finished_at, code, reason: reason.to_owned(), message: String::new() }
    }

    /// A container that could not be started: code 128, as containerd reports it.
    pub fn of_failed_start(finished_at: i64, message: String) -> Self {
        Self { finished_at, code: 128, reason: "StartError".to_owned(), message }
    }
}

impl Container {
    /// CRI's full status.
    pub fn status(&self) -> v1::ContainerStatus {
        let (started_at, exit) = match &self.phase {
            Phase::Created => (0, Exit::default()),
            Phase::Running { started_at } => (*started_at, Exit::default()),
            Phase::Exited { started_at, exit } => (*started_at, exit.clone()),
        };
        let linux = self.config.linux.as_ref().and_then(|l| l.resources.clone());
        v1::ContainerStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state().into(),
            created_at: self.created_at,
            started_at,
            finished_at: exit.finished_at,
            exit_code: exit.code,
            image: self.config.image.clone(),
            image_ref: self.image_ref.clone(),
            reason: exit.reason,
            message: exit.message,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            mounts: self.config.mounts.clone(),
            log_path: self.log_path.clone(),
            resources: linux.map(|linux| v1::ContainerResources { linux: Some(linux) }),
            image_id: self.image_id.clone(),
            user: self.user.clone().map(|linux| v1::ContainerUser { linux: Some(linux) }),
            stop_signal: self.config.stop_signal,
        }
    }

    /// CRI's short form.
    pub fn listed(&self) -> v1::Container {
        v1::Container {
            id: self.id.clone(),
            pod_sandbox_id: self.sandbox_id.clone(),
            metadata: self.config.metadata.clone(),
            image: self.config.image.clone(),
            image_ref: self.image_ref.clone(),
            state: self.state().into(),
            created_at: self.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            image_id: self.image_id.clone(),
        }
    }

    /// Whether a filter selects it.
    pub fn matches(&self, filter: Option<&v1::ContainerFilter>) -> bool {
        filter.is_none_or(|f| {
            (f.id.is_empty() || self.id.starts_with(&f.id))
                && (f.pod_sandbox_id.is_empty() || self.sandbox_id.starts_with(&f.pod_sandbox_id))
                && f.state.as_ref().is_none_or(|s| s.state() == self.state())
                && selects(&f.label_selector, &self.config.labels)
        })
    }

    /// Whether a statistics filter selects it.
    pub fn matches_stats(&self, filter: Option<&v1::ContainerStatsFilter>) -> bool {
        filter.is_none_or(|f| {
            (f.id.is_empty() || self.id.starts_with(&f.id))
                && (f.pod_sandbox_id.is_empty() || self.sandbox_id.starts_with(&f.pod_sandbox_id))
                && selects(&f.label_selector, &self.config.labels)
        })
    }

    /// What statistics say they are about.
    pub fn attributes(&self) -> v1::ContainerAttributes {
        v1::ContainerAttributes {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
        }
    }

    /// Its name in the pod.
    pub fn name(&self) -> &str {
        self.config.metadata.as_ref().map_or("", |m| &m.name)
    }

    /// Whether its first process runs.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    fn state(&self) -> v1::ContainerState {
        match self.phase {
            Phase::Created => v1::ContainerState::ContainerCreated,
            Phase::Running { .. } => v1::ContainerState::ContainerRunning,
            Phase::Exited { .. } => v1::ContainerState::ContainerExited,
        }
    }
}

/// Where a container's log goes: the pod's log directory and the container's path in it.
pub fn log_path(sandbox: &v1::PodSandboxConfig, container: &v1::ContainerConfig) -> String {
    if sandbox.log_directory.is_empty() || container.log_path.is_empty() {
        return String::new();
    }
    format!("{}/{}", sandbox.log_directory.trim_end_matches('/'), container.log_path)
}

/// Whether all labels of the selector are among the labels.
pub fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_an_end() {
        let reason = |code, oom| Exit::of_process(1, code, oom).reason;
        assert_eq!(reason(0, false), "Completed");
        assert_eq!(reason(0, true), "Completed");
        assert_eq!(reason(1, false), "Error");
        assert_eq!(reason(137, true), "OOMKilled");
        assert_eq!(Exit::of_failed_start(1, String::new()).code, 128);
    }

    #[test]
    fn log_paths_join() {
        let sandbox = |d: &str| v1::PodSandboxConfig { log_directory: d.to_owned(), ..Default::default() };
        let container = |p: &str| v1::ContainerConfig { log_path: p.to_owned(), ..Default::default() };
        assert_eq!(log_path(&sandbox("/var/log/p/"), &container("c/0.log")), "/var/log/p/c/0.log");
        assert_eq!(log_path(&sandbox(""), &container("c/0.log")), "");
        assert_eq!(log_path(&sandbox("/d"), &container("")), "");
    }
}
