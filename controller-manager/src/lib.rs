//! The controller-manager: the loops that make what is match what was asked for.
//!
//! Entry points: [`start`] in-process, [`run`] as a process. Invariant: a controller observes, plans (pure), applies; only `apply` writes.

pub mod backends;
pub mod pods;
pub mod replicas;
pub mod slow_start;
pub mod controllers;
