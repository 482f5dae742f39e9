//! A container as CRI describes it.
//!
//! Entry: [`container_config`]. Invariant: pure, but for resolving a `subPath`, which must look at the volume.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cri::v1::{
    Capability, ContainerConfig, ContainerMetadata, Image, ImageSpec, Int64Value, KeyValue, LinuxContainerConfig,
    LinuxContainerSecurityContext, Mount, MountPropagation, SecurityProfile, SupplementalGroupsPolicy,
    security_profile::ProfileType,
};
use k8s_openapi::api::core::v1::{
    Container, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, VolumeMount,
};

use crate::actions::full_name;
use crate::env::{self, Context, EnvError};
use crate::members::{Member, spec_hash};
use crate::resources::linux_resources;
use crate::runtime::keys;
use crate::sandbox_config::namespaces;
use crate::volumes::{VolumeError, resolve_sub_path};

const MASKED_PATHS: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];
const READONLY_PATHS: [&str; 6] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/scsi", "/proc/sys", "/proc/sysrq-trigger"];

/// Why a container cannot be described; all of these are CreateContainerConfigError.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Env(#[from] EnvError),
    #[error("volume mount {0:?} names no volume of the pod")]
    NoVolume(String),
    #[error("failed to prepare subPath for volumeMount \"{0}\" of container \"{1}\": {2}")]
    SubPath(String, String, VolumeError),
    #[error("{0}")]
    NonRoot(String),
}

/// Everything a container's description is made of.
pub struct Parts<'a> {
    pub context: Context<'a>,
    pub member: &'a Member,
    pub restart_count: u32,
    pub image: &'a Image,
    /// Where the pod's volumes lie, by name; empty on a node without a file system.
    pub volumes: &'a BTreeMap<String, PathBuf>,
    /// The pod's directory; `None` on a node without a file system.
    pub pod_dir: Option<&'a Path>,
    pub node_memory: i64,
}

/// What the runtime is told about a container.
pub fn container_config(parts: &Parts) -> Result<ContainerConfig, ConfigError> {
    let container = &parts.member.container;
    let pod = parts.context.pod;
    let spec = pod.spec.clone().unwrap_or_default();
    check_non_root(parts, &spec)?;
    let variables = env::environment(&parts.context, container)?;
    let value = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let expand = |words: &Option<Vec<String>>| -> Vec<String> {
        words.iter().flatten().map(|word| env::expand(word, value)).collect()
    };
    let (name, count) = (container.name.clone(), parts.restart_count);
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.clone(), attempt: count }),
        image: Some(ImageSpec {
            image: parts.image.id.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..ImageSpec::default()
        }),
        command: expand(&container.command),
        args: expand(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts: mounts(parts, &spec, value)?,
        envs: variables.iter().map(|(key, value)| KeyValue { key: key.clone(), value: value.clone() }).collect(),
        labels: labels(parts),
        annotations: annotations(container, count),
        log_path: format!("{name}/{count}.log"),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(LinuxContainerConfig {
            resources: Some(linux_resources(pod, container, parts.node_memory)),
            security_context: Some(security_context(&spec, container)),
        }),
        stop_signal: stop_signal(container),
        ..ContainerConfig::default()
    })
}

fn stop_signal(container: &Container) -> i32 {
    let name = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    let name = name.map(|name| name.replace('+', "PLUS").replace('-', "MINUS"));
    name.and_then(|name| cri::v1::Signal::from_str_name(&name)).map_or(0, |signal| signal as i32)
}

fn labels(parts: &Parts) -> BTreeMap<String, String> {
    let meta = &parts.context.pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    [
        (keys::POD_NAME.to_owned(), text(&meta.name)),
        (keys::POD_NAMESPACE.to_owned(), text(&meta.namespace)),
        (keys::POD_UID.to_owned(), text(&meta.uid)),
        (keys::CONTAINER_NAME.to_owned(), parts.member.name().to_owned()),
    ]
    .into()
}

fn annotations(container: &Container, restart_count: u32) -> BTreeMap<String, String> {
    let policy = container.termination_message_policy.clone().unwrap_or_else(|| "File".into());
    [
        (keys::CONTAINER_HASH.to_owned(), spec_hash(container)),
        (keys::RESTART_COUNT.to_owned(), restart_count.to_string()),
        (keys::MESSAGE_PATH.to_owned(), message_path(container)),
        (keys::MESSAGE_POLICY.to_owned(), policy),
    ]
    .into()
}

fn message_path(container: &Container) -> String {
    container.termination_message_path.clone().unwrap_or_else(|| "/dev/termination-log".into())
}

/// The file that a container's last words go to.
pub fn message_file(pod_dir: &Path, container: &str, restart_count: u32) -> PathBuf {
    pod_dir.join("containers").join(container).join(format!("{restart_count}.message"))
}

/// The hosts file of a pod.
pub fn hosts_file(pod_dir: &Path) -> PathBuf {
    pod_dir.join("etc-hosts")
}

fn mounts(
    parts: &Parts,
    spec: &PodSpec,
    value: impl Fn(&str) -> Option<String> + Copy,
) -> Result<Vec<Mount>, ConfigError> {
    let Some(pod_dir) = parts.pod_dir else { return Ok(Vec::new()) };
    let container = &parts.member.container;
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        mounts.push(volume_mount(parts, spec, mount, value)?);
    }
    let plain = |container_path: &str, host_path: PathBuf| Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.display().to_string(),
        ..Mount::default()
    };
    if !mounts.iter().any(|mount| mount.container_path == "/etc/hosts") {
        mounts.push(plain("/etc/hosts", hosts_file(pod_dir)));
    }
    let file = message_file(pod_dir, &container.name, parts.restart_count);
    mounts.push(plain(&message_path(container), file));
    Ok(mounts)
}

fn volume_mount(
    parts: &Parts,
    spec: &PodSpec,
    mount: &VolumeMount,
    value: impl Fn(&str) -> Option<String>,
) -> Result<Mount, ConfigError> {
    let place = parts.volumes.get(&mount.name).ok_or_else(|| ConfigError::NoVolume(mount.name.clone()))?;
    let sub_path = match (&mount.sub_path, &mount.sub_path_expr) {
        (_, Some(expression)) if !expression.is_empty() => env::expand(expression, value),
        (Some(path), _) => path.clone(),
        (None, _) => String::new(),
    };
    let host_path = if sub_path.is_empty() {
        place.clone()
    } else {
        resolve_sub_path(place, &sub_path)
            .map_err(|error| ConfigError::SubPath(mount.name.clone(), parts.member.name().to_owned(), error))?
    };
    let source = spec.volumes.iter().flatten().find(|volume| volume.name == mount.name);
    // Contents that come from the API are never the container's to change.
    let managed = source.is_some_and(|volume| {
        volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.projected.is_some()
            || volume.downward_api.is_some()
    });
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        Some(_) | None => MountPropagation::PropagationPrivate,
    };
    Ok(Mount {
        container_path: absolute(&mount.mount_path),
        host_path: host_path.display().to_string(),
        readonly: mount.read_only.unwrap_or(false) || managed,
        propagation: propagation as i32,
        ..Mount::default()
    })
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// What holds for a container: its own setting, or the pod's.
fn effective<T: Clone>(
    spec: &PodSpec,
    container: &Container,
    own: fn(&SecurityContext) -> &Option<T>,
    pods: fn(&PodSecurityContext) -> &Option<T>,
) -> Option<T> {
    let mine = container.security_context.as_ref().and_then(|security| own(security).clone());
    mine.or_else(|| spec.security_context.as_ref().and_then(|security| pods(security).clone()))
}

fn check_non_root(parts: &Parts, spec: &PodSpec) -> Result<(), ConfigError> {
    let container = &parts.member.container;
    if effective(spec, container, |own| &own.run_as_non_root, |pods| &pods.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let place = format!("(pod: \"{}\", container: {})", full_name(parts.context.pod), container.name);
    let user = effective(spec, container, |own| &own.run_as_user, |pods| &pods.run_as_user);
    let complaint = match (user, &parts.image.uid, parts.image.username.as_str()) {
        (Some(0), _, _) => format!("container's runAsUser breaks non-root policy {place}"),
        (Some(_), _, _) => return Ok(()),
        (None, Some(uid), _) if uid.value == 0 => {
            format!("container has runAsNonRoot and image will run as root {place}")
        }
        (None, Some(_), _) => return Ok(()),
        (None, None, "") => format!("container has runAsNonRoot and image will run as root {place}"),
        (None, None, user) => format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root {place}"
        ),
    };
    Err(ConfigError::NonRoot(complaint))
}

fn security_context(spec: &PodSpec, container: &Container) -> LinuxContainerSecurityContext {
    let own = container.security_context.clone().unwrap_or_default();
    let pods = spec.security_context.clone().unwrap_or_default();
    let mut groups = pods.supplemental_groups.clone().unwrap_or_default();
    groups.extend(pods.fs_group);
    let privileged = own.privileged.unwrap_or(false);
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| list.iter().filter(|_| !unmasked).map(|path| (*path).to_owned()).collect();
    let user = effective(spec, container, |own| &own.run_as_user, |pods| &pods.run_as_user);
    let group = effective(spec, container, |own| &own.run_as_group, |pods| &pods.run_as_group);
    let seccomp = effective(spec, container, |own| &own.seccomp_profile, |pods| &pods.seccomp_profile);
    let strict = pods.supplemental_groups_policy.as_deref() == Some("Strict");
    let policy = if strict { SupplementalGroupsPolicy::Strict } else { SupplementalGroupsPolicy::Merge };
    LinuxContainerSecurityContext {
        capabilities: own.capabilities.map(|capabilities| Capability {
            add_capabilities: capabilities.add.unwrap_or_default(),
            drop_capabilities: capabilities.drop.unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: Some(namespaces(spec)),
        run_as_user: user.map(|value| Int64Value { value }),
        run_as_group: group.map(|value| Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups,
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED_PATHS),
        readonly_paths: paths(&READONLY_PATHS),
        seccomp: seccomp.map(|profile| seccomp_profile(&profile)),
        supplemental_groups_policy: policy as i32,
        ..LinuxContainerSecurityContext::default()
    }
}

fn seccomp_profile(profile: &SeccompProfile) -> SecurityProfile {
    let profile_type = match profile.type_.as_str() {
        "RuntimeDefault" => ProfileType::RuntimeDefault,
        "Localhost" => ProfileType::Localhost,
        _ => ProfileType::Unconfined,
    };
    SecurityProfile {
        profile_type: profile_type as i32,
        localhost_ref: profile.localhost_profile.clone().unwrap_or_default(),
    }
}
