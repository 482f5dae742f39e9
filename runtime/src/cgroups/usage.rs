//! What a group has used.

use std::fs;
use std::path::Path;

use super::Hierarchies;

/// Figures of a group; zero where the machine does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of CPU time.
    pub cpu: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes that cannot be given back at once.
    pub working_set: u64,
    /// Bytes of anonymous memory.
    pub rss: u64,
    /// Minor page faults.
    pub page_faults: u64,
    /// Major page faults.
    pub major_page_faults: u64,
    /// Bytes of memory it may use; none without a limit.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub processes: u64,
}

impl Usage {
    pub(super) fn read(hierarchies: &Hierarchies, group: &Path) -> Self {
        let v1 = |controller: &str, file: &str| {
            let root = hierarchies.v1.get(controller)?;
            fs::read_to_string(root.join(group).join(file)).ok()
        };
        let v2 = |file: &str| {
            let (root, _) = hierarchies.v2.as_ref()?;
            fs::read_to_string(root.join(group).join(file)).ok()
        };
        let number = |text: Option<String>| text.and_then(|t| t.trim().parse::<u64>().ok());
        let of = |text: &Option<String>, key: &str| text.as_ref().and_then(|t| field(t, key));
        let stat = v1("memory", "memory.stat").or_else(|| v2("memory.stat"));
        let cpu2 = v2("cpu.stat");
        let cpu = number(v1("cpuacct", "cpuacct.usage")).or_else(|| Some(of(&cpu2, "usage_usec")? * 1000));
        let memory = number(v1("memory", "memory.usage_in_bytes").or_else(|| v2("memory.current"))).unwrap_or(0);
        let inactive = of(&stat, "total_inactive_file").or_else(|| of(&stat, "inactive_file")).unwrap_or(0);
        let limit = number(v1("memory", "memory.limit_in_bytes").or_else(|| v2("memory.max")));
        Self {
            cpu: cpu.unwrap_or(0),
            memory,
            working_set: memory.saturating_sub(inactive),
            rss: of(&stat, "total_rss").or_else(|| of(&stat, "anon")).unwrap_or(0),
            page_faults: of(&stat, "total_pgfault").or_else(|| of(&stat, "pgfault")).unwrap_or(0),
            major_page_faults: of(&stat, "total_pgmajfault").or_else(|| of(&stat, "pgmajfault")).unwrap_or(0),
            // Version 1 says "no limit" with the largest number of whole pages.
            memory_limit: limit.filter(|l| *l < 1 << 62),
            processes: number(v1("pids", "pids.current").or_else(|| v2("pids.current"))).unwrap_or(0),
        }
    }
}

/// The number after a key in a file of `key value` lines.
pub(super) fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.split_once(' ').filter(|(k, _)| *k == key)?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        assert_eq!(field(text, "oom_kill"), Some(2));
        assert_eq!(field(text, "oom"), None);
    }
}
