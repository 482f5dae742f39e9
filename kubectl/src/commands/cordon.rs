//! `kubectl cordon` and `uncordon`: whether a node takes new pods.

use http::Method;
use serde_json::json;

use super::DryRun;
use crate::failure::{Failure, Result};
use crate::manifest::Files;
use crate::output;
use crate::session::Session;
use crate::targets::{self, Selection, Target};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of nodes
    nodes: Vec<String>,
    /// Labels of the nodes
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Send nothing (client), or store nothing (server)
    #[arg(long, value_enum, default_value = "none", default_missing_value = "client", num_args = 0..=1, require_equals = true)]
    dry_run: DryRun,
}

/// Changes each node.
pub async fn run(session: &Session, args: Args, cordoned: bool) -> Result<()> {
    let mut failures = Vec::new();
    for node in nodes(session, &args.nodes, args.selector.as_ref()).await? {
        failures.extend(set(session, &node, cordoned, args.dry_run).await.err());
    }
    Failure::join(failures)
}

/// The nodes that names or a selector choose.
pub async fn nodes<'a>(session: &'a Session, names: &[String], selector: Option<&String>) -> Result<Vec<Target<'a>>> {
    if names.is_empty() && selector.is_none() {
        return Err(Failure::usage("error: one or more nodes must be specified as NAME or with a selector"));
    }
    let names = names.iter().map(|name| name.trim_start_matches("node/").trim_start_matches("nodes/").to_owned());
    let args: Vec<String> = std::iter::once("nodes".to_owned()).chain(names).collect();
    let selection = Selection { selector: selector.cloned(), ..Selection::default() };
    targets::resolve(session, &args, &selection, false, &Files::default()).await
}

/// Makes the node take new pods or not, and says so.
pub async fn set(session: &Session, node: &Target<'_>, cordoned: bool, dry_run: DryRun) -> Result<()> {
    let verb = if cordoned { "cordoned" } else { "uncordoned" };
    let is = node.get(session).await?["spec"]["unschedulable"] == true;
    let done = if is == cordoned { format!("already {verb}") } else { verb.to_owned() };
    if is != cordoned && dry_run != DryRun::Client {
        let patch = json!({"spec": {"unschedulable": cordoned.then_some(true)}});
        let path = format!("{}?fieldManager=kubectl-cordon{}", node.path(), dry_run.query());
        session.send(Method::PATCH, &path, "application/merge-patch+json", &patch).await?;
    }
    output::line(&format!("{} {done}{}", node.display(), dry_run.suffix()))
}
