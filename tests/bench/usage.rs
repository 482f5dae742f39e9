//! CPU and memory of processes, from /proc.

use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use tests::cluster::Cluster;

/// How long a cluster is left alone before and while its idle cost is measured.
const IDLE: Duration = Duration::from_secs(10);

/// The machine, in a line.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .and_then(|line| line.split(':').nth(1))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "machine: {} × {}, {}, kernel {}",
        cores,
        field(&read("/proc/cpuinfo"), "model name"),
        field(&read("/proc/meminfo"), "MemTotal"),
        kernel.trim()
    )
}

/// User and system time of a process, children that it waited for excluded.
pub fn cpu(pid: i32) -> Duration {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    let ticks = || -> Option<i64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(11)?.parse::<i64>().ok()? + fields.get(12)?.parse::<i64>().ok()?)
    };
    Duration::from_secs_f64(ticks().unwrap_or_default() as f64 / per_second as f64)
}

/// Proportional memory of a process in MB: what it has alone, and its part of what it shares.
pub fn memory(pid: i32) -> f64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = rollup
        .lines()
        .find(|line| line.starts_with("Pss:"))
        .and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or_default() * 1024.0 / 1e6
}

/// Names and pids of a cluster's running processes.
pub fn processes(cluster: &Cluster) -> Vec<(String, i32)> {
    let status: serde_json::Value =
        serde_json::from_str(&cluster.kubelab(&["status", "-o", "json"]).stdout).unwrap_or_default();
    let components = status["components"].as_array().cloned().unwrap_or_default();
    components
        .iter()
        .filter_map(|component| {
            Some((component["name"].as_str()?.to_owned(), i32::try_from(component["pid"].as_i64()?).ok()?))
        })
        .collect()
}

/// Memory and CPU of each process of a cluster that nobody uses.
pub fn idle(cluster: &Cluster) {
    std::thread::sleep(IDLE);
    let processes = processes(cluster);
    let before: Vec<Duration> = processes.iter().map(|(_, pid)| cpu(*pid)).collect();
    std::thread::sleep(IDLE);
    let (mut all_memory, mut all_cpu) = (0.0, 0.0);
    for ((name, pid), before) in processes.iter().zip(before) {
        let percent = cpu(*pid).saturating_sub(before).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
        println!("idle {name:<29} {:>6.1} MB  {percent:>5.2} % of a core", memory(*pid));
        all_memory += memory(*pid);
        all_cpu += percent;
    }
    println!("idle {:<29} {all_memory:>6.1} MB  {all_cpu:>5.2} % of a core", "all together");
}
