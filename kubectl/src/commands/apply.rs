//! `kubectl apply`: three-way between what was applied last, what is applied now and what is there; or server-side.

mod migration;
mod three_way;

use http::Method;
use serde_json::{Value, json};

use super::create::validation;
use super::{DryRun, format, report};
use crate::failure::{Failure, Result};
use crate::manifest::{Files, Located};
use crate::openapi::Document;
use crate::output::Format;
use crate::session::Session;

/// Where the last applied configuration is kept.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The field manager of client-side apply.
const CLIENT_SIDE: &str = "kubectl-client-side-apply";
/// The patch format of kinds whose lists have merge keys; the server takes it for all but custom resources.
const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// How often a patch is made anew after a conflict.
const CONFLICT_RETRIES: usize = 5;

/// What can be done about fields of other managers.
const ADVICE: &str = "\
Please review the fields above--they currently have other managers. Here
are the ways you can resolve this warning:
* If you intend to manage all of these fields, please re-run the apply
  command with the `--force-conflicts` flag.
* If you do not intend to manage all of the fields, please edit your
  manifest to remove references to the fields that should keep their
  current managers.
* You may co-own fields by updating your manifest to match the existing
  value; in this case, you'll become the manager if the other manager(s)
  stop managing the field (remove it from their configuration).
See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts";

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    merge: Merge,
    /// Send nothing (client), or store nothing (server)
    #[arg(long, value_enum, default_value = "none", default_missing_value = "client", num_args = 0..=1, require_equals = true)]
    dry_run: DryRun,
    /// Output format: json, yaml, name, jsonpath=…
    #[arg(short, long)]
    output: Option<String>,
    /// What unknown fields do: strict, warn, ignore
    #[arg(long, default_value = "strict", default_missing_value = "strict", num_args = 0..=1, require_equals = true)]
    validate: String,
}

/// Flags that say how two configurations become one.
#[derive(Debug, clap::Args)]
pub struct Merge {
    /// Let the server merge
    #[arg(long)]
    server_side: bool,
    /// With --server-side: take over fields of other managers
    #[arg(long)]
    force_conflicts: bool,
    /// With --server-side: who manages the fields
    #[arg(long, default_value = "kubectl")]
    field_manager: String,
}

/// Applies every object of the files; a failure of one does not keep the others back.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let format = format(args.output.as_deref())?;
    let mut failures = Vec::new();
    for manifest in args.files.read()? {
        let source = manifest.source.clone();
        let result = async {
            let located = manifest.locate(session).await?;
            match args.merge.server_side {
                true => server_side(session, &args, format.as_ref(), located).await,
                false => client_side(session, &args, format.as_ref(), located, &source).await,
            }
        };
        failures.extend(result.await.err());
    }
    Failure::join(failures)
}

async fn server_side(session: &Session, args: &Args, format: Option<&Format>, located: Located<'_>) -> Result<()> {
    let object = located.resource.object(&located.namespace, located.manifest.metadata("name"));
    if args.dry_run == DryRun::None {
        migrate(session, args, &object).await?;
    }
    let applied = send_apply(session, &args.merge, &located, (&args.validate, args.dry_run)).await?;
    report(format, &display(&located, &applied), "serverside-applied", args.dry_run, &applied)
}

/// `fieldValidation` and `dryRun` of a write.
type How<'a> = (&'a str, DryRun);

fn query((validate, dry_run): How<'_>) -> Result<String> {
    Ok(format!("fieldValidation={}{}", validation(validate)?, dry_run.query()))
}

async fn send_apply(session: &Session, merge: &Merge, located: &Located<'_>, how: How<'_>) -> Result<Value> {
    let object = located.resource.object(&located.namespace, located.manifest.metadata("name"));
    let path = format!("{object}?fieldManager={}&force={}&{}", merge.field_manager, merge.force_conflicts, query(how)?);
    let applied = session.send(Method::PATCH, &path, "application/apply-patch+yaml", &located.manifest.object).await;
    applied.map_err(|failure| match failure {
        Failure::Api(status) if status.reason == "Conflict" => Failure::usage(format!("{}\n{ADVICE}", status.message)),
        failure => failure,
    })
}

/// The object as it is (null if it is not there) and as it would be after applying the manifest; nothing is stored.
pub async fn merged(session: &Session, merge: &Merge, located: &mut Located<'_>) -> Result<(Value, Value)> {
    let path = located.resource.object(&located.namespace, located.manifest.metadata("name"));
    let live = match session.get(&path).await {
        Err(failure) if failure.is_not_found() => Value::Null,
        live => live?,
    };
    let how = ("warn", DryRun::Server);
    let merged = if merge.server_side {
        send_apply(session, merge, located, how).await?
    } else if live.is_null() {
        let path = located.resource.collection(Some(&located.namespace));
        session.post(&format!("{path}?fieldManager={CLIENT_SIDE}&{}", query(how)?), &located.manifest.object).await?
    } else {
        forget(&mut located.manifest.object);
        patch(session, how, located, &path, live.clone()).await?.0
    };
    Ok((live, merged))
}

/// What was applied by the client before is the applying manager's.
async fn migrate(session: &Session, args: &Args, path: &str) -> Result<()> {
    let live = match session.get(path).await {
        Err(failure) if failure.is_not_found() => return Ok(()),
        live => live?,
    };
    let Some(patch) = migration::patch(&live, CLIENT_SIDE, &args.merge.field_manager) else { return Ok(()) };
    match session.send(Method::PATCH, path, "application/json-patch+json", &patch).await {
        // Somebody else was faster; the next apply finds what is left to do.
        Err(failure) if failure.is_conflict() => Ok(()),
        result => result.map(drop),
    }
}

fn display(located: &Located<'_>, object: &Value) -> String {
    format!("{}/{}", located.resource.prefix(), object["metadata"]["name"].as_str().unwrap_or_default())
}

async fn client_side(
    session: &Session,
    args: &Args,
    format: Option<&Format>,
    mut located: Located<'_>,
    source: &str,
) -> Result<()> {
    if located.manifest.metadata("name").is_empty() {
        let generated = located.manifest.metadata("generateName").to_owned();
        let why = if generated.is_empty() {
            "resource name may not be empty".to_owned()
        } else {
            format!("from {generated}: cannot use generate name with apply")
        };
        return Err(Failure::usage(why));
    }
    remember(&mut located.manifest.object)?;
    let modified = &located.manifest.object;
    let path = located.resource.object(&located.namespace, located.manifest.metadata("name"));
    let live = match session.get(&path).await {
        Ok(live) => live,
        Err(failure) if failure.is_not_found() => return create(session, args, format, &located, source).await,
        Err(failure) => return Err(failure),
    };
    if args.dry_run == DryRun::Client {
        return report(format, &display(&located, &live), "configured", args.dry_run, &live);
    }
    if live["metadata"]["annotations"][LAST_APPLIED].is_null() {
        eprintln!(
            "Warning: resource {} is missing the {LAST_APPLIED} annotation which is required by kubectl apply. kubectl apply should only be used on resources created declaratively by either kubectl create --save-config or kubectl apply. The missing annotation will be patched automatically.",
            format_args!("{}/{}", located.resource.plural, located.manifest.metadata("name"))
        );
    }
    let when = || format!("error when applying patch to \"{}\" from \"{source}\"", display(&located, modified));
    let how = (args.validate.as_str(), args.dry_run);
    match patch(session, how, &located, &path, live).await.map_err(|failure| failure.when(&when()))? {
        (object, true) => report(format, &display(&located, &object), "configured", args.dry_run, &object),
        (object, false) => report(format, &display(&located, &object), "unchanged", args.dry_run, &object),
    }
}

/// The configuration as it is compared: with annotations, but without what was applied last.
fn forget(object: &mut Value) {
    if let Some(annotations) = object["metadata"].get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    } else {
        object["metadata"]["annotations"] = json!({});
    }
}

/// Puts the configuration itself into its annotation.
fn remember(object: &mut Value) -> Result<()> {
    forget(object);
    let text = format!("{}\n", serde_json::to_string(object)?);
    object["metadata"]["annotations"][LAST_APPLIED] = text.into();
    Ok(())
}

async fn create(
    session: &Session,
    args: &Args,
    format: Option<&Format>,
    located: &Located<'_>,
    source: &str,
) -> Result<()> {
    let collection = located.resource.collection(Some(&located.namespace));
    let path = format!("{collection}?fieldManager={CLIENT_SIDE}&{}", query((&args.validate, args.dry_run))?);
    let object = &located.manifest.object;
    let created = match args.dry_run {
        DryRun::Client => object.clone(),
        DryRun::None | DryRun::Server => session
            .post(&path, object)
            .await
            .map_err(|failure| failure.when(&format!("error when creating \"{source}\"")))?,
    };
    report(format, &display(located, &created), "created", args.dry_run, &created)
}

/// Sends the difference; answers the object and whether anything changed.
async fn patch(
    session: &Session,
    how: How<'_>,
    located: &Located<'_>,
    path: &str,
    mut live: Value,
) -> Result<(Value, bool)> {
    let document = Document::of(session, located.resource).await?;
    let strategic = document.as_ref().filter(|document| document.patches_with(located.resource, STRATEGIC));
    let schema = strategic.and_then(|document| document.kind(located.resource));
    let content_type = if schema.is_some() { STRATEGIC } else { "application/merge-patch+json" };
    let path_with_query = format!("{path}?fieldManager={CLIENT_SIDE}&{}", query(how)?);
    for attempt in 0.. {
        let original: Value = match live["metadata"]["annotations"][LAST_APPLIED].as_str() {
            Some(text) => serde_json::from_str(text)
                .map_err(|error| Failure::usage(format!("unmarshalling last applied configuration: {error}")))?,
            None => json!({}),
        };
        let Some(patch) = three_way::patch(&original, &located.manifest.object, &live, schema) else {
            return Ok((live, false));
        };
        match session.send(Method::PATCH, &path_with_query, content_type, &patch).await {
            Ok(object) => {
                let changed = object["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"];
                return Ok((object, changed || how.1 == DryRun::Server));
            }
            Err(failure) if failure.is_conflict() && attempt < CONFLICT_RETRIES => live = session.get(path).await?,
            Err(failure) => return Err(failure),
        }
    }
    unreachable!("the last attempt returns")
}
