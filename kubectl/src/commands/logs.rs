//! `kubectl logs`.

use std::io::Write;

use futures::AsyncBufReadExt;
use futures::future::try_join_all;
use http::Request;
use serde_json::Value;

use crate::duration::{self, Limit};
use crate::failure::{Failure, Result};
use crate::session::Session;
use crate::targets::{self, Target, encode};

/// Lines shown of each pod when a selector chooses them and `--tail` is not given.
const SELECTED_TAIL: i64 = 10;

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// POD or TYPE/NAME, and a container
    args: Vec<String>,
    /// The container
    #[arg(short, long)]
    container: Option<String>,
    /// All containers of the pod
    #[arg(long)]
    all_containers: bool,
    /// Go on as the log grows
    #[arg(short, long)]
    follow: bool,
    /// Of the container's previous instance
    #[arg(short, long)]
    previous: bool,
    /// Only so many last lines; -1 is all
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    tail: i64,
    /// Only newer than this, as 5s, 2m or 3h
    #[arg(long, value_parser = duration::argument)]
    since: Option<Limit>,
    /// Only after this time (RFC 3339)
    #[arg(long)]
    since_time: Option<String>,
    /// The time of each line
    #[arg(long)]
    timestamps: bool,
    /// At most so many bytes
    #[arg(long)]
    limit_bytes: Option<u64>,
    /// Pods by label
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// [pod/NAME/CONTAINER] before each line
    #[arg(long)]
    prefix: bool,
}

/// One log to be shown.
struct Source {
    pod: String,
    container: Option<String>,
}

/// Prints logs.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let pods = pods(session, &args).await?;
    let mut sources = Vec::new();
    for pod in &pods {
        sources.extend(containers(&args, pod)?);
    }
    if args.follow && sources.len() > 1 {
        return try_join_all(sources.iter().map(|source| stream(session, &args, source))).await.map(drop);
    }
    for source in &sources {
        stream(session, &args, source).await?;
    }
    Ok(())
}

async fn pods(session: &Session, args: &Args) -> Result<Vec<Value>> {
    if let Some(selector) = &args.selector {
        if !args.args.is_empty() {
            return Err(Failure::usage("only a selector (-l) or a POD name is allowed"));
        }
        let pods = by_selector(session, selector).await?;
        if pods.is_empty() {
            eprintln!("No resources found in {} namespace.", session.namespace);
        }
        return Ok(pods);
    }
    let Some(name) = args.args.first() else {
        return Err(Failure::usage(
            "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command",
        ));
    };
    let target = targets::one(session, std::slice::from_ref(name), "pods").await?;
    let pod = one_pod(session, &target).await.map_err(|failure| match failure {
        Failure::Api(status) if status.code == 404 => Failure::usage(format!(
            "error from server ({}): {} in namespace \"{}\"",
            status.reason, status.message, session.namespace
        )),
        failure => failure,
    });
    Ok(vec![pod?])
}

/// The pod itself, or the first of those that the workload selects.
pub async fn one_pod(session: &Session, target: &Target<'_>) -> Result<Value> {
    let object = target.get(session).await?;
    if target.resource.plural == "pods" {
        return Ok(object);
    }
    let selector = &object["spec"]["selector"];
    let labels = selector.get("matchLabels").unwrap_or(selector).as_object().cloned().unwrap_or_default();
    let selector: Vec<String> =
        labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if selector.is_empty() {
        return Err(Failure::usage(format!("cannot get the logs from {}: it selects no pods", target.display())));
    }
    let mut pods = by_selector(session, &selector.join(",")).await?;
    if pods.is_empty() {
        return Err(Failure::usage(format!("timed out waiting for the condition: {} has no pods", target.display())));
    }
    // The pod most likely to have something to say: running before pending, older before younger.
    pods.sort_by_key(|pod| (pod["status"]["phase"] != "Running", pod["metadata"]["creationTimestamp"].to_string()));
    if pods.len() > 1 {
        eprintln!("Found {} pods, using pod/{}", pods.len(), pods[0]["metadata"]["name"].as_str().unwrap_or_default());
    }
    Ok(pods.swap_remove(0))
}

async fn by_selector(session: &Session, selector: &str) -> Result<Vec<Value>> {
    let path = format!("/api/v1/namespaces/{}/pods?labelSelector={}", session.namespace, encode(selector));
    Ok(session.get(&path).await?["items"].as_array().cloned().unwrap_or_default())
}

fn containers(args: &Args, pod: &Value) -> Result<Vec<Source>> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let names = |field: &str| -> Vec<String> {
        let list = pod["spec"][field].as_array();
        list.into_iter().flatten().filter_map(|container| container["name"].as_str().map(str::to_owned)).collect()
    };
    if args.all_containers {
        let all = names("initContainers").into_iter().chain(names("containers"));
        return Ok(all.map(|container| Source { pod: name.clone(), container: Some(container) }).collect());
    }
    let chosen = args.container.clone().or_else(|| args.args.get(1).cloned());
    Ok(vec![Source {
        pod: name,
        container: Some(choose(pod, chosen, &names("containers"), &names("initContainers"))?),
    }])
}

/// The container asked for, the annotated default, or the first with a word about the choice.
pub fn choose(pod: &Value, chosen: Option<String>, containers: &[String], init: &[String]) -> Result<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    if let Some(chosen) = chosen {
        return match containers.contains(&chosen) || init.contains(&chosen) {
            true => Ok(chosen),
            false => Err(Failure::usage(format!("container {chosen} is not valid for pod {name}"))),
        };
    }
    let annotated = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
    if let Some(default) = annotated.filter(|default| containers.iter().any(|container| container == default)) {
        return Ok(default.to_owned());
    }
    let Some(first) = containers.first() else { return Err(Failure::usage(format!("pod {name} has no containers"))) };
    if containers.len() > 1 {
        let all: Vec<String> =
            containers.iter().cloned().chain(init.iter().map(|name| format!("{name} (init)"))).collect();
        eprintln!("Defaulted container \"{first}\" out of: {}", all.join(", "));
    }
    Ok(first.clone())
}

async fn stream(session: &Session, args: &Args, source: &Source) -> Result<()> {
    let path = format!("/api/v1/namespaces/{}/pods/{}/log?{}", session.namespace, source.pod, query(args, source));
    let request = Request::get(path).body(vec![]).map_err(|error| Failure::usage(error.to_string()))?;
    let mut reader = Box::pin(session.client.request_stream(request).await?);
    let prefix = match (args.prefix, &source.container) {
        (true, container) => format!("[pod/{}/{}] ", source.pod, container.as_deref().unwrap_or_default()),
        (false, _) => String::new(),
    };
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await? > 0 {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(prefix.as_bytes()).and_then(|()| out.write_all(&line)).and_then(|()| out.flush());
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            written => written?,
        }
        line.clear();
    }
    Ok(())
}

fn query(args: &Args, source: &Source) -> String {
    let mut pairs = Vec::new();
    if let Some(container) = &source.container {
        pairs.push(format!("container={container}"));
    }
    for (name, on) in [("follow", args.follow), ("previous", args.previous), ("timestamps", args.timestamps)] {
        if on {
            pairs.push(format!("{name}=true"));
        }
    }
    match (args.tail, &args.selector) {
        (-1, Some(_)) => pairs.push(format!("tailLines={SELECTED_TAIL}")),
        (..0, _) => {}
        (tail, _) => pairs.push(format!("tailLines={tail}")),
    }
    if let Some(Limit(Some(since))) = args.since {
        pairs.push(format!("sinceSeconds={}", since.as_secs_f64().ceil().max(1.0)));
    }
    if let Some(time) = &args.since_time {
        pairs.push(format!("sinceTime={}", encode(time)));
    }
    if let Some(limit) = args.limit_bytes {
        pairs.push(format!("limitBytes={limit}"));
    }
    pairs.join("&")
}
