//! `kubectl rollout history` and `undo`: the templates that a workload had, from the ReplicaSets or ControllerRevisions it owns.

use http::Method;
use serde_json::{Value, json};

use super::{Which, about};
use crate::failure::{Failure, Result};
use crate::output;
use crate::session::Session;
use crate::targets::Target;

const CAUSE: &str = "kubernetes.io/change-cause";
const REVISION: &str = "deployment.kubernetes.io/revision";
const HASH: &str = "pod-template-hash";

/// Flags of `history`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// The template of this revision
    #[arg(long, default_value_t = 0)]
    revision: i64,
}

/// Flags of `undo`.
#[derive(Debug, clap::Args)]
pub struct UndoArgs {
    #[command(flatten)]
    which: Which,
    /// Back to this revision; 0 is the last one
    #[arg(long, default_value_t = 0)]
    to_revision: i64,
}

/// A template that was.
struct Revision {
    number: i64,
    cause: String,
    /// What of the workload it sets, as a merge patch has it.
    template: Value,
}

/// Prints the history of each object.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    for target in &args.which.targets(session).await? {
        let revisions = revisions(session, target).await?;
        if args.revision > 0 {
            let found = revisions.iter().find(|revision| revision.number == args.revision);
            let found = found.ok_or_else(|| Failure::usage("unable to find the specified revision"))?;
            output::line(&format!("{} with revision #{}", target.display(), args.revision))?;
            output::text(&serde_yaml::to_string(&found.template)?)?;
            continue;
        }
        output::line(&format!("{} ", target.display()))?;
        if revisions.is_empty() {
            output::line("No rollout history found.")?;
            continue;
        }
        let mut lines = vec![vec!["REVISION".to_owned(), "CHANGE-CAUSE".to_owned()]];
        lines.extend(revisions.iter().map(|revision| {
            let cause = if revision.cause.is_empty() { "<none>" } else { &revision.cause };
            vec![revision.number.to_string(), cause.to_owned()]
        }));
        // The official kubectl separates these columns by two spaces.
        let width = lines.iter().map(|line| line[0].len()).max().unwrap_or(0) + 2;
        lines.iter().try_for_each(|line| output::line(&format!("{:width$}{}", line[0], line[1])))?;
        output::line("")?;
    }
    Ok(())
}

/// Puts an earlier template back.
pub async fn undo(session: &Session, args: UndoArgs) -> Result<()> {
    for target in &args.which.targets(session).await? {
        let object = target.get(session).await?;
        if object["spec"]["paused"] == true {
            return Err(Failure::usage(format!(
                "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume deployment/{}' and try again",
                target.name
            )));
        }
        let revisions = revisions(session, target).await?;
        let before = revisions.len().checked_sub(2).map(|index| &revisions[index]);
        let found = match args.to_revision {
            0 if before.is_none() => return Err(missing(target)),
            0 => before,
            wanted => revisions.iter().find(|revision| revision.number == wanted),
        };
        let found = found.ok_or_else(|| {
            Failure::usage(format!("unable to find specified revision {} in history", args.to_revision))
        })?;
        let path = format!("{}?fieldManager=kubectl-rollout", target.path());
        // The whole template is put back: what the later one added must go, too.
        let patch = json!([{"op": "replace", "path": "/spec/template", "value": found.template}]);
        session.send(Method::PATCH, &path, "application/json-patch+json", &patch).await?;
        output::line(&format!("{} rolled back", target.display()))?;
    }
    Ok(())
}

fn missing(target: &Target<'_>) -> Failure {
    let singular = &target.resource.singular;
    Failure::usage(format!("no rollout history found for {singular} \"{}\"", target.name))
}

/// Oldest first.
async fn revisions(session: &Session, target: &Target<'_>) -> Result<Vec<Revision>> {
    let object = target.get(session).await?;
    let plural = match target.resource.plural.as_str() {
        "deployments" => "replicasets",
        "daemonsets" | "statefulsets" => "controllerrevisions",
        _ => return Err(about(target, "no history viewer has been implemented")),
    };
    let list = session.get(&format!("/apis/apps/v1/namespaces/{}/{plural}", target.namespace)).await?;
    let uid = &object["metadata"]["uid"];
    let owned = |one: &&Value| {
        let owners = one["metadata"]["ownerReferences"].as_array();
        owners.into_iter().flatten().any(|owner| owner["uid"] == *uid && owner["controller"] == true)
    };
    let mut revisions: Vec<Revision> =
        list["items"].as_array().into_iter().flatten().filter(owned).map(revision).collect();
    revisions.sort_by_key(|revision| revision.number);
    Ok(revisions)
}

fn revision(of: &Value) -> Revision {
    let annotations = &of["metadata"]["annotations"];
    let cause = annotations[CAUSE].as_str().unwrap_or_default().to_owned();
    let mut template =
        if of["data"].is_null() { &of["spec"]["template"] } else { &of["data"]["spec"]["template"] }.clone();
    if let Some(template) = template.as_object_mut() {
        template.remove("$patch");
    }
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH);
    }
    let number = of["revision"].as_i64().or_else(|| annotations[REVISION].as_str()?.parse().ok()).unwrap_or(0);
    Revision { number, cause, template }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read_from_both_kinds() {
        let set = revision(&json!({"metadata": {"annotations": {REVISION: "3", CAUSE: "why"}},
            "spec": {"template": {"metadata": {"labels": {HASH: "x", "app": "a"}}}}}));
        assert_eq!((set.number, set.cause.as_str()), (3, "why"));
        assert_eq!(set.template, json!({"metadata": {"labels": {"app": "a"}}}));
        let kept = revision(&json!({"revision": 2, "data": {"spec": {"template": {"$patch": "replace", "spec": {}}}}}));
        assert_eq!((kept.number, kept.template), (2, json!({"spec": {}})));
    }
}
