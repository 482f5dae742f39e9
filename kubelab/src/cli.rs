//! The command line: the cluster's commands, and the components under their own names.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::cluster::Cluster;
use crate::{delete, images, launch, logs, node, start, status, stop};

/// A real Kubernetes in one binary: start a cluster in under a second, and see why it does what it does.
#[derive(Debug, Parser)]
#[command(name = "kubelab", version, propagate_version = true, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster, or continue one
    Start(start::Request),
    /// Stop a cluster; its objects stay
    Stop(Which),
    /// Stop a cluster and remove all of it
    Delete(Which),
    /// Show a cluster's processes and nodes
    Status {
        #[command(flatten)]
        which: Which,
        /// Output format
        #[arg(short, long, value_enum)]
        output: Option<status::Format>,
    },
    /// Show a component's log: apiserver, controller-manager, scheduler, kubelet
    Logs {
        /// The component
        component: String,
        /// Go on showing what is added
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        which: Which,
    },
    /// Run kubectl against a cluster: kubelab kubectl -- get pods
    Kubectl {
        #[command(flatten)]
        which: Which,
        /// kubectl's arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Container images of a cluster's nodes
    Image {
        #[command(subcommand)]
        command: images::Command,
    },
    /// Run the API server in the foreground
    #[command(hide = true)]
    Apiserver(apiserver::args::Args),
    /// Run the controller manager in the foreground
    #[command(hide = true)]
    ControllerManager(controller_manager::Args),
    /// Run the scheduler in the foreground
    #[command(hide = true)]
    Scheduler(scheduler::Args),
    /// Run a node, kubelet and runtime, in the foreground
    #[command(hide = true)]
    Kubelet(node::NodeArgs),
}

/// Which cluster.
#[derive(Debug, Args)]
pub struct Which {
    /// Name of the cluster
    #[arg(long, default_value = "kubelab", env = "KUBELAB_NAME")]
    pub name: String,
    /// Folder of the cluster, if it was started with --data-dir
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl Which {
    /// The cluster, which must exist.
    pub fn open(&self) -> Result<Cluster> {
        Cluster::open(&self.name, self.data_dir.as_deref())
    }
}

/// Runs the program that `argv` names.
pub fn main(argv: Vec<OsString>) -> ExitCode {
    let called =
        argv.first().map(|name| Path::new(name).file_name().unwrap_or_default().to_owned()).unwrap_or_default();
    if called == "kubectl" {
        return kubectl::main(argv);
    }
    let command = Cli::parse_from(argv).command;
    if let Command::Kubectl { which, args } = command {
        return run_kubectl(&which, args);
    }
    match runtime_for(&command).block_on(run(command)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kubelab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The API server may use every core; the others are idle most of the time, and one thread keeps them small.
fn runtime_for(command: &Command) -> tokio::runtime::Runtime {
    let mut builder = match command {
        Command::Apiserver(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build().expect("the kernel gives this process an event queue")
}

async fn run(command: Command) -> Result<bool> {
    launch::keep_inherited_files();
    match command {
        Command::Start(request) => start::run(request).await?,
        Command::Stop(which) => stop::run(&which.open()?).await?,
        Command::Delete(which) => delete::run(&which.open()?).await?,
        Command::Status { which, output } => return status::run(&which.open()?, output).await,
        Command::Logs { component, follow, which } => logs::run(&which.open()?, &component, follow)?,
        Command::Image { command } => images::run(command).await?,
        Command::Apiserver(args) => apiserver::run(args).await?,
        Command::ControllerManager(args) => controller_manager::run(args).await?,
        Command::Scheduler(args) => scheduler::run(args).await?,
        Command::Kubelet(args) => node::run(args).await?,
        Command::Kubectl { .. } => unreachable!("handled before the async runtime starts"),
    }
    Ok(true)
}

fn run_kubectl(which: &Which, args: Vec<OsString>) -> ExitCode {
    let cluster = match which.open() {
        Ok(cluster) => cluster,
        Err(error) => {
            eprintln!("kubelab: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut argv = vec![OsString::from("kubectl"), "--kubeconfig".into(), cluster.component_kubeconfig("admin").into()];
    argv.extend(args);
    kubectl::main(argv)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
