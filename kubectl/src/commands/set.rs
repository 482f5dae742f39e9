//! `kubectl set image` and `set env`: changes to the containers of a pod template.

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::DryRun;
use crate::failure::{Failure, Result};
use crate::manifest::Files;
use crate::output;
use crate::session::Session;
use crate::targets::{self, Selection, Target};

/// What is set.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Update the image of a pod template
    Image(Image),
    /// Update environment variables on a pod template
    Env(Env),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// TYPE NAME or TYPE/NAME, then the changes
    args: Vec<String>,
    /// Selector (label query)
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// All objects of the type
    #[arg(long)]
    all: bool,
    /// Send nothing (client), or store nothing (server)
    #[arg(long, value_enum, default_value = "none", default_missing_value = "client", num_args = 0..=1, require_equals = true)]
    dry_run: DryRun,
}

/// Flags of `image`; changes are CONTAINER=IMAGE, `*` is all containers.
#[derive(Debug, clap::Args)]
pub struct Image {
    #[command(flatten)]
    which: Which,
}

/// Flags of `env`; changes are NAME=VALUE or NAME-.
#[derive(Debug, clap::Args)]
pub struct Env {
    #[command(flatten)]
    which: Which,
    /// Only these containers
    #[arg(short, long, default_value = "*")]
    containers: String,
    /// Print what is set
    #[arg(long)]
    list: bool,
}

/// Sets it.
pub async fn run(session: &Session, command: Command) -> Result<()> {
    match command {
        Command::Image(args) => {
            let (names, changes) = split(&args.which.args);
            if changes.is_empty() {
                return Err(Failure::usage("one or more image updates is required"));
            }
            let each = |containers: &mut Vec<Value>| set_images(containers, changes);
            change(session, &args.which, names, "kubectl-set", "image updated", each).await
        }
        Command::Env(args) if args.list => list(session, &args).await,
        Command::Env(args) => {
            let (names, changes) = split(&args.which.args);
            if changes.is_empty() {
                return Err(Failure::usage("at least one environment variable must be provided"));
            }
            let each = |containers: &mut Vec<Value>| set_variables(containers, changes, &args.containers);
            change(session, &args.which, names, "kubectl-set", "env updated", each).await
        }
    }
}

/// The first change ends the names.
fn split(args: &[String]) -> (&[String], &[String]) {
    let first = args.iter().position(|arg| arg.contains('=') || (arg.ends_with('-') && !arg.contains('/')));
    args.split_at(first.unwrap_or(args.len()))
}

async fn chosen<'a>(session: &'a Session, which: &Which, names: &[String]) -> Result<Vec<Target<'a>>> {
    let selection = Selection { selector: which.selector.clone(), ..Selection::default() };
    targets::resolve(session, names, &selection, which.all, &Files::default()).await
}

/// Where an object has its pod's spec.
fn pod_spec(object: &Value) -> &'static str {
    match object["kind"].as_str() {
        Some("Pod") => "/spec",
        Some("CronJob") => "/spec/jobTemplate/spec/template/spec",
        _ => "/spec/template/spec",
    }
}

async fn change(
    session: &Session,
    which: &Which,
    names: &[String],
    manager: &str,
    done: &str,
    each: impl Fn(&mut Vec<Value>) -> Result<()>,
) -> Result<()> {
    let mut failures = Vec::new();
    for target in &chosen(session, which, names).await? {
        let result = async {
            let object = target.get(session).await?;
            let path = pod_spec(&object);
            let containers = object.pointer(path).and_then(|spec| spec["containers"].as_array());
            let before = containers
                .cloned()
                .ok_or_else(|| Failure::usage(format!("{} has no pod template", target.display())))?;
            let mut after = before.clone();
            each(&mut after)?;
            if before == after {
                return Ok(());
            }
            if which.dry_run != DryRun::Client {
                let patch = json!([
                    {"op": "test", "path": "/metadata/resourceVersion", "value": object["metadata"]["resourceVersion"]},
                    {"op": "replace", "path": format!("{path}/containers"), "value": after},
                ]);
                let query = format!("fieldManager={manager}{}", which.dry_run.query());
                let path = format!("{}?{query}", target.path());
                session.send(Method::PATCH, &path, "application/json-patch+json", &patch).await?;
            }
            output::line(&format!("{} {done}{}", target.display(), which.dry_run.suffix()))
        };
        failures.extend(result.await.err());
    }
    Failure::join(failures)
}

fn set_images(containers: &mut [Value], changes: &[String]) -> Result<()> {
    for change in changes {
        let (name, image) = change.split_once('=').unwrap_or((change, ""));
        let mut found = false;
        for container in containers.iter_mut().filter(|one| name == "*" || one["name"] == *name) {
            container["image"] = image.into();
            found = true;
        }
        if !found {
            return Err(Failure::usage(format!("unable to find container named \"{name}\"")));
        }
    }
    Ok(())
}

fn set_variables(containers: &mut [Value], changes: &[String], of: &str) -> Result<()> {
    let chosen = |container: &Value| of == "*" || of.split(',').any(|name| container["name"] == *name);
    for container in containers.iter_mut().filter(|container| chosen(container)) {
        let mut variables = container["env"].as_array().cloned().unwrap_or_default();
        for change in changes {
            let (name, value) = change
                .split_once('=')
                .map_or((change.trim_end_matches('-'), None), |(name, value)| (name, Some(value)));
            let present = variables.iter().position(|variable| variable["name"] == *name);
            match (present, value) {
                (Some(index), Some(value)) => variables[index] = json!({"name": name, "value": value}),
                (None, Some(value)) => variables.push(json!({"name": name, "value": value})),
                (Some(index), None) => drop(variables.remove(index)),
                (None, None) => {}
            }
        }
        match variables.is_empty() {
            true => drop(container.as_object_mut().map(|fields| fields.remove("env"))),
            false => container["env"] = variables.into(),
        }
    }
    Ok(())
}

async fn list(session: &Session, args: &Env) -> Result<()> {
    for target in &chosen(session, &args.which, &args.which.args).await? {
        let object = target.get(session).await?;
        let containers = object.pointer(pod_spec(&object)).and_then(|spec| spec["containers"].as_array());
        for container in containers.into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            output::line(&format!(
                "# {} {}, container {}",
                target.resource.kind,
                target.name,
                text(&container["name"])
            ))?;
            for variable in container["env"].as_array().into_iter().flatten() {
                let name = text(&variable["name"]);
                match variable["valueFrom"].as_object() {
                    None => output::line(&format!("{name}={}", text(&variable["value"])))?,
                    Some(_) => output::line(&format!("# {name} from {}", variable["valueFrom"]))?,
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_change_by_name() {
        let mut containers = vec![
            json!({"name": "a", "image": "x", "env": [{"name": "K", "value": "1"}]}),
            json!({"name": "b", "image": "x"}),
        ];
        let changes = |changes: &[&str]| changes.iter().map(|change| (*change).to_owned()).collect::<Vec<_>>();
        set_images(&mut containers, &changes(&["a=y"])).unwrap();
        assert!(set_images(&mut containers, &changes(&["none=y"])).is_err());
        set_variables(&mut containers, &changes(&["K-", "L=2=3"]), "a").unwrap();
        assert_eq!(containers[0], json!({"name": "a", "image": "y", "env": [{"name": "L", "value": "2=3"}]}));
        set_variables(&mut containers, &changes(&["L-"]), "*").unwrap();
        assert_eq!(containers[0], json!({"name": "a", "image": "y"}));
        assert_eq!(containers[1], json!({"name": "b", "image": "x"}));
    }
}
