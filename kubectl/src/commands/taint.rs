//! `kubectl taint`: what keeps pods off nodes.

use http::Method;
use serde_json::{Value, json};

use super::DryRun;
use crate::failure::{Failure, Result};
use crate::manifest::Files;
use crate::output;
use crate::session::Session;
use crate::targets::{self, Selection, Target};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// node NAME KEY[=VALUE]:EFFECT ... KEY[:EFFECT]-
    args: Vec<String>,
    /// Labels of the nodes
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// All nodes
    #[arg(long)]
    all: bool,
    /// Replace a taint of the same key and effect
    #[arg(long)]
    overwrite: bool,
    /// Send nothing (client), or store nothing (server)
    #[arg(long, value_enum, default_value = "none", default_missing_value = "client", num_args = 0..=1, require_equals = true)]
    dry_run: DryRun,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
struct Changes {
    add: Vec<Value>,
    /// Key and, unless all of the key, effect.
    remove: Vec<(String, Option<String>)>,
}

/// Changes the taints of each node.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let first = args.args.iter().position(|arg| arg.contains('=') || arg.ends_with('-') || arg.contains(':'));
    let (names, changes) = args.args.split_at(first.unwrap_or(args.args.len()));
    let changes = parse(changes)?;
    if changes == Changes::default() {
        return Err(Failure::usage("at least one taint update is required"));
    }
    let selection = Selection { selector: args.selector.clone(), ..Selection::default() };
    let targets = targets::resolve(session, names, &selection, args.all, &Files::default()).await?;
    let mut failures = Vec::new();
    for target in &targets {
        failures.extend(taint(session, &args, target, &changes).await.err());
    }
    Failure::join(failures)
}

fn parse(args: &[String]) -> Result<Changes> {
    let mut changes = Changes::default();
    for arg in args {
        let unknown =
            |effect: &str| Failure::usage(format!("invalid taint effect: {effect}, unsupported taint effect"));
        match arg.strip_suffix('-') {
            Some(removed) => {
                let (key, effect) =
                    removed.split_once(':').map_or((removed, None), |(key, effect)| (key, Some(effect)));
                if let Some(effect) = effect.filter(|effect| !EFFECTS.contains(effect)) {
                    return Err(unknown(effect));
                }
                let key = key.split('=').next().unwrap_or(key);
                changes.remove.push((key.to_owned(), effect.map(str::to_owned)));
            }
            None => {
                let invalid = || Failure::usage(format!("invalid taint spec: {arg}"));
                let (rest, effect) = arg.split_once(':').ok_or_else(invalid)?;
                if !EFFECTS.contains(&effect) {
                    return Err(unknown(effect));
                }
                let (key, value) = rest.split_once('=').map_or((rest, None), |(key, value)| (key, Some(value)));
                let mut taint = json!({"key": key, "effect": effect});
                if let Some(value) = value.filter(|value| !value.is_empty()) {
                    taint["value"] = value.into();
                }
                changes.add.push(taint);
            }
        }
    }
    Ok(changes)
}

async fn taint(session: &Session, args: &Args, target: &Target<'_>, changes: &Changes) -> Result<()> {
    let node = target.get(session).await?;
    let present = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let (taints, done) = merged(&target.name, present, changes, args.overwrite)?;
    if args.dry_run != DryRun::Client {
        let mut patch = json!({"spec": {"taints": taints}});
        patch["metadata"]["resourceVersion"] = node["metadata"]["resourceVersion"].clone();
        let path = format!("{}?fieldManager=kubectl-taint{}", target.path(), args.dry_run.query());
        session.send(Method::PATCH, &path, "application/merge-patch+json", &patch).await?;
    }
    output::line(&format!("{} {done}{}", target.display(), args.dry_run.suffix()))
}

fn same(a: &Value, b: &Value) -> bool {
    a["key"] == b["key"] && a["effect"] == b["effect"]
}

/// The taints as they shall be, and what was done in a word.
fn merged(
    node: &str,
    mut taints: Vec<Value>,
    changes: &Changes,
    overwrite: bool,
) -> Result<(Vec<Value>, &'static str)> {
    let before = taints.clone();
    for (key, effect) in &changes.remove {
        let count = taints.len();
        taints
            .retain(|taint| taint["key"] != **key || effect.as_ref().is_some_and(|effect| taint["effect"] != **effect));
        if taints.len() == count {
            let what = effect.as_ref().map_or(key.clone(), |effect| format!("{key}:{effect}"));
            return Err(Failure::usage(format!("taint \"{what}\" not found")));
        }
    }
    if !overwrite && changes.add.iter().any(|new| taints.iter().any(|old| same(old, new))) {
        return Err(Failure::usage(format!(
            "node {node} already has a taint(s) with same effect(s) and --overwrite is false"
        )));
    }
    taints.retain(|old| !changes.add.iter().any(|new| same(old, new)));
    taints.splice(0..0, changes.add.iter().cloned());
    let replaced = changes.add.iter().any(|new| before.iter().any(|old| same(old, new)));
    let done = match (changes.add.is_empty(), changes.remove.is_empty(), replaced) {
        (true, _, _) => "untainted",
        (false, true, false) => "tainted",
        (false, _, _) => "modified",
    };
    Ok((taints, done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_added_replaced_and_removed() {
        let present = || vec![json!({"key": "a", "value": "b", "effect": "NoSchedule"})];
        for (args, overwrite, wanted) in [
            (&["b=c:NoExecute"][..], false, Ok((2, "tainted"))),
            (&["a=c:NoSchedule"], false, Err("already has a taint")),
            (&["a=c:NoSchedule"], true, Ok((1, "modified"))),
            (&["a-"], false, Ok((0, "untainted"))),
            (&["a:NoSchedule-"], false, Ok((0, "untainted"))),
            (&["a:NoExecute-"], false, Err("taint \"a:NoExecute\" not found")),
            (&["a=b:Never"], false, Err("invalid taint effect: Never")),
            (&["a=b"], false, Err("invalid taint spec: a=b")),
        ] {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            let result = parse(&args).and_then(|changes| merged("n", present(), &changes, overwrite));
            match (result, wanted) {
                (Ok((taints, done)), Ok(wanted)) => assert_eq!((taints.len(), done), wanted, "{args:?}"),
                (Err(failure), Err(words)) => assert!(failure.to_string().contains(words), "{args:?}: {failure}"),
                (result, wanted) => panic!("{args:?}: {result:?}, not {wanted:?}"),
            }
        }
    }
}
