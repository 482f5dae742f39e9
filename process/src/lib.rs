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
