//! What a process gets from its machine: time, chance, logs, signals, health.
//!
//! Invariant: no other crate reads the wall clock or draws random numbers by itself; with [`Clock::starting_at`] and
//! [`Rng::seeded`] on tokio's paused time a whole cluster runs the same way twice.

pub mod clock;
pub mod health;
pub mod logging;
pub mod metrics;
pub mod rng;
pub mod signals;

pub use clock::Clock;
pub use rng::Rng;

/// The name of this machine, for identities and logs.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}
