//! What a shim is told about its container, and how it follows from CRI's request and the image. Mostly pure.
//!
//! Entry: [`Spec::build`]. Invariant: the shim needs nothing but this file; it never asks the server anything.

use std::path::PathBuf;

use cri::v1;
use serde::{Deserialize, Serialize};

use crate::accounts::UserName;
use crate::capabilities::Capabilities;
use crate::cgroups::Limits;

/// Paths under /proc and /sys that tell or change more than a container should.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything about a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Its id.
    pub id: String,
    /// The root filesystem.
    pub rootfs: Rootfs,
    /// Its first process.
    pub process: Process,
    /// What it shares with its pod or the host.
    pub namespaces: Namespaces,
    /// In the order in which they are made.
    pub mounts: Vec<Mount>,
    /// Devices of the host: path there, path in the container.
    pub devices: Vec<(PathBuf, PathBuf)>,
    /// Hidden.
    pub masked_paths: Vec<String>,
    /// Not writable.
    pub readonly_paths: Vec<String>,
    /// As much of the host as there is.
    pub privileged: bool,
    /// Path of its cgroup below each hierarchy's root.
    pub cgroup: String,
    /// What it may use.
    pub limits: Limits,
    /// How likely it dies first when memory is short.
    pub oom_score_adj: i64,
    /// Where its output goes.
    pub log_path: Option<PathBuf>,
    /// Whether its stdin stays open for those who attach.
    pub stdin: bool,
    /// Whether stdin ends with the first who attached.
    pub stdin_once: bool,
}

/// Layers and the directory for changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rootfs {
    /// The topmost first.
    pub lower: Vec<PathBuf>,
    /// Whether the container may change it.
    pub readonly: bool,
}

/// A process in a container: the first, or one executed later.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where it starts.
    pub cwd: String,
    /// Who it runs as, looked up in the image's files.
    pub user: UserName,
    /// More groups.
    pub groups: Vec<u32>,
    /// Whether the user's groups in the image count too.
    pub image_groups: bool,
    /// What it may do as root.
    pub capabilities: Capabilities,
    /// Whether setuid programs have no effect.
    pub no_new_privileges: bool,
    /// Whether it gets a terminal.
    pub tty: bool,
}

/// What a container shares. None means the host's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Namespaces {
    /// File of the pod's network namespace.
    pub network: Option<PathBuf>,
    /// File of the pod's IPC namespace.
    pub ipc: Option<PathBuf>,
    /// File of the pod's UTS namespace (its host name).
    pub uts: Option<PathBuf>,
    /// Whose processes it sees.
    pub pid: PidNamespace,
}

/// Whose processes a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidNamespace {
    /// Only its own.
    #[default]
    Own,
    /// All of the machine's.
    Host,
    /// Those of the namespace in this file.
    Of(PathBuf),
}

/// A bind mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub target: PathBuf,
    /// Not writable.
    pub readonly: bool,
    /// Nor mounts below it.
    pub recursive_readonly: bool,
    /// Mounts that the host makes below it later appear.
    pub follows_host: bool,
}

/// What of an image matters to a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageProcess {
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Default arguments.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where to start.
    pub working_dir: String,
    /// `user`, `user:group`, in names or numbers.
    pub user: String,
    /// Name or number of the signal that asks it to end.
    pub stop_signal: String,
}

/// Why a request makes no container.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    /// Neither the pod nor the image says what to run.
    #[error("no command specified")]
    NoCommand,
    /// A capability nobody knows.
    #[error("unknown capability {0:?}")]
    Capability(String),
    /// Something that this runtime does not offer.
    #[error("{0} are not supported by this runtime")]
    Unsupported(&'static str),
}

/// The places on this machine that a spec refers to.
#[derive(Clone, Debug)]
pub struct Places {
    /// Container id.
    pub id: String,
    /// The image's layers, the topmost first.
    pub layers: Vec<PathBuf>,
    /// Namespaces of the pod.
    pub namespaces: Namespaces,
    /// The pod's /dev/shm.
    pub shm: PathBuf,
    /// Files that the runtime provides unless the kubelet does: source, target.
    pub files: Vec<(PathBuf, &'static str)>,
    /// Path of its cgroup.
    pub cgroup: String,
}

impl Spec {
    /// From CRI's request, the image and the places on this machine.
    pub fn build(
        config: &v1::ContainerConfig,
        sandbox: &v1::PodSandboxConfig,
        image: &ImageProcess,
        places: Places,
    ) -> Result<Self, SpecError> {
        let linux = config.linux.clone().unwrap_or_default();
        let security = linux.security_context.unwrap_or_default();
        let resources = linux.resources.unwrap_or_default();
        refuse_unsupported(config, &security)?;
        let privileged = security.privileged;
        let paths = |given: &[String], usual: &[&str]| match (privileged, given.is_empty()) {
            (true, _) => Vec::new(),
            (false, false) => given.to_vec(),
            (false, true) => usual.iter().map(|p| (*p).to_owned()).collect(),
        };
        Ok(Self {
            rootfs: Rootfs { lower: places.layers.clone(), readonly: security.readonly_rootfs },
            process: process(config, sandbox, &security, image)?,
            mounts: mounts(config, &places),
            namespaces: places.namespaces,
            devices: config.devices.iter().map(|d| (d.host_path.clone().into(), target_of(d))).collect(),
            masked_paths: paths(&security.masked_paths, &MASKED),
            readonly_paths: paths(&security.readonly_paths, &READONLY),
            privileged,
            cgroup: places.cgroup,
            limits: Limits::from(&resources),
            oom_score_adj: resources.oom_score_adj,
            log_path: Some(crate::record::log_path(sandbox, config)).filter(|p| !p.is_empty()).map(PathBuf::from),
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            id: places.id,
        })
    }
}

/// Better no container than one that is not what was asked for.
fn refuse_unsupported(
    config: &v1::ContainerConfig,
    security: &v1::LinuxContainerSecurityContext,
) -> Result<(), SpecError> {
    let localhost = |profile: &Option<v1::SecurityProfile>| {
        profile.as_ref().is_some_and(|p| p.profile_type() == v1::security_profile::ProfileType::Localhost)
    };
    let namespaces = security.namespace_options.as_ref().and_then(|o| o.userns_options.as_ref());
    if config.mounts.iter().any(|m| m.image.is_some()) {
        return Err(SpecError::Unsupported("image volumes"));
    }
    if namespaces.is_some_and(|n| n.mode() == v1::NamespaceMode::Pod && !n.uids.is_empty()) {
        return Err(SpecError::Unsupported("user namespaces"));
    }
    if localhost(&security.seccomp) || localhost(&security.apparmor) {
        return Err(SpecError::Unsupported("seccomp and AppArmor profiles of the node"));
    }
    Ok(())
}

fn target_of(device: &v1::Device) -> PathBuf {
    let path = if device.container_path.is_empty() { &device.host_path } else { &device.container_path };
    path.into()
}

fn process(
    config: &v1::ContainerConfig,
    sandbox: &v1::PodSandboxConfig,
    security: &v1::LinuxContainerSecurityContext,
    image: &ImageProcess,
) -> Result<Process, SpecError> {
    let args = arguments(&config.command, &config.args, image)?;
    let cwd = [&config.working_dir, &image.working_dir].into_iter().find(|d| !d.is_empty());
    let hostname = format!("HOSTNAME={}", sandbox.hostname);
    let mut env = vec![PATH.to_owned()];
    env.extend((!sandbox.hostname.is_empty()).then_some(hostname));
    env.extend(config.tty.then(|| "TERM=xterm".to_owned()));
    env.extend(image.env.iter().cloned());
    env.extend(config.envs.iter().map(|e| format!("{}={}", e.key, e.value)));
    Ok(Process {
        args,
        env: last_of_each_name(env),
        cwd: cwd.cloned().unwrap_or_else(|| "/".to_owned()),
        user: user(security, image)?,
        groups: security.supplemental_groups.iter().filter_map(|g| u32::try_from(*g).ok()).collect(),
        image_groups: security.supplemental_groups_policy() == v1::SupplementalGroupsPolicy::Merge,
        capabilities: capabilities(security)?,
        no_new_privileges: security.no_new_privs,
        tty: config.tty,
    })
}

/// Kubernetes' rule: a command replaces entrypoint and cmd, arguments alone replace only cmd.
fn arguments(command: &[String], args: &[String], image: &ImageProcess) -> Result<Vec<String>, SpecError> {
    let all: Vec<String> = match (command.is_empty(), args.is_empty()) {
        (true, true) => image.entrypoint.iter().chain(&image.cmd).cloned().collect(),
        (true, false) => image.entrypoint.iter().chain(args).cloned().collect(),
        (false, _) => command.iter().chain(args).cloned().collect(),
    };
    if all.first().is_none_or(String::is_empty) { Err(SpecError::NoCommand) } else { Ok(all) }
}

/// The last setting of a name counts, at the place of its first.
fn last_of_each_name(env: Vec<String>) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut kept: Vec<String> = Vec::with_capacity(env.len());
    for entry in env {
        match kept.iter_mut().find(|k| name(k) == name(&entry)) {
            Some(earlier) => *earlier = entry,
            None => kept.push(entry),
        }
    }
    kept
}

fn user(security: &v1::LinuxContainerSecurityContext, image: &ImageProcess) -> Result<UserName, SpecError> {
    let given = match (&security.run_as_user, security.run_as_username.is_empty()) {
        (Some(uid), _) => Some(uid.value.to_string()),
        (None, false) => Some(security.run_as_username.clone()),
        (None, true) => None,
    };
    let mut name = match given {
        Some(user) => UserName { user, group: None },
        None => UserName::parse(&image.user),
    };
    if let Some(gid) = &security.run_as_group {
        name.group = Some(gid.value.to_string());
    }
    Ok(name)
}

fn capabilities(security: &v1::LinuxContainerSecurityContext) -> Result<Capabilities, SpecError> {
    let asked = security.capabilities.clone().unwrap_or_default();
    if security.privileged {
        return Ok(Capabilities::all());
    }
    Capabilities::usual()
        .changed(&asked.add_capabilities, &asked.drop_capabilities, &asked.add_ambient_capabilities)
        .map_err(SpecError::Capability)
}

/// The kubelet's mounts, and the runtime's own files where the kubelet mounts nothing; shallow targets first.
fn mounts(config: &v1::ContainerConfig, places: &Places) -> Vec<Mount> {
    let asked = |target: &str| config.mounts.iter().any(|m| m.container_path.trim_end_matches('/') == target);
    let ours = places.files.iter().filter(|(_, target)| !asked(target)).map(|(source, target)| Mount {
        source: source.clone(),
        target: (*target).into(),
        readonly: false,
        recursive_readonly: false,
        follows_host: false,
    });
    let shm = (!asked("/dev/shm")).then(|| Mount {
        source: places.shm.clone(),
        target: "/dev/shm".into(),
        readonly: false,
        recursive_readonly: false,
        follows_host: false,
    });
    let theirs = config.mounts.iter().map(|m| Mount {
        source: m.host_path.clone().into(),
        target: m.container_path.clone().into(),
        readonly: m.readonly,
        recursive_readonly: m.recursive_read_only,
        follows_host: m.propagation() != v1::MountPropagation::PropagationPrivate,
    });
    let mut all: Vec<_> = ours.chain(shm).chain(theirs).collect();
    all.sort_by_key(|m| m.target.components().count());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn commands_and_arguments_combine() {
        let image = ImageProcess { entrypoint: words("/entry -x"), cmd: words("run"), ..Default::default() };
        for (command, args, all) in [
            ("", "", Some("/entry -x run")),
            ("", "a b", Some("/entry -x a b")),
            ("sh -c", "", Some("sh -c")),
            ("sh", "-c ls", Some("sh -c ls")),
        ] {
            assert_eq!(arguments(&words(command), &words(args), &image).ok(), all.map(words));
        }
        assert_eq!(arguments(&[], &[], &ImageProcess::default()), Err(SpecError::NoCommand));
    }

    #[test]
    fn the_last_value_of_a_name_counts() {
        assert_eq!(last_of_each_name(words("A=1 B=2 A=3 C=")), words("A=3 B=2 C="));
    }

    #[test]
    fn users_come_from_the_pod_or_the_image() {
        let image = ImageProcess { user: "web:www".to_owned(), ..Default::default() };
        let value = |value| Some(v1::Int64Value { value });
        let name = |security: v1::LinuxContainerSecurityContext| {
            let name = user(&security, &image).expect("valid");
            (name.user, name.group)
        };
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(name(Default::default()), ("web".to_owned(), some("www")));
        let uid = v1::LinuxContainerSecurityContext { run_as_user: value(7), ..Default::default() };
        assert_eq!(name(uid.clone()), ("7".to_owned(), None));
        let both = v1::LinuxContainerSecurityContext { run_as_group: value(8), ..uid };
        assert_eq!(name(both), ("7".to_owned(), some("8")));
    }

    #[test]
    fn the_kubelets_mount_replaces_ours() {
        let config = v1::ContainerConfig {
            mounts: vec![
                v1::Mount { container_path: "/a/b".to_owned(), host_path: "/h".to_owned(), ..Default::default() },
                v1::Mount { container_path: "/etc/hosts".to_owned(), host_path: "/k".to_owned(), ..Default::default() },
            ],
            ..Default::default()
        };
        let places = Places {
            id: String::new(),
            layers: Vec::new(),
            namespaces: Namespaces::default(),
            shm: "/shm".into(),
            files: vec![("/ours/hosts".into(), "/etc/hosts"), ("/ours/resolv".into(), "/etc/resolv.conf")],
            cgroup: String::new(),
        };
        let all = mounts(&config, &places);
        let sources: Vec<_> = all.iter().map(|m| m.source.to_string_lossy().into_owned()).collect();
        assert_eq!(sources, ["/ours/resolv", "/shm", "/h", "/k"]);
    }
}
