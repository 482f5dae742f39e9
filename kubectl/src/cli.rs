//! The command line: global flags and one variant for each verb.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::commands;
use crate::failure::Result;
use crate::session::Session;

/// kubectl controls the Kubernetes cluster manager.
#[derive(Debug, Parser)]
#[command(name = "kubectl", disable_version_flag = true, max_term_width = 120)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every verb.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Path to the kubeconfig file to use
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig context to use
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The namespace scope of this request
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// Username to impersonate
    #[arg(long = "as", global = true, value_name = "USER")]
    pub as_user: Option<String>,
    /// Group to impersonate, may be repeated
    #[arg(long = "as-group", global = true, value_name = "GROUP")]
    pub as_group: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a resource from a file or from stdin
    Create(commands::create::Args),
    /// Take a workload, service or pod and expose it as a new service
    Expose(commands::expose::Args),
    /// Run a particular image on the cluster
    Run(Box<commands::run::Args>),
    /// Set specific features on objects
    #[command(subcommand)]
    Set(commands::set::Command),
    /// Get documentation for a resource
    Explain(commands::explain::Args),
    /// Display one or many resources
    Get(commands::get::Args),
    /// Edit a resource on the server
    Edit(commands::edit::Args),
    /// Delete resources by file names, stdin, resources and names, or by resources and label selector
    Delete(commands::delete::Args),
    /// Manage the rollout of a resource
    #[command(subcommand)]
    Rollout(commands::rollout::Command),
    /// Set a new size for a replication controller, deployment, replica set or stateful set
    Scale(commands::scale::Args),
    /// Auto-scale a deployment, replica set, stateful set or replication controller
    Autoscale(commands::autoscale::Args),
    /// Approve or deny certificate signing requests
    #[command(subcommand)]
    Certificate(commands::certificate::Command),
    /// Display addresses of the control plane
    ClusterInfo,
    /// Mark node as unschedulable
    Cordon(commands::cordon::Args),
    /// Mark node as schedulable
    Uncordon(commands::cordon::Args),
    /// Drain node in preparation for maintenance
    Drain(commands::drain::Args),
    /// Update the taints on one or more nodes
    Taint(commands::taint::Args),
    /// Show details of a specific resource or group of resources
    Describe(commands::describe::Args),
    /// Print the logs for a container in a pod
    Logs(commands::logs::Args),
    /// Attach to a running container
    Attach(commands::exec::AttachArgs),
    /// Execute a command in a container
    Exec(commands::exec::Args),
    /// Forward one or more local ports to a pod
    PortForward(commands::port_forward::Args),
    /// Inspect authorization
    #[command(subcommand)]
    Auth(commands::auth::Command),
    /// List events
    Events(commands::events::Args),
    /// Diff the live version against a would-be applied version
    Diff(commands::diff::Args),
    /// Apply a configuration to a resource by file name or stdin
    Apply(commands::apply::Args),
    /// Update fields of a resource
    Patch(commands::patch::Args),
    /// Replace a resource by file name or stdin
    Replace(commands::replace::Args),
    /// Wait for a specific condition on one or many resources
    Wait(commands::wait::Args),
    /// Update the labels on a resource
    Label(commands::label::Args),
    /// Update the annotations on a resource
    Annotate(commands::label::Args),
    /// Print the supported API resources on the server
    ApiResources(commands::api_resources::Args),
    /// Print the supported API versions on the server, in the form of "group/version"
    ApiVersions,
    /// Modify kubeconfig files
    #[command(subcommand)]
    Config(commands::config::Command),
    /// Print the client and server version information
    Version(commands::version::Args),
}

/// Parses, or prints why not (or the help) and answers the exit code.
pub fn parse(argv: Vec<OsString>) -> std::result::Result<Cli, ExitCode> {
    Cli::try_parse_from(argv).map_err(|error| match error.kind() {
        ErrorKind::InvalidSubcommand => {
            eprintln!("{}", unknown_command(&error));
            ExitCode::FAILURE
        }
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ => {
            let _ = error.print();
            ExitCode::FAILURE
        }
    })
}

fn unknown_command(error: &clap::Error) -> String {
    let given = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(given)) => given.clone(),
        _ => String::new(),
    };
    let names: Vec<String> = Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let near = near(&given, names.iter().map(String::as_str));
    let mut text = format!("error: unknown command \"{given}\" for \"kubectl\"");
    if !near.is_empty() {
        text += "\n\nDid you mean this?";
        near.iter().for_each(|name| text += &format!("\n\t{name}"));
    }
    text
}

/// The candidates that one may have meant, the nearest first.
pub fn near<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Vec<String> {
    let given = given.to_lowercase();
    let mut ranked: Vec<(usize, &str)> = candidates
        .map(|candidate| (strsim::damerau_levenshtein(&given, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= 2.min(candidate.len() / 2) || (given.len() > 2 && candidate.starts_with(&given))
        })
        .collect();
    ranked.sort();
    ranked.dedup();
    ranked.into_iter().map(|(_, candidate)| candidate.to_owned()).collect()
}

/// Runs the verb.
pub async fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Version(args) if args.client => commands::version::client(),
        Command::Config(command) => commands::config::run(&cli.global, command),
        command => on_cluster(&Session::open(&cli.global).await?, command).await,
    }
}

async fn on_cluster(session: &Session, command: Command) -> Result<()> {
    match command {
        Command::Config(_) => unreachable!("needs no cluster"),
        Command::Create(args) => commands::create::run(session, args).await,
        Command::Expose(args) => commands::expose::run(session, args).await,
        Command::Run(args) => commands::run::run(session, *args).await,
        Command::Set(args) => commands::set::run(session, args).await,
        Command::Explain(args) => commands::explain::run(session, args).await,
        Command::Get(args) => commands::get::run(session, args).await,
        Command::Diff(args) => commands::diff::run(session, args).await,
        Command::Edit(args) => commands::edit::run(session, args).await,
        Command::Delete(args) => commands::delete::run(session, args).await,
        Command::Rollout(args) => commands::rollout::run(session, args).await,
        Command::Scale(args) => commands::scale::run(session, args).await,
        Command::Autoscale(args) => commands::autoscale::run(session, args).await,
        Command::Certificate(args) => commands::certificate::run(session, args).await,
        Command::ClusterInfo => commands::cluster_info::run(session).await,
        Command::Cordon(args) => commands::cordon::run(session, args, true).await,
        Command::Uncordon(args) => commands::cordon::run(session, args, false).await,
        Command::Drain(args) => commands::drain::run(session, args).await,
        Command::Taint(args) => commands::taint::run(session, args).await,
        Command::Describe(args) => commands::describe::run(session, args).await,
        Command::Logs(args) => commands::logs::run(session, args).await,
        Command::Attach(args) => commands::exec::attach_to(session, args).await,
        Command::Exec(args) => commands::exec::run(session, args).await,
        Command::PortForward(args) => commands::port_forward::run(session, args).await,
        Command::Auth(args) => commands::auth::run(session, args).await,
        Command::Events(args) => commands::events::run(session, args).await,
        Command::Apply(args) => commands::apply::run(session, args).await,
        Command::Patch(args) => commands::patch::run(session, args).await,
        Command::Replace(args) => commands::replace::run(session, args).await,
        Command::Wait(args) => commands::wait::run(session, args).await,
        Command::Label(args) => commands::label::run(session, args, commands::label::Map::Labels).await,
        Command::Annotate(args) => commands::label::run(session, args, commands::label::Map::Annotations).await,
        Command::ApiResources(args) => commands::api_resources::run(session, args).await,
        Command::ApiVersions => commands::api_versions::run(session).await,
        Command::Version(args) => commands::version::run(session, args).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn near_names_are_suggested() {
        assert_eq!(near("gte", ["get", "delete"].into_iter()), ["get"]);
        assert_eq!(near("descr", ["describe", "get"].into_iter()), ["describe"]);
        assert!(near("xyz", ["get"].into_iter()).is_empty());
    }
}
