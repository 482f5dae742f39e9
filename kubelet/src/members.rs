//! The containers of a pod spec in one list, whatever field they come from.
//!
//! Entry: [`members`]. Invariant: order is start order: init containers (sidecars among them), then regular ones,
//! then ephemeral ones.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};
use sha2::{Digest, Sha256};

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to completion before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: started in order, then kept running beside the others.
    Sidecar,
    Regular,
    /// Added to a running pod (`kubectl debug`); never restarted.
    Ephemeral,
}

/// One container and what it is to its pod.
#[derive(Clone, Debug)]
pub struct Member {
    pub role: Role,
    pub container: Container,
}

impl Member {
    /// The container's name.
    pub fn name(&self) -> &str {
        &self.container.name
    }

    /// The path of the container's spec, as events name it.
    pub fn field_path(&self) -> String {
        let list = match self.role {
            Role::Init | Role::Sidecar => "initContainers",
            Role::Regular => "containers",
            Role::Ephemeral => "ephemeralContainers",
        };
        format!("spec.{list}{{{}}}", self.container.name)
    }
}

/// Every container of the pod in start order.
pub fn members(pod: &Pod) -> Vec<Member> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let mut all = Vec::new();
    for container in spec.init_containers.iter().flatten() {
        let role = if container.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init };
        all.push(Member { role, container: container.clone() });
    }
    all.extend(spec.containers.iter().map(|container| Member { role: Role::Regular, container: container.clone() }));
    for ephemeral in spec.ephemeral_containers.iter().flatten() {
        all.push(Member { role: Role::Ephemeral, container: as_container(ephemeral) });
    }
    all
}

fn as_container(from: &EphemeralContainer) -> Container {
    Container {
        args: from.args.clone(),
        command: from.command.clone(),
        env: from.env.clone(),
        env_from: from.env_from.clone(),
        image: from.image.clone(),
        image_pull_policy: from.image_pull_policy.clone(),
        name: from.name.clone(),
        security_context: from.security_context.clone(),
        stdin: from.stdin,
        stdin_once: from.stdin_once,
        termination_message_path: from.termination_message_path.clone(),
        termination_message_policy: from.termination_message_policy.clone(),
        tty: from.tty,
        volume_mounts: from.volume_mounts.clone(),
        working_dir: from.working_dir.clone(),
        ..Container::default()
    }
}

/// A hash over what makes a running container out of date when it changes. As in Kubernetes, that is its name and
/// its image only: everything else of a container is immutable, or (resources) changed in place.
pub fn spec_hash(container: &Container) -> String {
    let mut hasher = Sha256::new();
    hasher.update(container.name.as_bytes());
    hasher.update([0]);
    hasher.update(container.image.as_deref().unwrap_or_default().as_bytes());
    hasher.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// The restart policy that holds for one container: its own, or the pod's.
pub fn restart_policy<'a>(pod: &'a Pod, member: &'a Member) -> &'a str {
    let pods = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
    match member.role {
        Role::Sidecar => "Always",
        Role::Ephemeral => "Never",
        Role::Init => match member.container.restart_policy.as_deref().unwrap_or(pods) {
            // An init container of an Always pod is retried until it succeeds, then never again.
            "Always" => "OnFailure",
            other => other,
        },
        Role::Regular => member.container.restart_policy.as_deref().unwrap_or(pods),
    }
}

/// Whether a container that ended with `code` is to be started again.
pub fn restarts_after(pod: &Pod, member: &Member, code: i32) -> bool {
    for rule in member.container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.iter().flatten().any(|value| *value == code);
        if (codes.operator == "In" && listed) || (codes.operator == "NotIn" && !listed) {
            return rule.action == "Restart";
        }
    }
    match restart_policy(pod, member) {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}
