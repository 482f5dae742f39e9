//! `kubectl run`: a pod of one container.

use serde_json::{Value, json};

use super::create::{Write, create};
use crate::failure::{Failure, Result};
use crate::manifest::Manifest;
use crate::session::Session;

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pod's name
    name: String,
    /// The container's image
    #[arg(long)]
    image: String,
    /// KEY=VALUE of the container's environment; may be repeated
    #[arg(long)]
    env: Vec<String>,
    /// Labels of the pod: KEY=VALUE,...
    #[arg(short, long)]
    labels: Option<String>,
    /// The port that the container listens at
    #[arg(long)]
    port: Option<u16>,
    /// Make a Service for the port, too
    #[arg(long)]
    expose: bool,
    /// Always, OnFailure or Never
    #[arg(long, default_value = "Always")]
    restart: String,
    /// Always, IfNotPresent or Never
    #[arg(long)]
    image_pull_policy: Option<String>,
    /// The arguments after -- are the command, not its arguments
    #[arg(long)]
    command: bool,
    #[command(flatten)]
    write: Write,
    /// Arguments of the image's command, after --
    #[arg(last = true)]
    args: Vec<String>,
}

/// Creates the pod.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let manifest = |object| Manifest { source: String::new(), object };
    if args.expose {
        create(session, manifest(service(&args)?), &args.write, "kubectl-run").await?;
    }
    create(session, manifest(pod(&args)?), &args.write, "kubectl-run").await
}

fn labels(args: &Args) -> Result<Value> {
    match &args.labels {
        None => Ok(json!({"run": args.name})),
        Some(labels) => pairs(labels.split(','), "label"),
    }
}

/// `KEY=VALUE`s as an object.
pub fn pairs<'a>(pairs: impl Iterator<Item = &'a str>, what: &str) -> Result<Value> {
    let pair = |pair: &str| {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| Failure::usage(format!("unexpected {what} spec: {pair}")))?;
        Ok((key.to_owned(), Value::from(value)))
    };
    pairs.map(pair).collect::<Result<serde_json::Map<_, _>>>().map(Value::Object)
}

fn pod(args: &Args) -> Result<Value> {
    let mut container = json!({"name": args.name, "image": args.image, "resources": {}});
    if !args.env.is_empty() {
        let invalid = |pair: &str| Failure::usage(format!("invalid env: {pair}"));
        let pair = |pair: &String| match pair.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(json!({"name": name, "value": value})),
            _ => Err(invalid(pair)),
        };
        container["env"] = args.env.iter().map(pair).collect::<Result<Vec<_>>>()?.into();
    }
    if let Some(port) = args.port {
        container["ports"] = json!([{"containerPort": port}]);
    }
    if let Some(policy) = &args.image_pull_policy {
        container["imagePullPolicy"] = policy.clone().into();
    }
    if !args.args.is_empty() {
        container[if args.command { "command" } else { "args" }] = json!(args.args);
    }
    if !["Always", "OnFailure", "Never"].contains(&args.restart.as_str()) {
        return Err(Failure::usage(format!("invalid restart policy: {}", args.restart)));
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": labels(args)?, "name": args.name},
        "spec": {"containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": args.restart},
        "status": {},
    }))
}

fn service(args: &Args) -> Result<Value> {
    let port = args.port.ok_or_else(|| Failure::usage("--port must be set when exposing a service"))?;
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": args.name},
        "spec": {"ports": [{"port": port, "protocol": "TCP", "targetPort": port}], "selector": labels(args)?},
        "status": {"loadBalancer": {}},
    }))
}
