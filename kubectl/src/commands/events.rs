//! `kubectl events`: what happened, the oldest first.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::duration::age;
use crate::failure::{Failure, Result};
use crate::output::table::align;
use crate::output::{self, Format};
use crate::session::Session;
use crate::targets;

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Events about this object: TYPE/NAME
    #[arg(long = "for", value_name = "TYPE/NAME")]
    about: Option<String>,
    /// Of these types: Normal, Warning
    #[arg(long, value_delimiter = ',')]
    types: Vec<String>,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// No heading
    #[arg(long)]
    no_headers: bool,
    /// Output format: json, yaml
    #[arg(short, long)]
    output: Option<String>,
}

/// Prints events.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let namespace = if args.all_namespaces { String::new() } else { format!("/namespaces/{}", session.namespace) };
    let list = session.get(&format!("/api/v1{namespace}/events")).await?;
    let mut events = list["items"].as_array().cloned().unwrap_or_default();
    if !args.types.is_empty() {
        let wanted = |event: &Value| {
            args.types.iter().any(|kind| event["type"].as_str().is_some_and(|is| is.eq_ignore_ascii_case(kind)))
        };
        events.retain(wanted);
    }
    if let Some(about) = &args.about {
        if !about.contains('/') {
            return Err(Failure::usage("--for must be in resource/name form"));
        }
        let target = targets::one(session, std::slice::from_ref(about), "pods").await?;
        let is = |object: &Value| object["kind"] == *target.resource.kind && object["name"] == *target.name;
        events.retain(|event| is(&event["involvedObject"]));
    }
    events.sort_by_key(last_seen);
    if let Some(output) = &args.output {
        return output::print(&Format::parse(Some(output))?, &output::list(events), false);
    }
    if events.is_empty() {
        match args.all_namespaces {
            true => eprintln!("No events found."),
            false => eprintln!("No events found in {} namespace.", session.namespace),
        }
        return Ok(());
    }
    let now = Timestamp::now();
    let mut lines: Vec<Vec<String>> = events.iter().map(|event| line(event, now, args.all_namespaces)).collect();
    if !args.no_headers {
        let mut headings = ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"].map(str::to_owned).to_vec();
        if args.all_namespaces {
            headings.insert(0, "NAMESPACE".to_owned());
        }
        lines.insert(0, headings);
    }
    output::text(&align(&lines.iter().collect::<Vec<_>>()))
}

fn last_seen(event: &Value) -> Option<Timestamp> {
    let times = [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"]];
    times.into_iter().find_map(|time| time.as_str()?.parse().ok())
}

fn line(event: &Value, now: Timestamp, with_namespace: bool) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let last = last_seen(event).map_or("<unknown>".to_owned(), |last| age(last, now));
    let count = event["series"]["count"].as_i64().or(event["count"].as_i64()).unwrap_or(1);
    let first: Option<Timestamp> =
        [&event["firstTimestamp"], &event["eventTime"]].into_iter().find_map(|time| time.as_str()?.parse().ok());
    let seen = match first.filter(|_| count > 1) {
        Some(first) => format!("{last} (x{count} over {})", age(first, now)),
        None => last,
    };
    let object = &event["involvedObject"];
    let mut cells = vec![
        seen,
        text(&event["type"]),
        text(&event["reason"]),
        format!("{}/{}", text(&object["kind"]), text(&object["name"])),
        text(&event["message"]).trim().to_owned(),
    ];
    if with_namespace {
        cells.insert(0, text(&event["metadata"]["namespace"]));
    }
    cells
}
