//! `kubectl certificate approve` and `deny`.

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use crate::manifest::Files;
use crate::output;
use crate::session::Session;
use crate::targets::{self, Selection, Target};

/// The decision.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Approve a certificate signing request
    Approve(Args),
    /// Deny a certificate signing request
    Deny(Args),
}

/// Which requests.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of requests
    names: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Decide again
    #[arg(long)]
    force: bool,
}

/// Decides on each request.
pub async fn run(session: &Session, command: Command) -> Result<()> {
    let (args, condition, other, done) = match command {
        Command::Approve(args) => (args, "Approved", "Denied", "approved"),
        Command::Deny(args) => (args, "Denied", "Approved", "denied"),
    };
    if args.names.is_empty() && args.files.is_empty() {
        return Err(Failure::usage("one or more CSRs must be specified as <name> or -f <filename>"));
    }
    let names: Vec<String> =
        std::iter::once("certificatesigningrequests".to_owned()).chain(args.names.clone()).collect();
    for target in &targets::resolve(session, &names, &Selection::default(), false, &args.files).await? {
        decide(session, target, condition, other, args.force).await?;
        output::line(&format!("{} {done}", target.display()))?;
    }
    Ok(())
}

async fn decide(session: &Session, target: &Target<'_>, condition: &str, other: &str, force: bool) -> Result<()> {
    let mut request = target.get(session).await?;
    let has = |kind: &str| {
        let conditions = request["status"]["conditions"].as_array();
        conditions.is_some_and(|conditions| conditions.iter().any(|one| one["type"] == kind))
    };
    if has(other) {
        let already = if other == "Denied" { "denied" } else { "approved" };
        return Err(Failure::usage(format!("certificate signing request \"{}\" is already {already}", target.name)));
    }
    if has(condition) && !force {
        return Ok(());
    }
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let (reason, message) = match condition {
        "Approved" => ("KubectlApprove", "This CSR was approved by kubectl certificate approve."),
        _ => ("KubectlDeny", "This CSR was denied by kubectl certificate deny."),
    };
    let decision =
        json!({"type": condition, "status": "True", "reason": reason, "message": message, "lastUpdateTime": now});
    let mut conditions = request["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.retain(|one| one["type"] != condition);
    conditions.push(decision);
    request["status"]["conditions"] = Value::Array(conditions);
    let path = format!("{}/approval?fieldManager=kubectl-certificate", target.path());
    session.send(Method::PUT, &path, "application/json", &request).await.map(drop)
}
