//! `kubectl drain`: empties a node, asking the disruption budgets, and waits until its pods are gone.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::DryRun;
use super::cordon::{nodes, set};
use super::wait::until_gone;
use crate::duration::{self, Limit};
use crate::failure::{Failure, Result};
use crate::output;
use crate::session::Session;
use crate::targets::{Target, encode};

/// Between two tries of an eviction that a disruption budget forbids.
const RETRY: Duration = Duration::from_secs(5);

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of nodes
    nodes: Vec<String>,
    /// Labels of the nodes
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Pods that no controller makes anew, too
    #[arg(long)]
    force: bool,
    /// Leave the pods of DaemonSets
    #[arg(long)]
    ignore_daemonsets: bool,
    /// Pods with emptyDir volumes, too: their data is lost
    #[arg(long)]
    delete_emptydir_data: bool,
    /// Delete instead of evicting: disruption budgets are not asked
    #[arg(long)]
    disable_eviction: bool,
    /// Seconds that pods get to end; -1 is what they ask for
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    grace_period: i64,
    /// How long to try; 0 is as long as it takes
    #[arg(long, default_value = "0s", value_parser = duration::argument)]
    timeout: Limit,
    /// Send nothing (client), or store nothing (server)
    #[arg(long, value_enum, default_value = "none", default_missing_value = "client", num_args = 0..=1, require_equals = true)]
    dry_run: DryRun,
}

/// What becomes of a pod.
#[derive(Debug, PartialEq)]
enum Verdict {
    Evict,
    /// With a word of warning.
    EvictWarned(&'static str),
    Leave,
    LeaveWarned(&'static str),
    Refuse(&'static str),
}

/// Cordons the nodes, then empties one after the other.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let nodes = nodes(session, &args.nodes, args.selector.as_ref()).await?;
    for node in &nodes {
        set(session, node, true, args.dry_run).await?;
    }
    let mut pending = Vec::new();
    for node in &nodes {
        match drain(session, &args, node).await {
            Ok(()) => output::line(&format!("{} drained{}", node.display(), args.dry_run.suffix()))?,
            Err(why) => {
                eprintln!("error: unable to drain node \"{}\" due to error: {why}, continuing command...", node.name);
                pending.push((node.name.clone(), why));
            }
        }
    }
    if pending.is_empty() {
        return Ok(());
    }
    eprintln!("There are pending nodes to be drained:");
    pending.iter().for_each(|(name, _)| eprintln!(" {name}"));
    let why: Vec<String> = pending.into_iter().map(|(_, why)| why).collect();
    Err(Failure::Plain(why.join("\n")))
}

async fn drain(session: &Session, args: &Args, node: &Target<'_>) -> Result<(), String> {
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", encode(&node.name));
    let list = session.get(&path).await.map_err(|failure| failure.to_string())?;
    let pods = chosen(list["items"].as_array().map_or(&[], Vec::as_slice), args)?;
    let limit = args.timeout.0.filter(|limit| !limit.is_zero());
    let evictions = pods.iter().map(|pod| evict(session, args, pod));
    let all = futures::future::join_all(evictions);
    let results = match limit {
        Some(limit) => timeout(limit, all).await.map_err(|_| "global timeout reached".to_owned())?,
        None => all.await,
    };
    let failures: Vec<String> =
        results.into_iter().filter_map(|result| result.err()).map(|one| one.to_string()).collect();
    if failures.is_empty() { Ok(()) } else { Err(format!("[{}]", failures.join(", "))) }
}

/// The pods that must go; why not, if one may not.
fn chosen<'a>(pods: &'a [Value], args: &Args) -> Result<Vec<&'a Value>, String> {
    let mut by_reason: Vec<(bool, &str, Vec<String>)> = Vec::new();
    let mut chosen = Vec::new();
    for pod in pods {
        let (fatal, reason) = match verdict(pod, args) {
            Verdict::Evict => {
                chosen.push(pod);
                continue;
            }
            Verdict::Leave => continue,
            Verdict::EvictWarned(reason) => {
                chosen.push(pod);
                (false, reason)
            }
            Verdict::LeaveWarned(reason) => (false, reason),
            Verdict::Refuse(reason) => (true, reason),
        };
        let name = format!("{}/{}", text(pod, "namespace"), text(pod, "name"));
        match by_reason.iter_mut().find(|(f, r, _)| (*f, *r) == (fatal, reason)) {
            Some((_, _, names)) => names.push(name),
            None => by_reason.push((fatal, reason, vec![name])),
        }
    }
    by_reason.sort();
    let words = |fatal: bool| -> Vec<String> {
        let of = by_reason.iter().filter(|(f, ..)| *f == fatal);
        of.map(|(_, reason, names)| format!("{reason}: {}", names.join(", "))).collect()
    };
    let fatal = words(true);
    if !fatal.is_empty() {
        // The official kubectl says it twice.
        return Err(fatal.iter().map(|one| format!("cannot delete {one}")).collect::<Vec<_>>().join(", "));
    }
    let warnings = words(false);
    if !warnings.is_empty() {
        eprintln!("Warning: {}", warnings.join("; "));
    }
    Ok(chosen)
}

fn text<'a>(pod: &'a Value, field: &str) -> &'a str {
    pod["metadata"][field].as_str().unwrap_or_default()
}

fn verdict(pod: &Value, args: &Args) -> Verdict {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let controller = owners.into_iter().flatten().find(|owner| owner["controller"] == true);
    let finished = ["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default());
    if !pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null() {
        return Verdict::Leave;
    }
    if controller.is_some_and(|owner| owner["kind"] == "DaemonSet") && !finished {
        return match args.ignore_daemonsets {
            true => Verdict::LeaveWarned("ignoring DaemonSet-managed Pods"),
            false => Verdict::Refuse("cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)"),
        };
    }
    let is_empty_dir = |volume: &Value| !volume["emptyDir"].is_null();
    let keeps_data = pod["spec"]["volumes"].as_array().is_some_and(|volumes| volumes.iter().any(is_empty_dir));
    match (keeps_data && !finished, controller.is_none() && !finished) {
        (true, _) if !args.delete_emptydir_data => {
            Verdict::Refuse("cannot delete Pods with local storage (use --delete-emptydir-data to override)")
        }
        (_, true) if args.force => Verdict::EvictWarned("deleting Pods that declare no controller"),
        (_, true) => Verdict::Refuse("cannot delete Pods that declare no controller (use --force to override)"),
        (_, false) => Verdict::Evict,
    }
}

async fn evict(session: &Session, args: &Args, pod: &Value) -> Result<()> {
    let (namespace, name) = (text(pod, "namespace"), text(pod, "name"));
    let resource = session.resource("pods").await?;
    let target = Target { resource, namespace: namespace.to_owned(), name: name.to_owned() };
    let verb = if args.disable_eviction { "deleting" } else { "evicting" };
    eprintln!("{verb} pod {namespace}/{name}{}", args.dry_run.suffix());
    if args.dry_run == DryRun::Client {
        return Ok(());
    }
    let mut options = json!({});
    if args.grace_period >= 0 {
        options["gracePeriodSeconds"] = args.grace_period.into();
    }
    if args.dry_run == DryRun::Server {
        options["dryRun"] = json!(["All"]);
    }
    let (method, path, body) = match args.disable_eviction {
        true => (http::Method::DELETE, target.path(), options),
        false => {
            let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": {"name": name, "namespace": namespace}, "deleteOptions": options});
            (http::Method::POST, format!("{}/eviction", target.path()), eviction)
        }
    };
    loop {
        match session.send(method.clone(), &path, "application/json", &body).await {
            Ok(_) => break,
            Err(failure) if failure.is_not_found() => return Ok(()),
            Err(Failure::Api(status)) if status.code == 429 => {
                eprintln!(
                    "error when evicting pods/\"{name}\" -n \"{namespace}\" (will retry after {}s): {}",
                    RETRY.as_secs(),
                    status.message
                );
                sleep(RETRY).await;
            }
            Err(failure) => return Err(failure),
        }
    }
    if args.dry_run != DryRun::None {
        return Ok(());
    }
    until_gone(session, &target, pod["metadata"]["uid"].as_str().map(str::to_owned), None).await?;
    output::line(&format!("pod/{name} {}", if args.disable_eviction { "deleted" } else { "evicted" }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn pods_that_would_be_lost_stay_unless_told_otherwise() {
        let owned = |kind: &str| json!({"ownerReferences": [{"kind": kind, "controller": true}]});
        let data = json!([{"emptyDir": {}}]);
        let refuse = |verdict: Verdict| matches!(verdict, Verdict::Refuse(_));
        let of = |line: &str, metadata: Value, volumes: &Value, phase: &str| {
            let line = Line::parse_from(["drain", "n"].into_iter().chain(line.split_whitespace()));
            let pod = json!({"metadata": metadata, "spec": {"volumes": volumes}, "status": {"phase": phase}});
            verdict(&pod, &line.args)
        };
        assert!(refuse(of("", json!({}), &Value::Null, "Running")));
        assert!(matches!(of("--force", json!({}), &Value::Null, "Running"), Verdict::EvictWarned(_)));
        assert_eq!(of("", json!({}), &Value::Null, "Succeeded"), Verdict::Evict);
        assert_eq!(of("", owned("ReplicaSet"), &Value::Null, "Running"), Verdict::Evict);
        assert!(refuse(of("--force", owned("ReplicaSet"), &data, "Running")));
        assert_eq!(of("--delete-emptydir-data", owned("ReplicaSet"), &data, "Running"), Verdict::Evict);
        assert!(refuse(of("--force", owned("DaemonSet"), &Value::Null, "Running")));
        assert!(matches!(
            of("--ignore-daemonsets", owned("DaemonSet"), &Value::Null, "Running"),
            Verdict::LeaveWarned(_)
        ));
        let mirror = json!({"annotations": {"kubernetes.io/config.mirror": "x"}});
        assert_eq!(of("", mirror, &Value::Null, "Running"), Verdict::Leave);
    }
}
