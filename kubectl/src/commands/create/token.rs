//! `kubectl create token`: a token of a service account.

use serde_json::json;

use crate::commands::format;
use crate::duration::{self, Limit};
use crate::failure::{Failure, Result};
use crate::output;
use crate::session::Session;

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The service account
    name: String,
    /// Who the token is for; may be repeated
    #[arg(long)]
    audience: Vec<String>,
    /// How long it is good for
    #[arg(long, value_parser = duration::argument)]
    duration: Option<Limit>,
    /// Output format: json, yaml, jsonpath=…
    #[arg(short, long)]
    output: Option<String>,
}

/// Asks for a token and prints it.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let mut request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": args.audience}});
    if let Some(Limit(Some(duration))) = args.duration {
        request["spec"]["expirationSeconds"] = duration.as_secs().into();
    }
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{}/token", session.namespace, args.name);
    let answer = session.post(&path, &request).await.map_err(|failure| match failure {
        Failure::Api(status) => Failure::usage(format!("failed to create token: {}", status.message)),
        other => other,
    })?;
    match format(args.output.as_deref())? {
        Some(format) => output::print(&format, &answer, false),
        None => output::line(answer["status"]["token"].as_str().unwrap_or_default()),
    }
}
