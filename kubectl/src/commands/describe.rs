//! `kubectl describe`: an object in words, with its events. Kinds that have no page of their own get their fields as they are.

mod generic;
mod node;
mod page;
mod pod;
mod replication_controller;
mod service;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use self::page::Page;
use crate::duration::age;
use crate::failure::{Failure, Result};
use crate::manifest::Files;
use crate::output;
use crate::session::Session;
use crate::targets::{self, Named, Selection, Target, encode};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TYPE [NAME_PREFIX] or TYPE/NAME
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selection: Selection,
    /// Show events too
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    show_events: bool,
}

/// What the pages of all kinds may ask for.
pub struct Related {
    /// Pods that may belong to the object.
    pub pods: Vec<Value>,
    /// EndpointSlices of the service.
    pub slices: Vec<Value>,
    /// The node's lease.
    pub lease: Value,
    /// The present time.
    pub now: Timestamp,
}

/// Describes objects, two lines apart.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let targets = targets(session, &args).await?;
    if targets.is_empty() {
        eprintln!("No resources found in {} namespace.", session.namespace);
    }
    let (mut failures, mut pages) = (Vec::new(), Vec::new());
    for target in &targets {
        match describe(session, target, args.show_events).await {
            Ok(text) => pages.push(text),
            Err(failure) => failures.push(failure),
        }
    }
    output::text(&pages.join("\n\n"))?;
    Failure::join(failures)
}

/// Collections are listed; a name that does not exist may be a prefix.
async fn targets<'a>(session: &'a Session, args: &Args) -> Result<Vec<Target<'a>>> {
    if !args.files.is_empty() {
        return targets::resolve(session, &args.args, &args.selection, false, &args.files).await;
    }
    match targets::parse(session, &args.args).await? {
        Named::Collections(_) => targets::resolve(session, &args.args, &args.selection, true, &args.files).await,
        Named::Objects(named) => {
            let mut found = Vec::new();
            for target in named {
                match target.get(session).await {
                    Err(failure) if failure.is_not_found() => {
                        let kind = vec![target.resource.full_name()];
                        let all =
                            targets::resolve(session, &kind, &Selection::default(), true, &Files::default()).await?;
                        let before = found.len();
                        found.extend(all.into_iter().filter(|candidate| candidate.name.starts_with(&target.name)));
                        if found.len() == before {
                            return Err(failure);
                        }
                    }
                    Err(failure) => return Err(failure),
                    Ok(_) => found.push(target),
                }
            }
            Ok(found)
        }
    }
}

async fn describe(session: &Session, target: &Target<'_>, show_events: bool) -> Result<String> {
    let object = target.get(session).await?;
    let related = related(session, target, &object).await?;
    let mut page = Page::default();
    match target.resource.full_name().as_str() {
        "pods" => pod::describe(&mut page, &object, &related),
        "replicationcontrollers" => replication_controller::describe(&mut page, &object, &related),
        "nodes" => node::describe(&mut page, &object, &related),
        "services" => service::describe(&mut page, &object, &related),
        _ => generic::describe(&mut page, &object),
    }
    if show_events {
        events(&mut page, &object_events(session, &object).await?, related.now);
    }
    Ok(page.render())
}

async fn related(session: &Session, target: &Target<'_>, object: &Value) -> Result<Related> {
    let now = process_now();
    let mut related = Related { pods: vec![], slices: vec![], lease: Value::Null, now };
    let items = |list: Value| list["items"].as_array().cloned().unwrap_or_default();
    match target.resource.full_name().as_str() {
        "replicationcontrollers" => {
            related.pods = items(session.get(&format!("/api/v1/namespaces/{}/pods", target.namespace)).await?);
            let uid = &object["metadata"]["uid"];
            related.pods.retain(|pod| {
                pod["metadata"]["ownerReferences"].as_array().into_iter().flatten().any(|owner| owner["uid"] == *uid)
            });
        }
        "nodes" => {
            let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", encode(&target.name));
            related.pods = items(session.get(&path).await?);
            related.lease = session
                .get(&format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{}", target.name))
                .await
                .unwrap_or_default();
        }
        "services" => {
            let label = encode(&format!("kubernetes.io/service-name={}", target.name));
            let path = format!(
                "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector={label}",
                target.namespace
            );
            related.slices = items(session.get(&path).await?);
        }
        _ => {}
    }
    Ok(related)
}

/// The present time: a command-line program is its own clock.
fn process_now() -> Timestamp {
    Timestamp::now()
}

async fn object_events(session: &Session, object: &Value) -> Result<Vec<Value>> {
    let metadata = &object["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    // Events about cluster-scoped objects are kept in `default`; a node's carry its name as uid.
    let namespace = if text("namespace").is_empty() { "default" } else { text("namespace") };
    let mut selector = format!(
        "involvedObject.name={},involvedObject.kind={}",
        text("name"),
        object["kind"].as_str().unwrap_or_default()
    );
    if object["kind"] != "Node" {
        selector += &format!(",involvedObject.uid={}", text("uid"));
    }
    let list =
        session.get(&format!("/api/v1/namespaces/{namespace}/events?fieldSelector={}", encode(&selector))).await?;
    let mut events = list["items"].as_array().cloned().unwrap_or_default();
    events.sort_by_key(|event| last_seen(event).map(|time| time.as_nanosecond()));
    Ok(events)
}

fn timestamp(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

fn last_seen(event: &Value) -> Option<Timestamp> {
    [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ]
    .into_iter()
    .find_map(timestamp)
}

fn events(page: &mut Page, events: &[Value], now: Timestamp) {
    if events.is_empty() {
        page.field(0, "Events", "<none>");
        return;
    }
    page.heading(0, "Events");
    let mut rows = vec![
        ["Type", "Reason", "Age", "From", "Message"].map(str::to_owned).to_vec(),
        ["----", "------", "----", "----", "-------"].map(str::to_owned).to_vec(),
    ];
    for event in events {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let first = timestamp(&event["firstTimestamp"]).or(timestamp(&event["eventTime"]));
        let last = last_seen(event).map_or("<unknown>".to_owned(), |last| age(last, now));
        let count = event["series"]["count"].as_i64().or(event["count"].as_i64()).unwrap_or(1);
        let seen = if count > 1 {
            format!("{last} (x{count} over {})", first.map_or(String::new(), |first| age(first, now)))
        } else {
            last
        };
        let from = [&event["source"]["component"], &event["reportingComponent"]]
            .into_iter()
            .map(text)
            .find(|from| !from.is_empty());
        rows.push(vec![
            text(&event["type"]),
            text(&event["reason"]),
            seen,
            from.unwrap_or_default(),
            text(&event["message"]).trim().to_owned(),
        ]);
    }
    page.table(2, &rows, 2);
}
