//! Watching: selectors, watch-list, bookmarks, time limits, versions that are gone.

use std::time::Duration;

use axum::body::Body;
use futures::{StreamExt, TryStreamExt};
use http::Request;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::watcher;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;

use crate::server::Server;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_once_the_revision_is_read_is_an_event() {
    let server = Server::start().await;
    let list =
        "resourceVersionMatch=NotOlderThan&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersion=999999";
    let event = Watch::open(&server, list).await.next().await.expect("an event");
    let object = &event["object"];
    assert_eq!((&event["type"], &object["code"], &object["reason"]), (&json!("ERROR"), &json!(504), &json!("Timeout")));
    let components = server.get("/api/v1/componentstatuses?watch=1").await;
    let message = "watch is not supported on resources of kind \"componentstatuses\"";
    assert_eq!(components.error(), (405, message));
    assert_eq!(components.body["details"], json!({"kind": "componentstatuses"}));
}

/// The events of a watch as they come.
struct Watch {
    body: Body,
    rest: String,
}

impl Watch {
    async fn open(server: &Server, query: &str) -> Self {
        let request = Request::get(format!("{MAPS}?watch=1&{query}")).body(Body::empty()).expect("a request");
        let response = server.router().oneshot(request).await.expect("the router never fails");
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), rest: String::new() }
    }

    /// The next event; none when the stream has ended.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.rest.split_once('\n') {
                let event = serde_json::from_str(line).expect("an event is JSON");
                self.rest = rest.to_owned();
                return Some(event);
            }
            let frame = self.body.frame().await?.expect("the stream does not fail");
            self.rest.push_str(std::str::from_utf8(frame.data_ref().expect("data")).expect("text"));
        }
    }

    /// Type and name of the next events.
    async fn take(&mut self, count: usize) -> Vec<String> {
        let mut seen = Vec::new();
        for _ in 0..count {
            let event = self.next().await.expect("the watch goes on");
            seen.push(format!(
                "{} {}",
                event["type"].as_str().unwrap(),
                event["object"]["metadata"]["name"].as_str().unwrap_or("-")
            ));
        }
        seen
    }
}

async fn map(server: &Server, name: &str, label: &str) -> String {
    let body = json!({"metadata": {"name": name, "labels": {"w": label}}});
    let created = server.ask("POST", MAPS, &body).await;
    created.body["metadata"]["resourceVersion"].as_str().expect("a version").to_owned()
}

async fn relabel(server: &Server, name: &str, label: Value) {
    let patched =
        server.patch("merge", &format!("{MAPS}/{name}"), &json!({"metadata": {"labels": {"w": label}}})).await;
    assert_eq!(patched.status, 200);
}

#[tokio::test(start_paused = true)]
async fn objects_enter_and_leave_a_selection() {
    let server = Server::start().await;
    let version = map(&server, "a", "1").await;
    let mut watch = Watch::open(&server, &format!("labelSelector=w&resourceVersion={version}")).await;
    map(&server, "b", "1").await;
    relabel(&server, "a", json!("2")).await;
    relabel(&server, "a", Value::Null).await;
    relabel(&server, "a", json!("3")).await;
    server.ask("DELETE", &format!("{MAPS}/b"), &Value::Null).await;
    assert_eq!(watch.take(5).await, ["ADDED b", "MODIFIED a", "DELETED a", "ADDED a", "DELETED b"]);
    let mut from_state = Watch::open(&server, "labelSelector=w").await;
    assert_eq!(from_state.take(1).await, ["ADDED a"]);
}

#[tokio::test(start_paused = true)]
async fn events_that_follow_closely_come_together() {
    let server = Server::start().await;
    let version = map(&server, "first", "x").await;
    let mut watch = Watch::open(&server, &format!("resourceVersion={version}")).await;
    map(&server, "a", "x").await;
    let before = Instant::now();
    assert_eq!(watch.take(1).await, ["ADDED a"]);
    assert_eq!(Instant::now(), before, "the first event after a pause waits for nothing");
    map(&server, "b", "x").await;
    map(&server, "c", "x").await;
    assert_eq!(watch.take(1).await, ["ADDED b"]);
    assert!(watch.rest.contains("\"c\""), "both came in one piece: {:?}", watch.rest);
    assert!(before.elapsed() <= Duration::from_millis(2), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_deletion_has_its_own_version() {
    let server = Server::start().await;
    let version = map(&server, "a", "1").await;
    let mut watch = Watch::open(&server, &format!("resourceVersion={version}")).await;
    server.ask("DELETE", &format!("{MAPS}/a"), &Value::Null).await;
    let event = watch.next().await.unwrap();
    let number = |text: &str| text.parse::<u64>().unwrap();
    assert!(number(event["object"]["metadata"]["resourceVersion"].as_str().unwrap()) > number(&version));
}

#[tokio::test(start_paused = true)]
async fn watch_list_marks_the_end_of_the_initial_events() {
    let server = Server::start().await;
    map(&server, "a", "1").await;
    let query = "labelSelector=w&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = Watch::open(&server, query).await;
    assert_eq!(watch.take(1).await, ["ADDED a"]);
    let end = watch.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    map(&server, "b", "1").await;
    assert_eq!(watch.take(1).await, ["ADDED b"]);
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_each_minute_and_before_the_end() {
    let server = Server::start().await;
    let start = Instant::now();
    let mut watch =
        Watch::open(&server, "labelSelector=none&allowWatchBookmarks=true&timeoutSeconds=100&resourceVersion=0").await;
    let mut times = Vec::new();
    while let Some(event) = watch.next().await {
        assert_eq!(event["type"], "BOOKMARK");
        times.push(start.elapsed().as_secs());
    }
    assert_eq!(times, [60, 98]);
    assert_eq!(start.elapsed().as_secs(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_gone_answers_410_first() {
    let server = Server::start().await;
    let mut watch = Watch::open(&server, "resourceVersion=1").await;
    map(&server, "a", "1").await;
    assert!(watch.next().await.is_some(), "the start of the store is still known");
    server.server.draining.cancel();
    let drained = tokio::time::timeout(Duration::from_secs(1), async { while watch.next().await.is_some() {} }).await;
    assert!(drained.is_ok(), "watches end when the server drains");
}

#[tokio::test(start_paused = true)]
async fn tables_are_watched_with_headings_once() {
    let server = Server::start().await;
    map(&server, "a", "1").await;
    map(&server, "b", "1").await;
    let accept = "application/json;as=Table;g=meta.k8s.io;v=v1";
    let request = Request::get(format!("{MAPS}?watch=1&labelSelector=w&timeoutSeconds=1")).header("accept", accept);
    let response = server.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 2);
    assert!(events[0]["object"]["columnDefinitions"].is_array() && events[1]["object"]["columnDefinitions"].is_null());
    assert_eq!(events[1]["object"]["rows"][0]["cells"][0], "b");
}

#[tokio::test(start_paused = true)]
async fn kubes_watcher_follows() {
    let server = Server::start().await;
    map(&server, "a", "1").await;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "default");
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let mut events = std::pin::pin!(watcher(maps.clone(), config.labels("w")));
        let mut initial = Vec::new();
        loop {
            match events.try_next().await.unwrap().unwrap() {
                watcher::Event::Init => {}
                watcher::Event::InitApply(map) => initial.push(map.metadata.name.unwrap()),
                watcher::Event::InitDone => break,
                other => panic!("unexpected {other:?}"),
            }
        }
        assert_eq!(initial, ["a"]);
        relabel(&server, "a", json!(initial.len().to_string())).await;
        relabel(&server, "a", json!("x")).await;
        let changed = events.next().await.unwrap().unwrap();
        assert!(matches!(changed, watcher::Event::Apply(_)));
    }
}
