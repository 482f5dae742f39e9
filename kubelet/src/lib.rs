//! The kubelet: runs the pods bound to its node, through CRI, and reports what became of them.
//!
//! Entry: [`run`] (a process) and [`start`] (inside another one, for simulation). Invariant: everything that decides
//! (`lifecycle`, `actions`, `status`, the plans of volumes and environments) is a function from data to data.

mod actions;
mod dns;
mod downward;
mod env;
mod resources;
mod backoff;
mod health;
mod lifecycle;
mod members;
mod status;
mod view;
mod volumes;
