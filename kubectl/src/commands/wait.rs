//! `kubectl wait`: watches objects until a condition holds, a field has a value, or they are there or gone.

use std::time::Duration;

use futures::{AsyncBufReadExt, TryStreamExt};
use http::Request;
use serde_json::Value;
use tokio::time::timeout;

use crate::duration::{self, Limit};
use crate::failure::{Failure, Result};
use crate::manifest::Files;
use crate::output;
use crate::session::Session;
use crate::targets::{self, Named, Selection, Target, encode};
use api::jsonpath::Template;

/// Between two looks for an object whose kind can't be watched by name before it exists.
const RETRY: Duration = Duration::from_millis(200);

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TYPE NAME... or TYPE/NAME...
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selection: Selection,
    /// All objects of the types
    #[arg(long)]
    all: bool,
    /// create, delete, condition=NAME[=VALUE], jsonpath='{.path}'[=VALUE]
    #[arg(long = "for", value_name = "CONDITION")]
    condition: String,
    /// How long; 0 checks once, negative waits a week
    #[arg(long, default_value = "30s", value_parser = duration::argument, allow_hyphen_values = true)]
    timeout: Limit,
}

/// What is waited for.
enum Awaited {
    Created,
    Deleted,
    Condition { name: String, status: String },
    Field { template: Template, value: Option<String> },
}

/// Waits for every object in turn; each has the whole time limit, as upstream.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let awaited = Awaited::parse(&args.condition)?;
    let limit = args.timeout.0.unwrap_or(Duration::from_secs(7 * 24 * 3600));
    let targets = match (&awaited, args.files.is_empty(), targets::parse(session, &args.args).await) {
        // What does not exist yet can't be listed.
        (Awaited::Created, true, Ok(Named::Objects(targets))) => targets,
        (_, true, Err(failure)) => return Err(failure),
        _ => targets::resolve(session, &args.args, &args.selection, args.all, &args.files).await?,
    };
    if targets.is_empty() {
        return match awaited {
            Awaited::Deleted => Ok(()),
            _ => Err(Failure::usage("no matching resources found")),
        };
    }
    let mut failures = Vec::new();
    for target in &targets {
        // Of what was never there nothing is said.
        let absent = matches!(awaited, Awaited::Deleted)
            && target.get(session).await.is_err_and(|failure| failure.is_not_found());
        if absent {
            continue;
        }
        match timeout(limit, awaited.wait(session, target)).await {
            Ok(Ok(())) => output::line(&format!("{} {}", target.display(), awaited.met()))?,
            Ok(Err(failure)) => failures.push(failure),
            Err(_) => failures.push(timed_out(target)),
        }
    }
    Failure::join(failures)
}

fn timed_out(target: &Target<'_>) -> Failure {
    Failure::usage(format!("timed out waiting for the condition on {}/{}", target.resource.full_name(), target.name))
}

impl Awaited {
    fn parse(text: &str) -> Result<Self> {
        let invalid = || Failure::usage(format!("unrecognized condition: \"{text}\""));
        match text.to_lowercase().as_str() {
            "delete" => return Ok(Self::Deleted),
            "create" => return Ok(Self::Created),
            _ => {}
        }
        if let Some(rest) = text.strip_prefix("condition=") {
            let (name, status) = rest.split_once('=').unwrap_or((rest, "true"));
            return Ok(Self::Condition { name: name.to_lowercase(), status: status.to_lowercase() });
        }
        let path = text.strip_prefix("jsonpath=").ok_or_else(invalid)?;
        // The value comes after the expression's closing brace.
        let end = path.rfind('}').map_or(0, |at| at + 1);
        let (path, value) = match path[end..].split_once('=') {
            Some((quote, value)) => (format!("{}{quote}", &path[..end]), Some(value.trim_matches('\'').to_owned())),
            None => (path.to_owned(), None),
        };
        let path = path.trim_matches('\'');
        Ok(Self::Field { template: output::template(path)?, value })
    }

    fn met(&self) -> &'static str {
        match self {
            Self::Deleted | Self::Created | Self::Condition { .. } | Self::Field { .. } => "condition met",
        }
    }

    fn holds(&self, object: &Value) -> bool {
        match self {
            Self::Created => true,
            Self::Deleted => false,
            Self::Condition { name, status } => {
                let conditions = object["status"]["conditions"].as_array();
                conditions.into_iter().flatten().any(|condition| {
                    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_lowercase();
                    // A condition of an older generation says nothing about the present one.
                    let stale = condition["observedGeneration"]
                        .as_i64()
                        .is_some_and(|seen| seen < object["metadata"]["generation"].as_i64().unwrap_or(0));
                    text("type") == *name && text("status") == *status && !stale
                })
            }
            Self::Field { template, value } => {
                let found = template.render(object);
                value.as_ref().map_or(!found.is_empty(), |value| found == *value)
            }
        }
    }

    async fn wait(&self, session: &Session, target: &Target<'_>) -> Result<()> {
        if let Self::Deleted = self {
            return until_gone(session, target, None, None).await;
        }
        loop {
            let object = match target.get(session).await {
                Ok(object) => object,
                Err(failure) if failure.is_not_found() && matches!(self, Self::Created) => {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            if self.holds(&object) {
                return Ok(());
            }
            let outcome = watch(session, target, &object, |kind, object| match kind {
                "DELETED" => Some(Err(gone(target))),
                _ => self.holds(object).then_some(Ok(())),
            });
            if let Some(outcome) = outcome.await? {
                return outcome;
            }
        }
    }
}

fn gone(target: &Target<'_>) -> Failure {
    Failure::usage(format!("{} \"{}\" was deleted while waiting", target.resource.full_name(), target.name))
}

/// Waits until the object (of this uid, if given) is no more.
pub async fn until_gone(
    session: &Session,
    target: &Target<'_>,
    uid: Option<String>,
    limit: Option<Duration>,
) -> Result<()> {
    let mut uid = uid;
    let wait = async {
        loop {
            let object = match target.get(session).await {
                Ok(object) => object,
                Err(failure) if failure.is_not_found() => return Ok(()),
                Err(failure) => return Err(failure),
            };
            let present = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            if *uid.get_or_insert_with(|| present.clone()) != present {
                return Ok(());
            }
            if watch(session, target, &object, |kind, _| (kind == "DELETED").then_some(())).await?.is_some() {
                return Ok(());
            }
        }
    };
    match limit {
        None => wait.await,
        Some(limit) => timeout(limit, wait).await.map_err(|_| timed_out(target))?,
    }
}

/// Shows `look` an object as it is and after each change (None: it is gone), until it says that this was enough.
pub async fn follow(
    session: &Session,
    target: &Target<'_>,
    mut look: impl FnMut(Option<&Value>) -> Result<bool>,
) -> Result<()> {
    loop {
        let object = target.get(session).await?;
        if look(Some(&object))? {
            return Ok(());
        }
        let enough =
            watch(session, target, &object, |kind, object| match look(Some(object).filter(|_| kind != "DELETED")) {
                Ok(false) => None,
                outcome => Some(outcome.map(drop)),
            });
        if let Some(outcome) = enough.await? {
            return outcome;
        }
    }
}

/// Watches one object from its present revision until `decide` answers, or the server ends the watch (None).
async fn watch<T>(
    session: &Session,
    target: &Target<'_>,
    object: &Value,
    mut decide: impl FnMut(&str, &Value) -> Option<T>,
) -> Result<Option<T>> {
    let revision = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let path = format!(
        "{}?watch=true&fieldSelector=metadata.name%3D{}&resourceVersion={revision}",
        target.resource.collection(Some(&target.namespace)),
        encode(&target.name)
    );
    let request = Request::get(path).body(vec![]).map_err(|error| Failure::usage(error.to_string()))?;
    let mut lines = session.client.request_stream(request).await?.lines();
    while let Some(line) = lines.try_next().await? {
        let event: Value = serde_json::from_str(&line)?;
        let kind = event["type"].as_str().unwrap_or_default();
        if kind == "ERROR" {
            return Ok(None);
        }
        if let Some(outcome) = decide(kind, &event["object"]) {
            return Ok(Some(outcome));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_are_read_and_checked() {
        let ready = json!({"metadata": {"generation": 1}, "status": {"readyReplicas": 3, "conditions": [{"type": "Ready", "status": "True"}]}});
        for (text, wanted) in [
            ("condition=Ready", true),
            ("condition=ready=false", false),
            ("jsonpath={.status.readyReplicas}=3", true),
            ("jsonpath='{.status.readyReplicas}'=4", false),
            ("jsonpath='{.status.conditions[?(@.type==\"Ready\")].status}'=True", true),
            ("jsonpath={.status.readyReplicas}", true),
            ("jsonpath={.status.none}", false),
        ] {
            assert_eq!(Awaited::parse(text).unwrap().holds(&ready), wanted, "{text}");
        }
        assert!(Awaited::parse("nonsense").is_err());
    }
}
