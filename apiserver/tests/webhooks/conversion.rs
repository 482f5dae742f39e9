//! Versions of a defined kind that a webhook makes of each other: on reads, lists, watches and writes, and what is said when it
//! does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::hooks::Hooks;
use crate::server::Server;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const V1: &str = "/apis/c.example.org/v1/namespaces/default/boxes";
const V2: &str = "/apis/c.example.org/v2/namespaces/default/boxes";

fn version(name: &str, storage: bool, field: &str) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {"type": "object",
        "properties": {"spec": {"type": "object", "properties": {field: {"type": "string"}}}}}}})
}

/// `spec.content` of v1 is `spec.contents` of v2.
fn converted(request: &Value) -> Value {
    let wanted = &request["desiredAPIVersion"];
    let (from, to) = if *wanted == "c.example.org/v2" { ("content", "contents") } else { ("contents", "content") };
    let convert = |object: &Value| {
        let mut object = object.clone();
        object["apiVersion"] = wanted.clone();
        if let Some(value) = object["spec"].as_object_mut().and_then(|spec| spec.remove(from)) {
            object["spec"][to] = value;
        }
        object
    };
    let objects: Vec<Value> = request["objects"].as_array().expect("objects").iter().map(convert).collect();
    json!({"result": {"status": "Success"}, "convertedObjects": objects})
}

async fn defined(server: &Server, hooks: &Hooks) {
    let definition = json!({"metadata": {"name": "boxes.c.example.org"}, "spec": {
        "group": "c.example.org", "scope": "Namespaced", "names": {"plural": "boxes", "kind": "Box"},
        "versions": [version("v1", true, "content"), version("v2", false, "contents")],
        "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": hooks.client_config("/convert")}}}});
    let created = server.ask("POST", DEFINITIONS, &definition).await;
    assert_eq!(created.status, 201, "{}", created.text);
    for _ in 0..500 {
        if server.get(V2).await.status == 200 {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("boxes are not served");
}

#[tokio::test]
async fn a_webhook_makes_versions_of_each_other() {
    let server = Server::start().await;
    let hooks = Hooks::start(|_, request| converted(request)).await;
    defined(&server, &hooks).await;
    let new =
        json!({"apiVersion": "c.example.org/v2", "kind": "Box", "metadata": {"name": "a"}, "spec": {"contents": "x"}});
    let created = server.ask("POST", V2, &new).await;
    assert_eq!((created.status.as_u16(), &created.body["spec"]), (201, &json!({"contents": "x"})), "{}", created.text);
    let stored = server.get(&format!("{V1}/a")).await;
    assert_eq!(
        (&stored.body["apiVersion"], &stored.body["spec"]),
        (&json!("c.example.org/v1"), &json!({"content": "x"}))
    );
    let read = server.get(&format!("{V2}/a")).await;
    assert_eq!(read.body["spec"], json!({"contents": "x"}));
    assert_eq!(read.body["metadata"]["resourceVersion"], stored.body["metadata"]["resourceVersion"]);
    assert_eq!(server.get(V2).await.body["items"][0]["spec"], json!({"contents": "x"}));
    let patched = server.patch("merge", &format!("{V2}/a"), &json!({"spec": {"contents": "y"}})).await;
    assert_eq!(patched.body["spec"], json!({"contents": "y"}), "{}", patched.text);
    assert_eq!(server.get(&format!("{V1}/a")).await.body["spec"], json!({"content": "y"}));
    let watched = server.get(&format!("{V2}?watch=1&timeoutSeconds=1")).await;
    assert_eq!(watched.body["object"]["spec"], json!({"contents": "y"}), "{}", watched.text);
    assert!(hooks.asked().iter().all(|(path, request)| path == "/convert" && request["uid"].is_string()));
}

#[tokio::test]
async fn a_webhook_that_fails_is_quoted() {
    let server = Server::start().await;
    let broken = Arc::new(AtomicBool::new(false));
    let breaks = Arc::clone(&broken);
    let hooks = Hooks::start(move |_, request| match breaks.load(Ordering::SeqCst) {
        true => json!({"result": {"status": "Failure", "message": "no way"}}),
        false => converted(request),
    })
    .await;
    defined(&server, &hooks).await;
    let new =
        json!({"apiVersion": "c.example.org/v1", "kind": "Box", "metadata": {"name": "a"}, "spec": {"content": "x"}});
    assert_eq!(server.ask("POST", V1, &new).await.status, 201);
    broken.store(true, Ordering::SeqCst);
    assert_eq!(
        server.get(&format!("{V2}/a")).await.error(),
        (500, "conversion webhook for c.example.org/v1, Kind=Box failed: no way")
    );
    assert_eq!(server.get(&format!("{V1}/a")).await.status, 200, "the stored version needs nobody");
}
