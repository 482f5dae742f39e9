//! `kubectl label` and `kubectl annotate`: KEY=VALUE sets, KEY- removes.

use serde_json::{Value, json};

use super::{DryRun, format, report};
use crate::failure::{Failure, Result};
use crate::manifest::Files;
use crate::output;
use crate::session::Session;
use crate::targets::{self, Selection, Target};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TYPE NAME... KEY=VALUE... KEY-...
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selection: Selection,
    /// All objects of the types
    #[arg(long)]
    all: bool,
    /// Values that exist may be changed
    #[arg(long)]
    overwrite: bool,
    /// Print them instead of changing any
    #[arg(long)]
    list: bool,
    /// Only at this revision
    #[arg(long)]
    resource_version: Option<String>,
    /// Send nothing (client), or store nothing (server)
    #[arg(long, value_enum, default_value = "none", default_missing_value = "client", num_args = 0..=1, require_equals = true)]
    dry_run: DryRun,
    /// Output format: json, yaml, name, jsonpath=…
    #[arg(short, long)]
    output: Option<String>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// metadata.labels
    Labels,
    /// metadata.annotations
    Annotations,
}

impl Map {
    fn field(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Annotations => "annotations",
        }
    }

    fn singular(self) -> &'static str {
        match self {
            Self::Labels => "label",
            Self::Annotations => "annotation",
        }
    }
}

/// What is to be done: set these, remove those.
#[derive(Debug, Default, PartialEq)]
struct Changes {
    set: Vec<(String, String)>,
    remove: Vec<String>,
}

/// Changes each object's labels or annotations.
pub async fn run(session: &Session, args: Args, map: Map) -> Result<()> {
    let (names, changes) = split(&args.args, map)?;
    if changes == Changes::default() && !args.list {
        return Err(Failure::usage(format!("at least one {} update is required", map.singular())));
    }
    let targets = targets::resolve(session, &names, &args.selection, args.all, &args.files).await?;
    let mut failures = Vec::new();
    for target in &targets {
        failures.extend(change(session, &args, map, target, &changes).await.err());
    }
    Failure::join(failures)
}

/// The first change ends the names.
fn split(args: &[String], map: Map) -> Result<(Vec<String>, Changes)> {
    let is_change = |arg: &&String| arg.contains('=') || arg.ends_with('-');
    let (changes, names): (Vec<&String>, Vec<&String>) = args.iter().partition(is_change);
    let mut result = Changes::default();
    for change in changes {
        match change.split_once('=') {
            Some(("", _)) => return Err(Failure::usage(format!("invalid {} spec: {change}", map.singular()))),
            Some((key, value)) => result.set.push((key.to_owned(), value.to_owned())),
            None => result.remove.push(change.trim_end_matches('-').to_owned()),
        }
    }
    if let Some((key, _)) = result.set.iter().find(|(key, _)| result.remove.contains(key)) {
        return Err(Failure::usage(format!(
            "can not both modify and remove {} \"{key}\" in the same command",
            map.singular()
        )));
    }
    Ok((names.into_iter().cloned().collect(), result))
}

async fn change(session: &Session, args: &Args, map: Map, target: &Target<'_>, changes: &Changes) -> Result<()> {
    let object = target.get(session).await?;
    let present = &object["metadata"][map.field()];
    if args.list {
        return present
            .as_object()
            .into_iter()
            .flatten()
            .try_for_each(|(key, value)| output::line(&format!("{key}={}", value.as_str().unwrap_or_default())));
    }
    if !args.overwrite {
        check_overwrite(map, present, changes)?;
    }
    let mut patch = json!({"metadata": {map.field(): {}}});
    let fields = &mut patch["metadata"][map.field()];
    changes.set.iter().for_each(|(key, value)| fields[key] = value.clone().into());
    for key in &changes.remove {
        match present[key].is_null() {
            true => output::line(&format!("{} \"{key}\" not found.", map.singular()))?,
            false => fields[key] = Value::Null,
        }
    }
    if let Some(revision) = &args.resource_version {
        patch["metadata"]["resourceVersion"] = revision.clone().into();
    }
    let changed = match args.dry_run {
        DryRun::Client => object.clone(),
        dry_run => {
            let query = format!(
                "fieldManager=kubectl-{}{}",
                if map == Map::Labels { "label" } else { "annotate" },
                dry_run.query()
            );
            target.patch(session, "application/merge-patch+json", &query, &patch).await?
        }
    };
    let done =
        done(map, present, changes, args.dry_run == DryRun::Client || changed["metadata"][map.field()] != *present);
    report(format(args.output.as_deref())?.as_ref(), &target.display(), done, args.dry_run, &changed)
}

fn check_overwrite(map: Map, present: &Value, changes: &Changes) -> Result<()> {
    for (key, value) in &changes.set {
        if let Some(is) = present[key].as_str().filter(|is| is != value) {
            return Err(Failure::usage(match map {
                Map::Labels => format!("'{key}' already has a value ({is}), and --overwrite is false"),
                Map::Annotations => format!(
                    "--overwrite is false but found the following declared annotation(s): '{key}' already has a value ({is})"
                ),
            }));
        }
    }
    Ok(())
}

fn done(map: Map, present: &Value, changes: &Changes, changed: bool) -> &'static str {
    match map {
        Map::Annotations => "annotated",
        Map::Labels if !changed => "not labeled",
        Map::Labels if changes.set.is_empty() && changes.remove.iter().any(|key| !present[key].is_null()) => {
            "unlabeled"
        }
        Map::Labels => "labeled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_changes_are_told_apart() {
        let args = ["pod", "x", "a=b", "c-", "d="].map(str::to_owned);
        let (names, changes) = split(&args, Map::Labels).unwrap();
        assert_eq!(names, ["pod", "x"]);
        assert_eq!(changes.set, [("a".into(), "b".into()), ("d".into(), String::new())]);
        assert_eq!(changes.remove, ["c"]);
        assert!(split(&["a=b".into(), "a-".into()], Map::Labels).is_err());
    }
}
