//! `kubectl edit`: the object as YAML in `$KUBE_EDITOR` or `$EDITOR`, and the difference back as a patch.

use std::io::Write;
use std::process::Command;

use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::manifest::Files;
use crate::output;
use crate::session::Session;
use crate::targets::{self, Selection, Target};

const HELP: &str = "# Please edit the object below. Lines beginning with a '#' will be ignored,\n\
# and an empty file will abort the edit. If an error occurs while saving this file will be\n\
# reopened with the relevant failures.\n#\n";

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TYPE NAME or TYPE/NAME
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// A subresource: status
    #[arg(long)]
    subresource: Option<String>,
    /// In which form: yaml or json
    #[arg(short, long)]
    output: Option<String>,
}

/// Edits each object.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    for target in &targets::resolve(session, &args.args, &Selection::default(), false, &args.files).await? {
        edit(session, target, &args).await?;
    }
    Ok(())
}

async fn edit(session: &Session, target: &Target<'_>, args: &Args) -> Result<()> {
    let subresource = args.subresource.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
    let path = format!("{}{subresource}", target.path());
    let mut original = session.get(&path).await?;
    if let Some(metadata) = original["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    let yaml = match args.output.as_deref() {
        Some("json") => output::indented(&original)? + "\n",
        _ => output::yaml::render(&original),
    };
    let mut text = format!("{HELP}{yaml}");
    let mut last_error: Option<Failure> = None;
    loop {
        let edited = in_editor(&text)?;
        let body: String =
            edited.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        let unchanged = body == yaml || (last_error.is_some() && edited == text);
        if body.trim().is_empty() || unchanged {
            let failed = last_error.take();
            eprintln!(
                "Edit cancelled, {}.",
                if body.trim().is_empty() { "saved file was empty" } else { "no changes made" }
            );
            return failed.map_or(Ok(()), Err);
        }
        let outcome = match serde_yaml::from_str::<Value>(&body) {
            Err(error) => Err(Failure::usage(format!("the edited file had a syntax error: {error}"))),
            Ok(changed) => match difference(&original, &changed) {
                None => {
                    eprintln!("Edit cancelled, no changes made.");
                    return Ok(());
                }
                Some(patch) => {
                    let path = format!("{path}?fieldManager=kubectl-edit&fieldValidation=Strict");
                    session.send(http::Method::PATCH, &path, "application/merge-patch+json", &patch).await
                }
            },
        };
        match outcome {
            Ok(edited) => {
                let format = super::format(args.output.as_deref())?;
                return super::report(format.as_ref(), &target.display(), "edited", super::DryRun::None, &edited);
            }
            Err(failure) => {
                let reasons: String = failure.to_string().lines().map(|line| format!("# {line}\n")).collect();
                text = format!("{HELP}{reasons}#\n{body}");
                last_error = Some(failure);
            }
        }
    }
}

fn in_editor(text: &str) -> Result<String> {
    let editor =
        ["KUBE_EDITOR", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|editor| !editor.is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    let mut file = tempfile::Builder::new().prefix("kubectl-edit-").suffix(".yaml").tempfile()?;
    file.write_all(text.as_bytes())?;
    file.flush()?;
    let command = format!("{editor} \"$1\"");
    let status = Command::new("sh").args(["-c", &command, "sh"]).arg(file.path()).status()?;
    if !status.success() {
        return Err(Failure::usage(format!("there was a problem with the editor \"{editor}\"")));
    }
    Ok(std::fs::read_to_string(file.path())?)
}

/// A JSON merge patch from one value to the other; None if they are equal.
fn difference(from: &Value, to: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (from, to) else { return (from != to).then(|| to.clone()) };
    let mut patch = serde_json::Map::new();
    for (field, value) in new {
        match old.get(field) {
            None => drop(patch.insert(field.clone(), value.clone())),
            Some(before) => {
                if let Some(inner) = difference(before, value) {
                    patch.insert(field.clone(), inner);
                }
            }
        }
    }
    for field in old.keys().filter(|field| !new.contains_key(*field)) {
        patch.insert(field.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_are_merge_patches() {
        let from = json!({"a": {"b": 1, "c": 2}, "l": [1]});
        assert_eq!(difference(&from, &from), None);
        assert_eq!(
            difference(&from, &json!({"a": {"b": 3}, "l": [1, 2]})),
            Some(json!({"a": {"b": 3, "c": null}, "l": [1, 2]}))
        );
    }
}
