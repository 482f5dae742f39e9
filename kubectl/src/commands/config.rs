//! `kubectl config`: the kubeconfig's contexts, clusters and users. No server is asked.
//!
//! Entry point: [`run`]. A file is edited as the value it is, so that what this program does not know stays.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::failure::{Failure, Result};
use crate::output::table::align;
use crate::output::{self, Format};

/// What is wanted.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Display the current-context
    CurrentContext,
    /// Set the current-context in a kubeconfig file
    #[command(visible_alias = "use")]
    UseContext { name: String },
    /// Describe one or many contexts
    GetContexts {
        name: Option<String>,
        /// Output format: name
        #[arg(short, long)]
        output: Option<String>,
        /// No heading
        #[arg(long)]
        no_headers: bool,
    },
    /// Display clusters defined in the kubeconfig
    GetClusters,
    /// Display users defined in the kubeconfig
    GetUsers,
    /// Set a context entry in kubeconfig
    SetContext {
        name: Option<String>,
        /// The current one
        #[arg(long)]
        current: bool,
        /// Its cluster
        #[arg(long)]
        cluster: Option<String>,
        /// Its user
        #[arg(long)]
        user: Option<String>,
    },
    /// Delete the specified context from the kubeconfig
    DeleteContext { name: String },
    /// Display merged kubeconfig settings or a specified kubeconfig file
    View {
        /// Output format: yaml, json, jsonpath=…
        #[arg(short, long)]
        output: Option<String>,
        /// Only what the current context uses
        #[arg(long)]
        minify: bool,
        /// With keys and certificates
        #[arg(long)]
        raw: bool,
    },
}

/// Runs it.
pub fn run(global: &Global, command: Command) -> Result<()> {
    let files = files(global);
    match command {
        Command::CurrentContext => match current(&merged(&files)?) {
            "" => Err(Failure::usage("current-context is not set")),
            name => output::line(name),
        },
        Command::UseContext { name } => {
            if find(&merged(&files)?, "contexts", &name).is_none() {
                return Err(Failure::usage(format!("no context exists with the name: \"{name}\"")));
            }
            edit(&files, |config| config["current-context"] = name.clone().into())?;
            output::line(&format!("Switched to context \"{name}\"."))
        }
        Command::GetContexts { name, output, no_headers } => {
            contexts(&merged(&files)?, name.as_deref(), output.as_deref() == Some("name"), no_headers)
        }
        Command::GetClusters => names(&merged(&files)?, "clusters"),
        Command::GetUsers => names(&merged(&files)?, "users"),
        Command::SetContext { name, current: of_current, cluster, user } => {
            let name = match (name, of_current) {
                (Some(name), false) => name,
                (None, true) => current(&merged(&files)?).to_owned(),
                _ => return Err(Failure::usage("you must specify a non-empty context name or --current")),
            };
            set_context(&files, global, &name, cluster, user)
        }
        Command::DeleteContext { name } => {
            let file = main_file(&files);
            if find(&read(&file)?, "contexts", &name).is_none() {
                return Err(Failure::usage(format!("cannot delete context {name}, not in {}", file.display())));
            }
            edit(&files, |config| {
                let contexts = config["contexts"].as_array_mut();
                contexts.into_iter().for_each(|contexts| contexts.retain(|one| one["name"] != *name));
            })?;
            output::line(&format!("deleted context {name} from {}", file.display()))
        }
        Command::View { output, minify, raw } => {
            let mut config = merged(&files)?;
            if minify {
                minified(&mut config)?;
            }
            if !raw {
                redact(&mut config);
            }
            output::print(&Format::parse(Some(output.as_deref().unwrap_or("yaml")))?, &config, true)
        }
    }
}

/// The files that count, the most important first.
fn files(global: &Global) -> Vec<PathBuf> {
    if let Some(file) = &global.kubeconfig {
        return vec![file.clone()];
    }
    match std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
        Some(list) => std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect(),
        None => std::env::var_os("HOME").map(|home| Path::new(&home).join(".kube/config")).into_iter().collect(),
    }
}

/// The file that changes go to: the first that exists.
fn main_file(files: &[PathBuf]) -> PathBuf {
    files.iter().find(|file| file.exists()).or(files.last()).cloned().unwrap_or_default()
}

fn empty() -> Value {
    json!({"apiVersion": "v1", "clusters": null, "contexts": null, "current-context": "", "kind": "Config", "preferences": {}, "users": null})
}

fn read(file: &Path) -> Result<Value> {
    if !file.exists() {
        return Ok(empty());
    }
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::usage(format!("error loading config file \"{}\": {error}", file.display()))
    };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let config: Value = serde_yaml::from_str(&text).map_err(|error| wrong(&error))?;
    if config.is_null() { Ok(empty()) } else { Ok(config) }
}

/// All files as one: of two entries with a name the first counts.
fn merged(files: &[PathBuf]) -> Result<Value> {
    let mut whole = empty();
    for file in files.iter().filter(|file| file.exists()) {
        let config = read(file)?;
        if current(&whole).is_empty() {
            whole["current-context"] = current(&config).into();
        }
        for list in ["clusters", "contexts", "users"] {
            for entry in config[list].as_array().into_iter().flatten() {
                if find(&whole, list, entry["name"].as_str().unwrap_or_default()).is_none() {
                    match whole[list].as_array_mut() {
                        Some(entries) => entries.push(entry.clone()),
                        None => whole[list] = json!([entry]),
                    }
                }
            }
        }
    }
    Ok(whole)
}

fn current(config: &Value) -> &str {
    config["current-context"].as_str().unwrap_or_default()
}

fn find<'a>(config: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    config[list].as_array()?.iter().find(|one| one["name"] == *name)
}

/// Changes the file as a whole: readers see the old or the new one.
fn edit(files: &[PathBuf], change: impl FnOnce(&mut Value)) -> Result<()> {
    let file = main_file(files);
    let mut config = read(&file)?;
    change(&mut config);
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut new, serde_yaml::to_string(&config)?.as_bytes())?;
    new.persist(&file).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(())
}

fn set_context(
    files: &[PathBuf],
    global: &Global,
    name: &str,
    cluster: Option<String>,
    user: Option<String>,
) -> Result<()> {
    let mut known = false;
    edit(files, |config| {
        if !config["contexts"].is_array() {
            config["contexts"] = json!([]);
        }
        let contexts = config["contexts"].as_array_mut().expect("just made one");
        known = contexts.iter().any(|one| one["name"] == *name);
        if !known {
            contexts.push(json!({"name": name, "context": {"cluster": "", "user": ""}}));
        }
        let entry = contexts.iter_mut().find(|one| one["name"] == *name).expect("just made one");
        for (field, value) in [("cluster", &cluster), ("user", &user), ("namespace", &global.namespace)] {
            if let Some(value) = value {
                entry["context"][field] = value.clone().into();
            }
        }
    })?;
    output::line(&format!("Context \"{name}\" {}.", if known { "modified" } else { "created" }))
}

fn contexts(config: &Value, name: Option<&str>, only_names: bool, no_headers: bool) -> Result<()> {
    if let Some(name) = name.filter(|name| find(config, "contexts", name).is_none()) {
        return Err(Failure::usage(format!("context {name} not found")));
    }
    let entries = config["contexts"].as_array().into_iter().flatten();
    let mut entries: Vec<&Value> = entries.filter(|one| name.is_none_or(|name| one["name"] == *name)).collect();
    entries.sort_by_key(|one| one["name"].as_str().unwrap_or_default());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if only_names {
        return entries.iter().try_for_each(|one| output::line(&text(&one["name"])));
    }
    let mut lines = vec![["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"].map(str::to_owned).to_vec()];
    lines.extend(entries.iter().map(|one| {
        let mark = if one["name"] == *current(config) { "*" } else { "" };
        let context = &one["context"];
        vec![
            mark.to_owned(),
            text(&one["name"]),
            text(&context["cluster"]),
            text(&context["user"]),
            text(&context["namespace"]),
        ]
    }));
    output::text(&align(&lines.iter().skip(usize::from(no_headers)).collect::<Vec<_>>()))
}

fn names(config: &Value, list: &str) -> Result<()> {
    let mut names: Vec<&str> =
        config[list].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
    names.sort_unstable();
    output::line("NAME")?;
    names.into_iter().try_for_each(output::line)
}

fn minified(config: &mut Value) -> Result<()> {
    let name = current(config).to_owned();
    let Some(context) = find(config, "contexts", &name).cloned() else {
        return Err(Failure::usage("current-context must exist in order to minify"));
    };
    let kept = [
        ("contexts", &Value::from(name)),
        ("clusters", &context["context"]["cluster"]),
        ("users", &context["context"]["user"]),
    ];
    for (list, name) in kept {
        let entries = config[list].as_array_mut();
        entries.into_iter().for_each(|entries| entries.retain(|one| one["name"] == *name));
    }
    Ok(())
}

/// Secrets are not shown.
fn redact(config: &mut Value) {
    let secrets = [
        ("clusters", "cluster", "certificate-authority-data", "DATA+OMITTED"),
        ("users", "user", "client-certificate-data", "DATA+OMITTED"),
        ("users", "user", "client-key-data", "DATA+OMITTED"),
        ("users", "user", "token", "REDACTED"),
        ("users", "user", "password", "REDACTED"),
    ];
    for (list, inner, field, shown) in secrets {
        for entry in config[list].as_array_mut().into_iter().flatten() {
            if entry[inner].get(field).is_some() {
                entry[inner][field] = shown.into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_merged_minified_redacted_and_edited() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| folder.path().join(name));
        let context = |name: &str| json!({"name": name, "context": {"cluster": name, "user": name}});
        let entry = |name: &str| json!({"name": name, "user": {"token": "secret", "kept": 1}});
        let config = |name: &str| json!({"current-context": name, "contexts": [context(name), context("both")], "users": [entry(name)], "clusters": [{"name": name}]});
        for (file, name) in files.iter().zip(["a", "b"]) {
            std::fs::write(file, config(name).to_string()).unwrap();
        }
        let mut whole = merged(&files).unwrap();
        assert_eq!((current(&whole), whole["contexts"].as_array().unwrap().len()), ("a", 3));
        minified(&mut whole).unwrap();
        redact(&mut whole);
        assert_eq!(whole["users"], json!([{"name": "a", "user": {"token": "REDACTED", "kept": 1}}]));
        edit(&files, |config| config["current-context"] = "b".into()).unwrap();
        let written = read(&files[0]).unwrap();
        assert_eq!((current(&written), &written["users"]), ("b", &json!([entry("a")])));
    }
}
