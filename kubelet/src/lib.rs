//! The kubelet: runs the pods bound to its node, through CRI, and reports what became of them.
//!
//! Entry: [`run`] (a process) and [`start`] (inside another one, for simulation). Invariant: everything that decides
//! (`lifecycle`, `actions`, `status`, the plans of volumes and environments) is a function from data to data.

mod actions;
mod admit;
mod args;
mod backoff;
mod carry_out;
mod checks;
mod config;
mod container_config;
mod directory_watch;
mod dns;
mod downward;
mod env;
mod health;
mod images;
mod lifecycle;
mod log_rotation;
mod members;
mod node;
mod observer;
mod pod_workers;
mod probes;
mod proxy;
mod references;
mod resources;
mod runtime;
mod sandbox_config;
mod server;
mod shared;
mod sources;
mod start;
mod status;
mod status_writer;
mod stop;
mod view;
mod volumes;
mod worker;

pub use args::{Args, run};
pub use config::{Host, KubeletConfig, ServerConfig};
pub use dns::Resolvers;
pub use proxy::{ProxyError, remove as remove_service_proxy};
pub use start::{Kubelet, StartError, start};
