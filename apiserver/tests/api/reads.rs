//! Getting and listing: selectors, pages, versions, formats.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::Server;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn maps(server: &Server, count: usize) {
    for i in 0..count {
        let body = json!({"metadata": {"name": format!("m{i}"), "labels": {"n": i.to_string()}}, "data": {"k": "v"}});
        assert_eq!(server.ask("POST", MAPS, &body).await.status, 201);
    }
}

#[tokio::test(start_paused = true)]
async fn pages_show_one_revision() {
    let server = Server::start().await;
    maps(&server, 5).await;
    let first = server.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(first.names(), ["m0", "m1"]);
    assert_eq!(first.body["metadata"]["remainingItemCount"], 3);
    server.ask("DELETE", &format!("{MAPS}/m3"), &serde_json::Value::Null).await;
    let token = first.body["metadata"]["continue"].as_str().unwrap();
    let second = server.get(&format!("{MAPS}?limit=5&continue={token}")).await;
    assert_eq!(second.names(), ["m2", "m3", "m4"]);
    assert_eq!(second.body["metadata"]["resourceVersion"], first.body["metadata"]["resourceVersion"]);
    assert!(second.body["metadata"].get("continue").is_none());
    let selected = server.get(&format!("{MAPS}?limit=1&labelSelector=n")).await;
    assert!(selected.body["metadata"].get("remainingItemCount").is_none());
    let everything = server.get(&format!("{MAPS}?limit=1&resourceVersion=0")).await;
    assert_eq!(everything.names().len(), 4);
    let rubbish = server.get(&format!("{MAPS}?limit=1&continue=rubbish")).await;
    assert_eq!(
        rubbish.error(),
        (
            400,
            "invalid continue token: continue key is not valid: invalid character '\\xae' looking for beginning of value"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_too_old_comes_with_a_new_one() {
    let server = Server::start().await;
    maps(&server, 3).await;
    let first = server.get(&format!("{MAPS}?limit=1")).await;
    let token = first.body["metadata"]["continue"].as_str().unwrap().to_owned();
    maps_touched(&server).await;
    let expired = server.get(&format!("{MAPS}?limit=5&continue={token}")).await;
    if expired.status == 410 {
        assert_eq!(expired.body["reason"], "Expired");
        let token = expired.body["metadata"]["continue"].as_str().unwrap();
        assert_eq!(server.get(&format!("{MAPS}?continue={token}")).await.names(), ["m1", "m2"]);
    } else {
        // The cache still holds what the store has forgotten.
        assert_eq!(expired.names(), ["m1", "m2"]);
    }
}

/// Time for two compactions, with writes in between.
async fn maps_touched(server: &Server) {
    for i in 0..3 {
        tokio::time::sleep(Duration::from_secs(301)).await;
        server.patch("merge", &format!("{MAPS}/m0"), &json!({"data": {"i": i.to_string()}})).await;
    }
}

#[tokio::test(start_paused = true)]
async fn versions_of_lists() {
    let server = Server::start().await;
    maps(&server, 1).await;
    let at = server.get(MAPS).await.body["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    server.patch("merge", &format!("{MAPS}/m0"), &json!({"data": {"k": "new"}})).await;
    let value = async |query: &str| {
        let answer = server.get(&format!("{MAPS}?{query}")).await;
        answer.body["items"][0]["data"]["k"].as_str().unwrap_or(answer.error().1).to_owned()
    };
    assert_eq!(value(&format!("resourceVersion={at}&resourceVersionMatch=Exact")).await, "v");
    assert_eq!(value("").await, "new");
    // After that read the cache is up to date, so a read that any newer state would do for shows this one.
    assert_eq!(value(&format!("resourceVersion={at}&resourceVersionMatch=NotOlderThan")).await, "new");
    assert_eq!(
        value("resourceVersion=abc").await,
        "invalid resource version: resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax"
    );
    let future = server.get(&format!("{MAPS}?resourceVersion=99999999")).await;
    assert_eq!((future.status.as_u16(), &future.body["reason"]), (504, &json!("Timeout")));
    assert_eq!(future.body["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[tokio::test(start_paused = true)]
async fn selectors_select() {
    let server = Server::start().await;
    maps(&server, 4).await;
    let table = [
        ("labelSelector=n%20in%20(1,3)", vec!["m1", "m3"]),
        ("labelSelector=n!%3D2,n", vec!["m0", "m1", "m3"]),
        ("fieldSelector=metadata.name%3Dm2", vec!["m2"]),
        ("fieldSelector=metadata.name!%3Dm2,metadata.namespace%3Ddefault", vec!["m0", "m1", "m3"]),
        ("labelSelector=n%3E1", vec!["m2", "m3"]),
    ];
    for (query, names) in table {
        let mut found = server.get(&format!("{MAPS}?{query}")).await.names().join(",");
        found = found.replace("kube-root-ca.crt,", "");
        assert_eq!(found, names.join(","), "{query}");
    }
    let unknown = server.get(&format!("{MAPS}?fieldSelector=data.k%3Dv")).await;
    assert_eq!(
        unknown.error(),
        (400, "\"data.k\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    );
    let unknown = server.get("/api/v1/pods?fieldSelector=spec.image%3Dv").await;
    assert_eq!(unknown.error(), (400, "field label not supported: spec.image"));
}

#[tokio::test(start_paused = true)]
async fn answers_come_in_the_form_that_was_asked_for() {
    let server = Server::start().await;
    maps(&server, 1).await;
    let path = format!("{MAPS}/m0");
    let get = async |accept: &'static str| server.send("GET", &path, &[("accept", accept)], "").await;
    let yaml = get("application/yaml").await;
    assert!(yaml.text.starts_with("apiVersion: v1\ndata:\n  k: v\nkind: ConfigMap\n"), "{}", yaml.text);
    let table = get("application/json;as=Table;g=meta.k8s.io;v=v1").await.body;
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][0]), (&json!("Table"), &json!("m0")));
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let headers = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
    for (plural, rows) in [("secrets", json!([])), ("limitranges", Value::Null)] {
        let path = format!("/api/v1/namespaces/default/{plural}");
        assert_eq!(server.send("GET", &path, &headers, "").await.body["rows"], rows, "{plural}");
    }
    let metadata = get("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").await.body;
    assert!(metadata["metadata"]["uid"].is_string() && metadata.get("data").is_none());
    assert_eq!(get("application/xml").await.status, 406);
    assert_eq!(get("application/json;as=Chair;g=meta.k8s.io;v=v1,*/*").await.body["kind"], "ConfigMap");
    let items = server.get(MAPS).await.body;
    assert!(items["items"][0].get("kind").is_none(), "items of lists do not repeat their kind");
}

#[tokio::test(start_paused = true)]
async fn large_lists_are_streamed_whole() {
    let server = Server::start().await;
    let text = "x".repeat(8 * 1024);
    for i in 0..64 {
        server.ask("POST", MAPS, &json!({"metadata": {"name": format!("big{i:02}")}, "data": {"k": text}})).await;
    }
    let list = server.get(MAPS).await;
    assert_eq!(list.names().iter().filter(|name| name.starts_with("big")).count(), 64);
    assert_eq!(list.body["kind"], "ConfigMapList");
}

#[tokio::test(start_paused = true)]
async fn large_answers_are_compressed_for_those_who_ask() {
    let server = Server::start().await;
    let text = "x".repeat(16 * 1024);
    for i in 0..16 {
        server.ask("POST", MAPS, &json!({"metadata": {"name": format!("big{i:02}")}, "data": {"k": text}})).await;
    }
    let encoding = async |path: &str| {
        let answer = server.send("GET", path, &[("accept-encoding", "gzip")], "").await;
        answer.headers.get("content-encoding").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(encoding(MAPS).await.as_deref(), Some("gzip"));
    assert_eq!(encoding(&format!("{MAPS}/big00")).await, None);
    assert_eq!(
        encoding(&format!("{MAPS}?watch=1&timeoutSeconds=1")).await,
        None,
        "events of a watch must not wait for a compressor"
    );
}
