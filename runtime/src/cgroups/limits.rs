//! What a container may use, and which control files say so. Pure.

use std::collections::BTreeMap;

use cri::v1::LinuxContainerResources;
use serde::{Deserialize, Serialize};

use super::Setting;

/// The kernel's own bounds for CPU shares and quota.
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const PERIOD: i64 = 100_000;

/// Limits of a container; 0 and empty mean none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Weight of its CPU time against others'.
    pub cpu_shares: i64,
    /// Microseconds of CPU time per period.
    pub cpu_quota: i64,
    /// Microseconds.
    pub cpu_period: i64,
    /// Bytes.
    pub memory: i64,
    /// CPUs it may run on, such as `0-1`.
    pub cpuset_cpus: String,
    /// Memory nodes it may use.
    pub cpuset_mems: String,
    /// Files of version 2, set as they are; `pids.max` also in version 1.
    pub unified: BTreeMap<String, String>,
}

impl From<&LinuxContainerResources> for Limits {
    fn from(resources: &LinuxContainerResources) -> Self {
        Self {
            cpu_shares: resources.cpu_shares,
            cpu_quota: resources.cpu_quota,
            cpu_period: resources.cpu_period,
            memory: resources.memory_limit_in_bytes,
            cpuset_cpus: resources.cpuset_cpus.clone(),
            cpuset_mems: resources.cpuset_mems.clone(),
            unified: resources.unified.clone(),
        }
    }
}

impl Limits {
    /// Whether it is bound to some CPUs or memory nodes.
    pub fn has_cpuset(&self) -> bool {
        !self.cpuset_cpus.is_empty() || !self.cpuset_mems.is_empty()
    }

    /// The files of version 1.
    pub(super) fn v1(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        let mut add = |controller, file: &str, value: String, optional| {
            settings.push(Setting { controller, file: file.to_owned(), value, optional });
        };
        if self.cpu_shares > 0 {
            add("cpu", "cpu.shares", self.cpu_shares.clamp(MIN_SHARES, MAX_SHARES).to_string(), false);
        }
        if self.cpu_quota != 0 {
            add("cpu", "cpu.cfs_period_us", self.period().to_string(), true);
            add("cpu", "cpu.cfs_quota_us", self.cpu_quota.to_string(), true);
        }
        if self.memory > 0 {
            add("memory", "memory.limit_in_bytes", self.memory.to_string(), false);
            add("memory", "memory.memsw.limit_in_bytes", self.memory.to_string(), true);
        }
        if !self.cpuset_cpus.is_empty() {
            add("cpuset", "cpuset.cpus", self.cpuset_cpus.clone(), false);
        }
        if !self.cpuset_mems.is_empty() {
            add("cpuset", "cpuset.mems", self.cpuset_mems.clone(), false);
        }
        if let Some(pids) = self.unified.get("pids.max") {
            add("pids", "pids.max", pids.clone(), false);
        }
        settings
    }

    /// The files of version 2.
    pub(super) fn v2(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        let mut add = |controller, file: &str, value: String, optional| {
            settings.push(Setting { controller, file: file.to_owned(), value, optional });
        };
        if self.cpu_shares > 0 {
            add("cpu", "cpu.weight", weight(self.cpu_shares).to_string(), false);
        }
        if self.cpu_quota != 0 {
            let quota = if self.cpu_quota > 0 { self.cpu_quota.to_string() } else { "max".to_owned() };
            add("cpu", "cpu.max", format!("{quota} {}", self.period()), true);
        }
        if self.memory > 0 {
            add("memory", "memory.max", self.memory.to_string(), false);
            add("memory", "memory.swap.max", "0".to_owned(), true);
        }
        if !self.cpuset_cpus.is_empty() {
            add("cpuset", "cpuset.cpus", self.cpuset_cpus.clone(), false);
        }
        if !self.cpuset_mems.is_empty() {
            add("cpuset", "cpuset.mems", self.cpuset_mems.clone(), false);
        }
        for (file, value) in self.unified.iter().filter(|(file, _)| !file.contains('/')) {
            let prefix = file.split('.').next().unwrap_or_default();
            let known = ["cpu", "memory", "pids", "cpuset", "io"].into_iter().find(|c| *c == prefix);
            if let Some(controller) = known {
                add(controller, file, value.clone(), false);
            }
        }
        settings
    }

    fn period(&self) -> i64 {
        if self.cpu_period > 0 { self.cpu_period } else { PERIOD }
    }
}

/// Version 1's shares (2 to 262144) as version 2's weight (1 to 10000).
fn weight(shares: i64) -> i64 {
    1 + (shares.clamp(MIN_SHARES, MAX_SHARES) - MIN_SHARES) * 9999 / (MAX_SHARES - MIN_SHARES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(settings: &[Setting]) -> Vec<String> {
        settings.iter().map(|s| format!("{}={}", s.file, s.value)).collect()
    }

    #[test]
    fn shares_become_weights() {
        assert_eq!([2, 1024, 262_144, 0, 1 << 40].map(weight), [1, 39, 10_000, 1, 10_000]);
    }

    #[test]
    fn limits_become_files() {
        let limits = Limits {
            cpu_shares: 512,
            cpu_quota: 50_000,
            memory: 1 << 20,
            unified: [("pids.max".to_owned(), "100".to_owned()), ("../x".to_owned(), "1".to_owned())].into(),
            ..Default::default()
        };
        assert_eq!(
            files(&limits.v1()),
            [
                "cpu.shares=512",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "memory.limit_in_bytes=1048576",
                "memory.memsw.limit_in_bytes=1048576",
                "pids.max=100"
            ]
        );
        assert_eq!(
            files(&limits.v2()),
            ["cpu.weight=20", "cpu.max=50000 100000", "memory.max=1048576", "memory.swap.max=0", "pids.max=100"]
        );
        assert!(files(&Limits::default().v1()).is_empty() && files(&Limits::default().v2()).is_empty());
    }
}
