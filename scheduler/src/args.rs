//! The flags of the scheduler's process.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Parser};

/// Chooses a node for every pod that has none.
#[derive(Clone, Debug, Parser)]
#[command(name = "kube-scheduler")]
pub struct Args {
    /// How to reach the API server and who to be.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,

    /// Work only while holding the Lease kube-system/kube-scheduler.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true",
        require_equals = true, value_name = "BOOL")]
    pub leader_elect: bool,

    /// Who this candidate is. Candidates must differ; by default it is the host and a random number. One that is known
    /// to be the only one of its name takes over from its own last life at once.
    #[arg(long, value_name = "NAME")]
    pub leader_elect_identity: Option<String>,

    /// Where to serve health and metrics.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub bind_address: IpAddr,

    /// The port of health and metrics; 0 serves none.
    #[arg(long, default_value_t = 10259, value_name = "PORT")]
    pub secure_port: u16,

    /// How much to log.
    #[command(flatten)]
    pub verbosity: process::logging::Verbosity,
}
