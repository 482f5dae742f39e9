//! `kubectl get`.

use futures::{AsyncBufReadExt, TryStreamExt};
use http::Request;
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::manifest::Files;
use crate::output::table::{self, Options, Rows};
use crate::output::{self, Format};
use crate::resources::Resource;
use crate::session::{AS_TABLE, Session};
use crate::targets::{self, Named, Selection, Target, encode};
use api::jsonpath::{Path, print as cell_text};

/// Objects asked for at a time; the server answers long lists in such pages.
const DEFAULT_CHUNK: u32 = 500;

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TYPE[,TYPE] [NAME...] or TYPE/NAME...
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selection: Selection,
    /// Output format: wide, json, yaml, name, jsonpath=…, custom-columns=…
    #[arg(short, long)]
    output: Option<String>,
    /// After listing, watch for changes
    #[arg(short, long)]
    watch: bool,
    /// Watch for changes without listing first
    #[arg(long)]
    watch_only: bool,
    /// Sort by a JSONPath expression
    #[arg(long)]
    sort_by: Option<String>,
    /// No heading
    #[arg(long)]
    no_headers: bool,
    /// A last column with all labels
    #[arg(long)]
    show_labels: bool,
    /// Labels shown as columns
    #[arg(short = 'L', long, value_delimiter = ',')]
    label_columns: Vec<String>,
    /// TYPE/ before each name
    #[arg(long)]
    show_kind: bool,
    /// Keep managedFields in json and yaml
    #[arg(long)]
    show_managed_fields: bool,
    /// What is not there is no error
    #[arg(long)]
    ignore_not_found: bool,
    /// A subresource: status or scale
    #[arg(long)]
    subresource: Option<String>,
    /// GET this path and print the answer as it is
    #[arg(long, value_name = "PATH")]
    raw: Option<String>,
    /// Long lists are fetched in pages of this size; 0 for all at once
    #[arg(long, default_value_t = DEFAULT_CHUNK)]
    chunk_size: u32,
}

/// Prints objects.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    if let Some(path) = &args.raw {
        let request = Request::get(path).body(vec![]).map_err(|error| Failure::usage(error.to_string()))?;
        return output::text(&session.client.request_text(request).await?);
    }
    let format = match Format::parse(args.output.as_deref())? {
        Format::CustomColumns(columns) if args.no_headers => Format::CustomColumns(columns.without_headings()),
        format => format,
    };
    let named = match args.files.is_empty() {
        true => targets::parse(session, &args.args).await?,
        false => Named::Objects(targets::resolve(session, &args.args, &args.selection, false, &args.files).await?),
    };
    if matches!(&named, Named::Objects(_)) && args.selection.is_query() {
        return Err(Failure::usage("name cannot be provided when a selector is specified"));
    }
    if args.selection.all_namespaces
        && let Named::Objects(_) = &named
    {
        return Err(Failure::usage("a resource cannot be retrieved by name across all namespaces"));
    }
    if args.watch || args.watch_only {
        return watch(session, &args, &format, named).await;
    }
    match format {
        Format::Table { wide } => tables(session, &args, wide, named).await,
        Format::Name => names(session, &args, named).await,
        format => documents(session, &args, &format, named).await,
    }
}

/// The URL of a collection with the selection's query.
fn collection(session: &Session, args: &Args, resource: &Resource, more: &str) -> String {
    let namespace = (!args.selection.all_namespaces).then_some(session.namespace.as_str());
    format!("{}?{}{more}", resource.collection(namespace), args.selection.query())
}

/// A whole collection, page after page, as one list (or table).
async fn list(session: &Session, args: &Args, resource: &Resource, accept: &str) -> Result<Value> {
    let field = if accept == AS_TABLE { "rows" } else { "items" };
    let mut next = String::new();
    let mut whole: Option<Value> = None;
    loop {
        let token = if next.is_empty() { String::new() } else { format!("&continue={}", encode(&next)) };
        let page = session
            .get_as(&collection(session, args, resource, &format!("&limit={}{token}", args.chunk_size)), accept)
            .await
            .map_err(|failure| unable(failure, args, resource))?;
        next = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        match &mut whole {
            None => whole = Some(page),
            Some(whole) => {
                let rows = page[field].as_array().cloned().unwrap_or_default();
                whole[field].as_array_mut().into_iter().for_each(|all| all.extend(rows.iter().cloned()));
            }
        }
        if next.is_empty() {
            return Ok(whole.unwrap_or_default());
        }
    }
}

/// A refused selector is told together with what it is.
fn unable(failure: Failure, args: &Args, resource: &Resource) -> Failure {
    match failure {
        Failure::Api(mut status) if status.reason == "BadRequest" && args.selection.is_query() => {
            let text = |selector: &Option<String>| selector.clone().unwrap_or_default();
            status.message = format!(
                "Unable to find \"{}/{}, Resource={}\" that match label selector \"{}\", field selector \"{}\": {}",
                resource.group,
                resource.version,
                resource.plural,
                text(&args.selection.selector),
                text(&args.selection.field_selector),
                status.message
            );
            Failure::Api(status)
        }
        failure => failure,
    }
}

/// Runs over objects; with `--ignore-not-found` those that are missing are left out, else reported at the end.
async fn each<'a>(
    session: &Session,
    args: &Args,
    targets: &'a [Target<'a>],
    accept: &str,
) -> Result<(Vec<(&'a Target<'a>, Value)>, Vec<Failure>)> {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for target in targets {
        let subresource = args.subresource.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
        match session.get_as(&format!("{}{subresource}", target.path()), accept).await {
            Ok(object) => found.push((target, object)),
            Err(failure) if failure.is_not_found() && args.ignore_not_found => {}
            Err(failure) if failure.is_not_found() && target.resource.namespaced => {
                // Where not even the namespace is there, that is what to say.
                let namespace = session.get(&format!("/api/v1/namespaces/{}", target.namespace)).await;
                failures.push(namespace.err().filter(Failure::is_not_found).unwrap_or(failure));
            }
            Err(failure) => failures.push(failure),
        }
    }
    Ok((found, failures))
}

async fn tables(session: &Session, args: &Args, wide: bool, named: Named<'_>) -> Result<()> {
    let options = |resource: &Resource, many: bool| Options {
        wide,
        with_namespace: args.selection.all_namespaces && resource.namespaced,
        show_labels: args.show_labels,
        label_columns: args.label_columns.clone(),
        prefix: (many || args.show_kind).then(|| resource.prefix()),
    };
    let mut groups: Vec<(&Resource, Value)> = Vec::new();
    let mut failures = Vec::new();
    match &named {
        Named::Collections(resources) => {
            for resource in resources {
                groups.push((resource, list(session, args, resource, AS_TABLE).await?));
            }
        }
        Named::Objects(targets) => {
            let (found, missing) = each(session, args, targets, AS_TABLE).await?;
            failures = missing;
            for (target, table) in found {
                match groups.last_mut().filter(|(resource, _)| *resource == target.resource) {
                    Some((_, whole)) => append_rows(whole, &table),
                    None => groups.push((target.resource, table)),
                }
            }
        }
    }
    let many = groups.len() > 1;
    let mut texts = Vec::new();
    for (resource, mut table) in groups {
        if table["rows"].as_array().is_none_or(Vec::is_empty) {
            continue;
        }
        if let Some(path) = &args.sort_by {
            sort_rows(&mut table, path)?;
        }
        texts.push(table::rows(&table, &options(resource, many)).render(args.no_headers));
    }
    if texts.is_empty() && failures.is_empty() && !args.ignore_not_found {
        eprintln!("{}", nothing_found(session, args, &named));
    }
    output::text(&texts.join("\n"))?;
    Failure::join(failures)
}

fn append_rows(whole: &mut Value, table: &Value) {
    let rows = table["rows"].as_array().cloned().unwrap_or_default();
    whole["rows"].as_array_mut().into_iter().for_each(|all| all.extend(rows.iter().cloned()));
}

fn nothing_found(session: &Session, args: &Args, named: &Named<'_>) -> String {
    let namespaced = match named {
        Named::Collections(resources) => resources.iter().any(|resource| resource.namespaced),
        Named::Objects(_) => false,
    };
    match namespaced && !args.selection.all_namespaces {
        true => format!("No resources found in {} namespace.", session.namespace),
        false => "No resources found".to_owned(),
    }
}

fn sort_path(path: &str) -> Result<Path> {
    let bare = path.trim_matches('\'').trim_start_matches('{').trim_end_matches('}');
    Path::parse(bare).map_err(|why| Failure::usage(format!("couldn't parse --sort-by {path}: {why}")))
}

fn sort_rows(table: &mut Value, path: &str) -> Result<()> {
    // Tables carry only metadata; other fields are sorted by the column of that name.
    let parsed = sort_path(path)?;
    let last = path.trim_matches(['\'', '{', '}']).rsplit('.').next().unwrap_or_default().to_lowercase();
    let definitions = table["columnDefinitions"].as_array().cloned().unwrap_or_default();
    let column =
        definitions.iter().position(|column| column["name"].as_str().is_some_and(|name| name.to_lowercase() == last));
    let Some(rows) = table["rows"].as_array_mut() else { return Ok(()) };
    rows.sort_by_cached_key(|row| {
        let object = &row["object"];
        match (parsed.find(object, object).first(), column) {
            (Some(value), _) => key(value),
            (None, Some(column)) => key(&row["cells"][column]),
            (None, None) => key(&Value::Null),
        }
    });
    Ok(())
}

/// Numbers before texts, each in their order.
fn key(value: &Value) -> (u8, i64, String) {
    match value.as_i64() {
        Some(number) => (0, number, String::new()),
        None => (1, 0, cell_text(value)),
    }
}

async fn names(session: &Session, args: &Args, named: Named<'_>) -> Result<()> {
    let failures = match &named {
        Named::Collections(resources) => {
            for resource in resources {
                for item in
                    list(session, args, resource, "application/json").await?["items"].as_array().into_iter().flatten()
                {
                    output::line(&format!(
                        "{}/{}",
                        resource.prefix(),
                        item["metadata"]["name"].as_str().unwrap_or_default()
                    ))?;
                }
            }
            vec![]
        }
        Named::Objects(targets) => {
            let (found, failures) = each(session, args, targets, "application/json").await?;
            found.iter().try_for_each(|(target, _)| output::line(&target.display()))?;
            failures
        }
    };
    Failure::join(failures)
}

async fn documents(session: &Session, args: &Args, format: &Format, named: Named<'_>) -> Result<()> {
    let mut items = Vec::new();
    let mut failures = Vec::new();
    let single = matches!(&named, Named::Objects(targets) if targets.len() == 1);
    match &named {
        Named::Collections(resources) => {
            for resource in resources {
                let list = list(session, args, resource, "application/json").await?;
                for item in list["items"].as_array().into_iter().flatten() {
                    let mut item = item.clone();
                    // Items of a list come without them.
                    item["apiVersion"] = resource.api_version().into();
                    item["kind"] = resource.kind.clone().into();
                    items.push(item);
                }
            }
        }
        Named::Objects(targets) => {
            let (found, missing) = each(session, args, targets, "application/json").await?;
            items.extend(found.into_iter().map(|(_, object)| object));
            failures = missing;
        }
    }
    if let Some(path) = &args.sort_by {
        let path = sort_path(path)?;
        items
            .sort_by_cached_key(|item| path.find(item, item).first().map_or((2, 0, String::new()), |value| key(value)));
    }
    if single && items.is_empty() {
        return Failure::join(failures);
    }
    let document = if single { items.remove(0) } else { output::list(items) };
    output::print(format, &document, args.show_managed_fields)?;
    Failure::join(failures)
}

/// Prints the present state, then each change as it comes, until the server or the user ends it.
async fn watch(session: &Session, args: &Args, format: &Format, named: Named<'_>) -> Result<()> {
    let (resource, name) = match named {
        Named::Collections(resources) if resources.len() == 1 => (resources[0], None),
        Named::Objects(targets) if targets.len() == 1 => (targets[0].resource, Some(targets[0].name.clone())),
        _ => return Err(Failure::usage("you may only specify a single resource type")),
    };
    let field = name.map(|name| format!("&fieldSelector=metadata.name%3D{}", encode(&name))).unwrap_or_default();
    let accept = if matches!(format, Format::Table { .. }) { AS_TABLE } else { "application/json" };
    let first = session.get_as(&collection(session, args, resource, &field), accept).await?;
    let mut printer = Printer { args, format, resource, headed: args.no_headers, definitions: Value::Null };
    if !args.watch_only {
        printer.print(&first)?;
    }
    let mut revision = first["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    loop {
        let path = collection(
            session,
            args,
            resource,
            &format!("{field}&watch=true&allowWatchBookmarks=true&resourceVersion={revision}"),
        );
        let request = Request::get(path)
            .header("Accept", accept)
            .body(vec![])
            .map_err(|error| Failure::usage(error.to_string()))?;
        let mut lines = session.client.request_stream(request).await?.lines();
        while let Some(line) = lines.try_next().await? {
            let event: Value = serde_json::from_str(&line)?;
            let object = &event["object"];
            match event["type"].as_str() {
                Some("ERROR") => return Err(Failure::usage(object["message"].as_str().unwrap_or("the watch failed"))),
                Some("BOOKMARK") => {}
                _ => printer.print(object)?,
            }
            if let Some(seen) = newest(object) {
                revision = seen;
            }
        }
    }
}

/// The resourceVersion of an event's object or table.
fn newest(object: &Value) -> Option<String> {
    let of = |object: &Value| {
        object["metadata"]["resourceVersion"].as_str().filter(|revision| !revision.is_empty()).map(str::to_owned)
    };
    object["rows"].as_array().and_then(|rows| rows.last()).and_then(|row| of(&row["object"])).or_else(|| of(object))
}

struct Printer<'a> {
    args: &'a Args,
    format: &'a Format,
    resource: &'a Resource,
    headed: bool,
    definitions: Value,
}

impl Printer<'_> {
    fn print(&mut self, object: &Value) -> Result<()> {
        let Format::Table { wide } = self.format else {
            let items = object["items"].as_array().cloned().unwrap_or_else(|| vec![object.clone()]);
            return items.iter().try_for_each(|item| match self.format {
                Format::Name => output::line(&format!(
                    "{}/{}",
                    self.resource.prefix(),
                    item["metadata"]["name"].as_str().unwrap_or_default()
                )),
                format => output::print(format, item, self.args.show_managed_fields),
            });
        };
        let mut table = object.clone();
        // Only the first table of a watch carries its columns.
        match table["columnDefinitions"].as_array().is_some_and(|columns| !columns.is_empty()) {
            true => self.definitions = table["columnDefinitions"].clone(),
            false => table["columnDefinitions"] = self.definitions.clone(),
        }
        let options = Options {
            wide: *wide,
            with_namespace: self.args.selection.all_namespaces && self.resource.namespaced,
            show_labels: self.args.show_labels,
            label_columns: self.args.label_columns.clone(),
            prefix: self.args.show_kind.then(|| self.resource.prefix()),
        };
        let rows: Rows = table::rows(&table, &options);
        if rows.rows.is_empty() {
            return Ok(());
        }
        let text = rows.render(self.headed);
        self.headed = true;
        output::text(&text)
    }
}
