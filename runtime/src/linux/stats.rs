//! What containers and pods use, as CRI tells it.

use std::sync::PoisonError;

use cri::v1;

use super::Linux;
use crate::cgroups::Usage;
use crate::record::{Container, Sandbox};

/// CPU time at some moment, to tell a rate at the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    timestamp: i64,
    cpu: u64,
    rate: u64,
}

impl Linux {
    /// Figures of a container.
    pub fn container_stats(&self, container: &Container) -> v1::ContainerStats {
        let attributes = Some(container.attributes());
        let Ok(known) = self.known_container(&container.id) else {
            return v1::ContainerStats { attributes, ..Default::default() };
        };
        let usage = self.hierarchies.usage(&known.cgroup);
        let timestamp = self.now();
        let rate = self.rate(&container.id, timestamp, usage.cpu);
        v1::ContainerStats {
            attributes,
            cpu: Some(cpu(timestamp, usage.cpu, rate)),
            memory: Some(memory(timestamp, &usage)),
            writable_layer: None,
            swap: None,
        }
    }

    /// Figures of a pod: the sums of its containers, and its network.
    pub fn sandbox_stats(&self, sandbox: &Sandbox) -> v1::PodSandboxStats {
        let of_pod = self.containers().into_iter().filter(|c| c.sandbox_id == sandbox.id && c.is_running());
        let containers: Vec<_> = of_pod.map(|c| self.container_stats(&c)).collect();
        let usages = self.lock().containers.values().filter(|c| c.container.sandbox_id == sandbox.id).fold(
            Usage::default(),
            |mut sum, known| {
                let usage = self.hierarchies.usage(&known.cgroup);
                sum.cpu += usage.cpu;
                sum.memory += usage.memory;
                sum.working_set += usage.working_set;
                sum.rss += usage.rss;
                sum.page_faults += usage.page_faults;
                sum.major_page_faults += usage.major_page_faults;
                sum.processes += usage.processes;
                sum
            },
        );
        let timestamp = self.now();
        let rate = containers.iter().filter_map(|c| c.cpu.as_ref()?.usage_nano_cores.as_ref()).map(|v| v.value).sum();
        v1::PodSandboxStats {
            attributes: Some(v1::PodSandboxAttributes {
                id: sandbox.id.clone(),
                metadata: sandbox.config.metadata.clone(),
                labels: sandbox.config.labels.clone(),
                annotations: sandbox.config.annotations.clone(),
            }),
            linux: Some(v1::LinuxPodSandboxStats {
                cpu: Some(cpu(timestamp, usages.cpu, rate)),
                memory: Some(memory(timestamp, &usages)),
                network: crate::network::traffic(&sandbox.id).map(|counts| network(timestamp, counts)),
                process: Some(v1::ProcessUsage { timestamp, process_count: value(usages.processes) }),
                containers,
            }),
        }
    }

    fn rate(&self, id: &str, timestamp: i64, cpu: u64) -> u64 {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let before = samples.get(id).copied();
        let rate = match before {
            Some(before) if timestamp - before.timestamp < 1_000_000_000 => return before.rate,
            Some(before) => {
                let passed = u128::try_from(timestamp - before.timestamp).unwrap_or(1);
                let rate = u128::from(cpu.saturating_sub(before.cpu)) * 1_000_000_000 / passed;
                u64::try_from(rate).unwrap_or(u64::MAX)
            }
            None => 0,
        };
        samples.insert(id.to_owned(), Sample { timestamp, cpu, rate });
        rate
    }
}

fn value(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

fn cpu(timestamp: i64, total: u64, rate: u64) -> v1::CpuUsage {
    v1::CpuUsage { timestamp, usage_core_nano_seconds: value(total), usage_nano_cores: value(rate) }
}

fn memory(timestamp: i64, usage: &Usage) -> v1::MemoryUsage {
    v1::MemoryUsage {
        timestamp,
        working_set_bytes: value(usage.working_set),
        available_bytes: usage.memory_limit.and_then(|limit| value(limit.saturating_sub(usage.working_set))),
        usage_bytes: value(usage.memory),
        rss_bytes: value(usage.rss),
        page_faults: value(usage.page_faults),
        major_page_faults: value(usage.major_page_faults),
    }
}

fn network(timestamp: i64, [rx, rx_errors, tx, tx_errors]: [u64; 4]) -> v1::NetworkUsage {
    let eth0 = v1::NetworkInterfaceUsage {
        name: "eth0".to_owned(),
        rx_bytes: value(rx),
        rx_errors: value(rx_errors),
        tx_bytes: value(tx),
        tx_errors: value(tx_errors),
    };
    v1::NetworkUsage { timestamp, default_interface: Some(eth0), interfaces: Vec::new() }
}
