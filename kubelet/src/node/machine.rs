//! What the machine is and has, read from /proc and its file system.
//!
//! Entry: [`capacity`], [`info`], [`pressure`]. Invariant: nothing here is read on a simulated node.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use api::Quantity;
use k8s_openapi::api::core::v1::NodeSystemInfo;
use nix::sys::statvfs::statvfs;

use crate::config::Host;

/// What a node is short of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
}

/// The machine's cpus, memory and disk.
pub(super) fn capacity(root_dir: &Path) -> BTreeMap<String, Quantity> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = memory_bytes() / 1024;
    let disk = statvfs(root_dir).map_or(0, |fs| fs.blocks().saturating_mul(fs.fragment_size()) / 1024);
    let texts =
        [("cpu", cpus.to_string()), ("memory", format!("{memory}Ki")), ("ephemeral-storage", format!("{disk}Ki"))];
    texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Quantity::parse(&text).ok()?))).collect()
}

/// The machine's memory.
pub fn memory_bytes() -> i64 {
    memory_line("MemTotal:").unwrap_or(0)
}

fn memory_line(name: &str) -> Option<i64> {
    let table = fs::read_to_string("/proc/meminfo").ok()?;
    let line = table.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<i64>().ok().map(|kib| kib * 1024)
}

/// The architecture as Kubernetes (Go) calls it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What runs on the machine.
pub(super) fn info(host: &Host, node: &str, version: &str, runtime_version: String) -> NodeSystemInfo {
    let read = |path: &str| match host {
        Host::Machine { .. } => fs::read_to_string(path).unwrap_or_default().trim().to_owned(),
        Host::Simulated { .. } => String::new(),
    };
    let release = read("/etc/os-release");
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let simulated = host.is_simulated();
    let or = |text: String, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { text };
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: or(read("/proc/sys/kernel/random/boot_id"), node),
        container_runtime_version: runtime_version,
        kernel_version: or(read("/proc/sys/kernel/osrelease"), "simulated"),
        kube_proxy_version: String::new(),
        kubelet_version: version.to_owned(),
        machine_id: or(read("/etc/machine-id"), node),
        operating_system: "linux".into(),
        os_image: pretty
            .map_or(if simulated { "simulated" } else { "Linux" }.to_owned(), |text| text.trim_matches('"').into()),
        system_uuid: or(read("/sys/class/dmi/id/product_uuid"), node),
        ..NodeSystemInfo::default()
    }
}

/// What the machine is short of now.
pub(super) fn pressure(host: &Host) -> Pressure {
    let Host::Machine { root_dir, thresholds, .. } = host else { return Pressure::default() };
    let bytes = |name| memory_line(name).and_then(|bytes| u64::try_from(bytes).ok());
    let memory = bytes("MemAvailable:").zip(bytes("MemTotal:"));
    let disk = statvfs(root_dir.as_path()).is_ok_and(|fs| {
        let size = fs.fragment_size();
        let (free, all) = (fs.blocks_available().saturating_mul(size), fs.blocks().saturating_mul(size));
        thresholds.is_short("nodefs.available", free, all)
            || thresholds.is_short("nodefs.inodesFree", fs.files_available(), fs.files())
    });
    Pressure {
        memory: memory.is_some_and(|(free, all)| thresholds.is_short("memory.available", free, all)),
        disk,
        pids: pids().is_some_and(|(free, all)| thresholds.is_short("pid.available", free, all)),
    }
}

/// How many more processes there can be, and how many at all: the fourth word of loadavg is `running/all`.
fn pids() -> Option<(u64, u64)> {
    let most: u64 = fs::read_to_string("/proc/sys/kernel/pid_max").ok()?.trim().parse().ok()?;
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let all: u64 = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some((most.saturating_sub(all), most))
}
