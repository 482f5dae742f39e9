//! The launcher: keeps clusters in folders, starts their components as processes, stops and deletes them.
//!
//! Entry point: [`cli::main`]. Invariant: what `start` began and could not finish, it takes away again.

pub mod cli;
mod cluster;
mod components;
mod delete;
mod images;
mod kubeconfig;
mod launch;
mod logs;
mod node;
mod pki;
mod progress;
mod ready;
mod start;
mod status;
mod stop;
