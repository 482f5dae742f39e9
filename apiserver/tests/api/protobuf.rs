//! Protobuf, which typed Go clients speak: bodies, objects, lists, errors, watches.

use apiserver::http::body::protobuf::parse;
use serde_json::{Value, json};

use crate::crds;
use crate::server::{Answer, Server};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

async fn accept(server: &Server, path: &str, accept: &str) -> Answer {
    server.send("GET", path, &[("accept", accept)], "").await
}

fn read(answer: &Answer) -> Value {
    assert_eq!(answer.headers["content-type"], PROTOBUF, "{}", answer.text);
    parse(&answer.bytes, "", "").expect("a message")
}

#[tokio::test(start_paused = true)]
async fn answers_say_the_same_in_protobuf() {
    let server = Server::start().await;
    let map = json!({"metadata": {"name": "a", "labels": {"l": "1"}}, "data": {"k": "v"}, "binaryData": {"b": "AAH/"}});
    server.ask("POST", MAPS, &map).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}});
    server.ask("POST", "/api/v1/namespaces/default/pods", &pod).await;
    for path in [
        "/api/v1/namespaces/default/configmaps/a",
        "/api/v1/namespaces/default/pods/p",
        "/api/v1/namespaces/default/services/kubernetes",
        "/api/v1/pods",
        "/api/v1/namespaces",
        "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles?limit=3",
        "/apis/apiregistration.k8s.io/v1/apiservices",
        "/api/v1/namespaces/default/configmaps/none",
        "/apis/apps/v1",
    ] {
        let json = server.get(path).await;
        let protobuf = accept(&server, path, PROTOBUF).await;
        assert_eq!(protobuf.status, json.status, "{path}");
        assert_eq!(read(&protobuf), json.body, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_come_in_it_too() {
    let server = Server::start().await;
    server.ask("POST", MAPS, &json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).await;
    let bytes = accept(&server, &format!("{MAPS}/a"), PROTOBUF).await.bytes;
    let headers = [("content-type", PROTOBUF), ("accept", PROTOBUF)];
    let replaced = server.send("PUT", &format!("{MAPS}/a"), &headers, bytes).await;
    assert_eq!((replaced.status.as_u16(), &read(&replaced)["data"]), (200, &json!({"k": "v"})));
    let rubbish = server.send("POST", MAPS, &headers, "rubbish").await;
    assert_eq!((rubbish.status.as_u16(), &read(&rubbish)["reason"]), (400, &json!("BadRequest")));
}

#[tokio::test(start_paused = true)]
async fn what_has_no_form_in_it_is_json_where_that_is_accepted() {
    let server = crds::with_widgets().await;
    let path = "/apis/things.example.org/v1/widgets";
    assert_eq!(accept(&server, path, PROTOBUF).await.status, 406);
    let both = accept(&server, path, "application/vnd.kubernetes.protobuf,application/json").await;
    assert_eq!(both.headers["content-type"], "application/json");
    let table = format!("{PROTOBUF};as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io");
    assert_eq!(accept(&server, MAPS, &table).await.body["kind"], "Table");
    let metadata = format!("{PROTOBUF};as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");
    assert_eq!(read(&accept(&server, path, &metadata).await)["kind"], "PartialObjectMetadataList");
}

/// The events of a watch: type and object.
fn events(mut bytes: &[u8]) -> Vec<(String, Value)> {
    let mut events = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (event, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        bytes = rest;
        let kind = String::from_utf8(event[2..2 + usize::from(event[1])].to_vec()).expect("a type");
        let start = event.windows(4).position(|window| window == b"k8s\0").expect("an envelope");
        events.push((kind, parse(&event[start..], "", "").expect("an object")));
    }
    events
}

#[tokio::test(start_paused = true)]
async fn events_of_watches_are_framed() {
    let server = Server::start().await;
    server.ask("POST", MAPS, &json!({"metadata": {"name": "a", "labels": {"w": "1"}}, "data": {"k": "v"}})).await;
    let query = "watch=1&labelSelector=w&allowWatchBookmarks=1&sendInitialEvents=1&resourceVersionMatch=NotOlderThan&timeoutSeconds=1";
    let both = "application/vnd.kubernetes.protobuf;stream=watch,application/json";
    let answer = accept(&server, &format!("{MAPS}?{query}"), both).await;
    assert_eq!(answer.headers["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let found = events(&answer.bytes);
    assert_eq!((found[0].0.as_str(), &found[0].1["data"]), ("ADDED", &json!({"k": "v"})));
    let end = &found[1].1["metadata"]["annotations"]["k8s.io/initial-events-end"];
    assert_eq!((found[1].0.as_str(), end), ("BOOKMARK", &json!("true")));
}
