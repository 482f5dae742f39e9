//! `kubectl diff`: what applying files would change, as `diff -u` (or `$KUBECTL_EXTERNAL_DIFF`) shows it.
//!
//! The server merges with dry run, so defaults and admission are in it. Exit code 0: no difference; 1: some; more: an error.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::apply::{self, Merge};
use crate::failure::{Failure, Result};
use crate::manifest::{Files, Located};
use crate::output::yaml;
use crate::session::Session;

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    merge: Merge,
    /// Compare managedFields, too
    #[arg(long)]
    show_managed_fields: bool,
}

/// Compares every object of the files.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("kubectl-diff-").tempdir()?;
    let sides = ["LIVE", "MERGED"].map(|side| folder.path().join(side));
    sides.iter().try_for_each(std::fs::create_dir)?;
    for manifest in args.files.read()? {
        let mut located = manifest.locate(session).await?;
        let (live, merged) = apply::merged(session, &args.merge, &mut located).await?;
        let shown = shown(live, merged, args.show_managed_fields);
        for (side, object) in sides.iter().zip(shown) {
            if !object.is_null() {
                std::fs::write(side.join(file_name(&located)), yaml::render(&object))?;
            }
        }
    }
    compare(&sides[0], &sides[1])
}

/// `group.version.Kind.namespace.name`, as the official kubectl names the files.
fn file_name(located: &Located<'_>) -> String {
    let object = &located.manifest.object;
    let text = |value: &Value| value.as_str().unwrap_or_default().replace('/', ".");
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    format!("{version}.{kind}.{}.{}", located.namespace, located.manifest.metadata("name"))
}

/// Both sides as they may be seen: without what is nobody's to compare, and with the values of Secrets masked.
fn shown(mut live: Value, mut merged: Value, managed_fields: bool) -> [Value; 2] {
    for object in [&mut live, &mut merged] {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut).filter(|_| !managed_fields) {
            metadata.remove("managedFields");
        }
    }
    if merged["kind"] == "Secret" && merged["apiVersion"] == "v1" {
        let before = live["data"].clone();
        mask(live.get_mut("data"), &merged["data"], " (before)");
        mask(merged.get_mut("data"), &before, " (after)");
    }
    [live, merged]
}

/// Hides the values; those that differ say on which side they are.
fn mask(data: Option<&mut Value>, other: &Value, side: &str) {
    for (key, value) in data.and_then(Value::as_object_mut).into_iter().flatten() {
        let differs = other.get(key).is_some_and(|other| other != value);
        *value = format!("***{}", if differs { side } else { "" }).into();
    }
}

fn compare(live: &Path, merged: &Path) -> Result<()> {
    let program = std::env::var("KUBECTL_EXTERNAL_DIFF").ok().filter(|program| !program.is_empty());
    let program = program.unwrap_or_else(|| "diff -u -N".to_owned());
    let mut words = program.split_whitespace();
    let name = words.next().unwrap_or("diff");
    let status = Command::new(name).args(words).args([live, merged]).status();
    let status = status.map_err(|error| Failure::usage(format!("failed to run \"{name}\": {error}")))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(1) => Err(Failure::Silent),
        Some(code) => Err(Failure::Program { name: name.to_owned(), code: u8::try_from(code).unwrap_or(u8::MAX) }),
        None => Err(Failure::usage(format!("\"{name}\" was ended by a signal"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_of_secrets_are_not_shown() {
        let secret = |data: Value| json!({"apiVersion": "v1", "kind": "Secret", "data": data});
        let [live, merged] =
            shown(secret(json!({"a": "1", "b": "1"})), secret(json!({"a": "1", "b": "2", "c": "3"})), false);
        assert_eq!(live["data"], json!({"a": "***", "b": "*** (before)"}));
        assert_eq!(merged["data"], json!({"a": "***", "b": "*** (after)", "c": "***"}));
        let [live, merged] = shown(Value::Null, secret(json!({"a": "1"})), false);
        assert_eq!((live, &merged["data"]), (Value::Null, &json!({"a": "***"})));
    }
}
