//! The controller-manager: the loops that make what is match what was asked for.
//!
//! Entry points: [`run`] as a process, [`start`] in-process (tests, simulation). [`controllers::TABLE`] is the list of what it
//! does. Invariants: a controller observes, plans (a pure function), applies; only `apply` writes; time and chance
//! come from the clock and the generator that were passed in.

pub mod args;
pub mod backends;
pub mod context;
pub mod controllers;
pub mod daemon;
pub mod inventory;
pub mod pods;
pub mod replicas;
pub mod slices;
pub mod slow_start;
pub mod stores;

pub use args::{Args, Config};
pub use daemon::{run, start};
