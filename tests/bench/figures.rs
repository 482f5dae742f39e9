//! Samples and how they are printed.

use std::time::Duration;

use super::usage;

/// Latencies of one kind of request, and what they took together.
pub struct Samples {
    name: String,
    each: Vec<Duration>,
    wall: Duration,
    cpu: Vec<Duration>,
}

impl Samples {
    /// Of requests that took `each` and `wall` together, while each server process used its `cpu`.
    pub fn new(name: &str, mut each: Vec<Duration>, wall: Duration, cpu: Vec<Duration>) -> Self {
        each.sort();
        Self { name: name.to_owned(), each, wall, cpu }
    }

    fn percentile(&self, percent: usize) -> f64 {
        let index = (self.each.len() * percent / 100).min(self.each.len().saturating_sub(1));
        self.each.get(index).map_or(0.0, |sample| sample.as_secs_f64() * 1000.0)
    }

    /// One line.
    pub fn print(&self) {
        let count = self.each.len();
        let rate = count as f64 / self.wall.as_secs_f64();
        let part = |cpu: &Duration| format!("{:>7.3}", cpu.as_secs_f64() * 1000.0 / count.max(1) as f64);
        let parts: Vec<String> = self.cpu.iter().map(part).collect();
        let cpu = if parts.is_empty() { String::new() } else { format!("  {} ms CPU each", parts.join(" +")) };
        println!(
            "{:<34} {count:>6} × p50 {:>7.2} ms  p99 {:>7.2} ms  {rate:>8.0}/s{cpu}",
            self.name,
            self.percentile(50),
            self.percentile(99)
        );
    }
}

/// CPU that each of the servers used between two points.
pub struct CpuMeter<'a> {
    pids: &'a [i32],
    before: Vec<Duration>,
}

impl<'a> CpuMeter<'a> {
    /// Begins.
    pub fn begin(pids: &'a [i32]) -> Self {
        Self { pids, before: pids.iter().map(|pid| usage::cpu(*pid)).collect() }
    }

    /// What each used since.
    pub fn used(&self) -> Vec<Duration> {
        self.pids.iter().zip(&self.before).map(|(pid, before)| usage::cpu(*pid).saturating_sub(*before)).collect()
    }
}
