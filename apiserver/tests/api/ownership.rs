//! Who owns which fields: managedFields of all writes, and server-side apply on objects, status and scale.

use serde_json::{Value, json};

use crate::server::{Answer, Server};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const CONTROLLERS: &str = "/api/v1/namespaces/default/replicationcontrollers";

async fn apply(server: &Server, path: &str, manager: &str, body: &str) -> Answer {
    let separator = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{separator}fieldManager={manager}");
    server.send("PATCH", &path, &[("content-type", "application/apply-patch+yaml")], body.to_owned()).await
}

/// Manager, operation, subresource and fields of each entry.
fn owners(answer: &Answer) -> Vec<(String, Value)> {
    let entries = answer.body["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let who = |entry: &Value| {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text("manager"), text("operation"), text("subresource")).trim_end().to_owned()
    };
    entries.iter().map(|entry| (who(entry), entry["fieldsV1"].clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn apply_creates_conflicts_and_gives_up() {
    let server = Server::start().await;
    let path = format!("{MAPS}/a");
    let config = |data: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {data}\n");
    let created = apply(&server, &path, "one", &config("{x: '1'}")).await;
    assert_eq!(
        (created.status.as_u16(), owners(&created)),
        (201, vec![("one Apply".to_owned(), json!({"f:data": {"f:x": {}}}))])
    );
    let same = apply(&server, &path, "one", &config("{x: '1'}")).await;
    assert_eq!(same.body, created.body, "nothing changed, not even the version");
    let conflict = apply(&server, &path, "two", &config("{x: '2'}")).await;
    assert_eq!(conflict.error(), (409, "Apply failed with 1 conflict: conflict with \"one\": .data.x"));
    let cause = json!([{"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.x"}]);
    assert_eq!(conflict.body["details"]["causes"], cause);
    let forced = apply(&server, &format!("{path}?force=true"), "two", &config("{x: '2'}")).await;
    assert_eq!(owners(&forced), [("two Apply".to_owned(), json!({"f:data": {"f:x": {}}}))]);
    let gone = apply(&server, &path, "two", &config("{}")).await;
    assert_eq!((gone.body.get("data"), gone.status.as_u16()), (None, 200));
    let named =
        apply(&server, &format!("{MAPS}/new"), "one", "{apiVersion: v1, kind: ConfigMap, metadata: {uid: u}}").await;
    let unfound = "Operation cannot be fulfilled on configmaps \"new\": uid mismatch: the provided object specified uid u, and no existing object was found";
    assert_eq!(named.error(), (409, unfound));
    let unknown =
        apply(&server, &path, "two", "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, extra: 1}").await;
    assert_eq!(
        unknown.error(),
        (500, "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .extra: field not declared in schema")
    );
}

#[tokio::test(start_paused = true)]
async fn every_write_notes_its_owner_until_tracking_ends() {
    let server = Server::start().await;
    let path = format!("{MAPS}/b");
    let body = json!({"metadata": {"name": "b"}, "data": {"x": "1"}}).to_string();
    let json_body = ("content-type", "application/json");
    let created = server.send("POST", MAPS, &[json_body, ("user-agent", "tool/v1 (linux)")], body).await;
    assert_eq!(owners(&created), [("tool Update".to_owned(), json!({"f:data": {".": {}, "f:x": {}}}))]);
    let patched = server.patch("merge", &format!("{path}?fieldManager=other"), &json!({"data": {"x": "2"}})).await;
    let expected = [
        ("other Update".to_owned(), json!({"f:data": {"f:x": {}}})),
        ("tool Update".to_owned(), json!({"f:data": {}})),
    ];
    let mut found = owners(&patched);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found, expected);
    let reset = server.patch("merge", &path, &json!({"metadata": {"managedFields": []}})).await;
    assert_eq!(owners(&reset), []);
    let untracked = server.patch("merge", &path, &json!({"data": {"z": "1"}})).await;
    assert_eq!(owners(&untracked), []);
    let config = "{apiVersion: v1, kind: ConfigMap, metadata: {name: b}, data: {z: '2'}}";
    let refused = apply(&server, &path, "late", config).await;
    assert_eq!(
        refused.error(),
        (409, "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.z")
    );
}

#[tokio::test(start_paused = true)]
async fn subresources_have_owners_of_their_own() {
    let server = Server::start().await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let body =
        json!({"metadata": {"name": "r"}, "spec": {"replicas": 0, "selector": {"a": "b"}, "template": template}});
    assert_eq!(server.ask("POST", &format!("{CONTROLLERS}?fieldManager=maker"), &body).await.status, 201);
    let path = format!("{CONTROLLERS}/r");
    let scale = "{apiVersion: autoscaling/v1, kind: Scale, metadata: {name: r}, spec: {replicas: 2}}";
    let refused = apply(&server, &format!("{path}/scale"), "scaler", scale).await;
    assert_eq!(
        refused.error(),
        (409, "Apply failed with 1 conflict: conflict with \"maker\" using autoscaling/v1: .spec.replicas")
    );
    let forced = apply(&server, &format!("{path}/scale?force=true"), "scaler", scale).await;
    assert_eq!((forced.status.as_u16(), &forced.body["spec"]["replicas"]), (200, &json!(2)));
    let status = "{apiVersion: v1, kind: ReplicationController, metadata: {name: r}, spec: {replicas: 9}, \
                  status: {replicas: 1, conditions: [{type: Mine, status: 'True'}]}}";
    let applied = apply(&server, &format!("{path}/status"), "controller", status).await;
    let of = |who: &str| owners(&applied).into_iter().find(|(name, _)| name == who).map(|(_, fields)| fields);
    assert_eq!(of("scaler Apply scale"), Some(json!({"f:spec": {"f:replicas": {}}})));
    let condition = json!({"k:{\"type\":\"Mine\"}": {".": {}, "f:type": {}, "f:status": {}}});
    assert_eq!(of("controller Apply status"), Some(json!({"f:status": {"f:replicas": {}, "f:conditions": condition}})));
    assert_eq!(of("maker Update").map(|fields| fields["f:spec"].get("f:replicas").cloned()), Some(None));
    assert_eq!(applied.body["spec"]["replicas"], 2);
}
