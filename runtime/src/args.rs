//! The command line of the runtime as a process.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Which runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Linux where the machine allows it, simulated elsewhere.
    Auto,
    /// Real containers.
    Linux,
    /// Containers on paper.
    Simulated,
}

/// The built-in container runtime: serves CRI on a unix socket.
#[derive(Clone, Debug, Parser)]
#[command(name = "runtime", version)]
pub struct Args {
    /// The socket to serve
    #[arg(long, default_value = "unix:///run/kubelab/runtime.sock")]
    pub listen: String,
    /// Directory of the images
    #[arg(long, default_value = "/var/lib/kubelab/runtime")]
    pub root: PathBuf,
    /// Directory of the sandboxes and containers
    #[arg(long, default_value = "/run/kubelab/runtime")]
    pub state: PathBuf,
    /// Where pod IPs come from; a kubelet may set it later
    #[arg(long)]
    pub pod_cidr: Option<String>,
    /// Real containers, or simulated ones
    #[arg(long, value_enum, default_value_t = Kind::Auto)]
    pub runtime: Kind,
    /// Name of the node, for what simulated containers say
    #[arg(long, default_value = "")]
    pub node_name: String,
    /// More log lines with each
    #[arg(short, action = clap::ArgAction::Count)]
    pub verbosity: u8,
}
