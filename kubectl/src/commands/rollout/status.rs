//! `kubectl rollout status`: watches until all pods are of the newest template, and says how far it is. [`progress`] is pure.

use std::time::Duration;

use serde_json::Value;

use super::Which;
use crate::commands::wait::follow;
use crate::duration::{self, Limit};
use crate::failure::{Failure, Result};
use crate::output;
use crate::session::Session;

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Until it is done
    #[arg(short, long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    watch: bool,
    /// How long to wait; 0 is as long as it takes
    #[arg(long, default_value = "0s", value_parser = duration::argument)]
    timeout: Limit,
}

/// Watches each object in turn.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    for target in &args.which.targets(session).await? {
        let mut last = String::new();
        let watching = follow(session, target, |object| {
            let Some(object) = object else { return Err(Failure::usage("object has been deleted")) };
            let (text, done) = progress(&target.resource.kind, object)?;
            if text != last {
                output::line(&text)?;
                last = text;
            }
            Ok(done || !args.watch)
        });
        match args.timeout.0.filter(|limit| *limit > Duration::ZERO) {
            None => watching.await?,
            Some(limit) => tokio::time::timeout(limit, watching)
                .await
                .map_err(|_| Failure::usage("timed out waiting for the condition"))??,
        }
    }
    Ok(())
}

/// How far it is, and whether that is the end.
fn progress(kind: &str, object: &Value) -> Result<(String, bool)> {
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let name = metadata["name"].as_str().unwrap_or_default();
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let observed = number(&metadata["generation"]) <= number(&status["observedGeneration"]);
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    match kind {
        "Deployment" if !observed => Ok(("Waiting for deployment spec update to be observed...".to_owned(), false)),
        "Deployment" => {
            let conditions = status["conditions"].as_array();
            if conditions.into_iter().flatten().any(|one| one["reason"] == "ProgressDeadlineExceeded") {
                return Err(Failure::usage(format!("deployment \"{name}\" exceeded its progress deadline")));
            }
            let [updated, replicas, available] =
                ["updatedReplicas", "replicas", "availableReplicas"].map(|field| number(&status[field]));
            let waiting =
                |what: String| (format!("Waiting for deployment \"{name}\" rollout to finish: {what}..."), false);
            Ok(if updated < wanted {
                waiting(format!("{updated} out of {wanted} new replicas have been updated"))
            } else if replicas > updated {
                waiting(format!("{} old replicas are pending termination", replicas - updated))
            } else if available < updated {
                waiting(format!("{available} of {updated} updated replicas are available"))
            } else {
                (format!("deployment \"{name}\" successfully rolled out"), true)
            })
        }
        "DaemonSet" if spec["updateStrategy"]["type"] != "RollingUpdate" => Err(only_rolling()),
        "DaemonSet" if !observed => Ok(("Waiting for daemon set spec update to be observed...".to_owned(), false)),
        "DaemonSet" => {
            let [desired, updated, available] = ["desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable"]
                .map(|field| number(&status[field]));
            let waiting =
                |what: String| (format!("Waiting for daemon set \"{name}\" rollout to finish: {what}..."), false);
            Ok(if updated < desired {
                waiting(format!("{updated} out of {desired} new pods have been updated"))
            } else if available < desired {
                waiting(format!("{available} of {desired} updated pods are available"))
            } else {
                (format!("daemon set \"{name}\" successfully rolled out"), true)
            })
        }
        "StatefulSet" if spec["updateStrategy"]["type"] != "RollingUpdate" => Err(only_rolling()),
        "StatefulSet" if status["observedGeneration"].is_null() || !observed => {
            Ok(("Waiting for statefulset spec update to be observed...".to_owned(), false))
        }
        "StatefulSet" => Ok(stateful(wanted, spec, status)),
        other => Err(Failure::usage(format!("no status viewer has been implemented for {other}"))),
    }
}

fn only_rolling() -> Failure {
    Failure::usage("rollout status is only available for RollingUpdate strategy type")
}

fn stateful(wanted: i64, spec: &Value, status: &Value) -> (String, bool) {
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let text = |field: &str| status[field].as_str().unwrap_or_default();
    let [ready, updated] = ["readyReplicas", "updatedReplicas"].map(|field| number(&status[field]));
    let partition = number(&spec["updateStrategy"]["rollingUpdate"]["partition"]);
    if ready < wanted {
        (format!("Waiting for {} pods to be ready...", wanted - ready), false)
    } else if partition > 0 && updated < wanted - partition {
        let what = format!("{updated} out of {} new pods have been updated", wanted - partition);
        (format!("Waiting for partitioned roll out to finish: {what}..."), false)
    } else if partition > 0 {
        (format!("partitioned roll out complete: {updated} new pods have been updated..."), true)
    } else if text("updateRevision") != text("currentRevision") {
        let what = format!("{updated} pods at revision {}", text("updateRevision"));
        (format!("waiting for statefulset rolling update to complete {what}..."), false)
    } else {
        let what = format!("{} pods at revision {}", number(&status["currentReplicas"]), text("currentRevision"));
        (format!("statefulset rolling update complete {what}..."), true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_kind_says_how_far_it_is() {
        let deployment = |generation: i64, status: Value| json!({"metadata": {"name": "d", "generation": generation}, "spec": {"replicas": 2}, "status": status});
        for (kind, object, wanted, end) in [
            (
                "Deployment",
                deployment(2, json!({"observedGeneration": 1})),
                "Waiting for deployment spec update",
                false,
            ),
            (
                "Deployment",
                deployment(1, json!({"observedGeneration": 1, "updatedReplicas": 1})),
                "1 out of 2 new replicas have been updated",
                false,
            ),
            (
                "Deployment",
                deployment(1, json!({"observedGeneration": 1, "updatedReplicas": 2, "replicas": 3})),
                "1 old replicas are pending termination",
                false,
            ),
            (
                "Deployment",
                deployment(
                    1,
                    json!({"observedGeneration": 1, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 1}),
                ),
                "1 of 2 updated replicas are available",
                false,
            ),
            (
                "Deployment",
                deployment(
                    1,
                    json!({"observedGeneration": 1, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 2}),
                ),
                "deployment \"d\" successfully rolled out",
                true,
            ),
            (
                "StatefulSet",
                json!({"metadata": {"generation": 1}, "spec": {"replicas": 2, "updateStrategy": {"type": "RollingUpdate"}}, "status": {"observedGeneration": 1, "readyReplicas": 1}}),
                "Waiting for 1 pods to be ready...",
                false,
            ),
        ] {
            let (text, done) = progress(kind, &object).unwrap();
            assert!(text.contains(wanted) && done == end, "{text}");
        }
        let late =
            deployment(1, json!({"observedGeneration": 1, "conditions": [{"reason": "ProgressDeadlineExceeded"}]}));
        assert!(progress("Deployment", &late).unwrap_err().to_string().contains("exceeded its progress deadline"));
        let error = progress("Service", &json!({})).unwrap_err().to_string();
        assert_eq!(error, "error: no status viewer has been implemented for Service");
    }
}
