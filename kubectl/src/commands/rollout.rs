//! `kubectl rollout`: how far a workload's new pods are, its earlier templates, and starting, pausing or taking back a change.

mod history;
mod status;

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use crate::manifest::Files;
use crate::output;
use crate::session::Session;
use crate::targets::{self, Selection, Target};

const MERGE: &str = "application/merge-patch+json";

/// What is wanted.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the status of the rollout
    Status(status::Args),
    /// View rollout history
    History(history::Args),
    /// Restart a resource
    Restart(Which),
    /// Mark the provided resource as paused
    Pause(Which),
    /// Resume a paused resource
    Resume(Which),
    /// Undo a previous rollout
    Undo(history::UndoArgs),
}

/// Which objects.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// TYPE NAME... or TYPE/NAME...
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Selector (label query)
    #[arg(short = 'l', long)]
    selector: Option<String>,
}

impl Which {
    async fn targets<'a>(&self, session: &'a Session) -> Result<Vec<Target<'a>>> {
        if self.args.is_empty() && self.files.is_empty() {
            return Err(Failure::usage("required resource not specified"));
        }
        let selection = Selection { selector: self.selector.clone(), ..Selection::default() };
        let all = self.args.len() == 1 && !self.args[0].contains('/');
        targets::resolve(session, &self.args, &selection, all, &self.files).await
    }
}

/// Runs it.
pub async fn run(session: &Session, command: Command) -> Result<()> {
    match command {
        Command::Status(args) => status::run(session, args).await,
        Command::History(args) => history::run(session, args).await,
        Command::Undo(args) => history::undo(session, args).await,
        Command::Restart(which) => each(session, &which, restart).await,
        Command::Pause(which) => each(session, &which, |target, object| pause(target, object, true)).await,
        Command::Resume(which) => each(session, &which, |target, object| pause(target, object, false)).await,
    }
}

/// Patches each object as `plan` says, with the word that says what was done.
async fn each(
    session: &Session,
    which: &Which,
    plan: impl Fn(&Target<'_>, &Value) -> Result<(Value, &'static str)>,
) -> Result<()> {
    let mut failures = Vec::new();
    for target in &which.targets(session).await? {
        let result = async {
            let (patch, done) = plan(target, &target.get(session).await?)?;
            let path = format!("{}?fieldManager=kubectl-rollout", target.path());
            session.send(Method::PATCH, &path, MERGE, &patch).await?;
            output::line(&format!("{} {done}", target.display()))
        };
        failures.extend(result.await.err());
    }
    Failure::join(failures)
}

fn about(target: &Target<'_>, why: &str) -> Failure {
    Failure::usage(format!("{} \"{}\" {why}", target.resource.full_name(), target.name))
}

fn restart(target: &Target<'_>, object: &Value) -> Result<(Value, &'static str)> {
    if !["deployments", "daemonsets", "statefulsets"].contains(&target.resource.plural.as_str()) {
        return Err(about(target, "restarting is not supported"));
    }
    if object["spec"]["paused"] == true {
        return Err(about(target, "can't restart paused deployment (run rollout resume first)"));
    }
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let annotations = json!({"kubectl.kubernetes.io/restartedAt": now});
    Ok((json!({"spec": {"template": {"metadata": {"annotations": annotations}}}}), "restarted"))
}

fn pause(target: &Target<'_>, object: &Value, paused: bool) -> Result<(Value, &'static str)> {
    if target.resource.plural != "deployments" {
        return Err(about(target, if paused { "pausing is not supported" } else { "resuming is not supported" }));
    }
    if (object["spec"]["paused"] == true) == paused {
        return Err(about(target, if paused { "is already paused" } else { "is not paused" }));
    }
    Ok((json!({"spec": {"paused": paused.then_some(true)}}), if paused { "paused" } else { "resumed" }))
}
