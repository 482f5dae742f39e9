//! Kinds that are defined at run time: served at once, pruned, defaulted, checked, scaled, shown, converted, and gone with their
//! definition.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::server::{Answer, Server};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const GROUP: &str = "/apis/things.example.org";
const WIDGETS: &str = "/apis/things.example.org/v1/namespaces/default/widgets";

fn widget_schema() -> Value {
    json!({"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 10, "default": 3},
            "colour": {"type": "string", "enum": ["red", "green"]},
            "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "string", "default": "d"}}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }},
        "status": {"type": "object", "properties": {"ready": {"type": "boolean"}, "replicas": {"type": "integer"}, "selector": {"type": "string"}}},
    }})
}

fn version(name: &str, storage: bool) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": widget_schema()},
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector"}},
        "selectableFields": [{"jsonPath": ".spec.colour"}],
        "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]})
}

fn definition(plural: &str, kind: &str, versions: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.things.example.org")},
        "spec": {"group": "things.example.org", "scope": "Namespaced", "versions": versions,
            "names": {"plural": plural, "kind": kind, "shortNames": ["wd"], "categories": ["all"]}}})
}

/// Asks until the answer is as wanted; on virtual time that costs nothing.
async fn until(server: &Server, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
    let asking = async {
        loop {
            let answer = server.get(path).await;
            if wanted(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), asking).await.unwrap_or_else(|_| panic!("{path} never was as wanted"))
}

async fn define(server: &Server, definition: &Value) {
    let created = server.ask("POST", DEFINITIONS, definition).await;
    assert_eq!(created.status.as_u16(), 201, "{}", created.text);
    let path = format!("{DEFINITIONS}/{}", definition["metadata"]["name"].as_str().unwrap());
    until(server, &path, |answer| condition(answer, "Established") == "True").await;
}

fn condition<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let conditions = answer.body["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == name);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default()
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "things.example.org/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

pub(crate) async fn with_widgets() -> Server {
    let server = Server::start().await;
    define(&server, &definition("widgets", "Widget", json!([version("v1", true)]))).await;
    server
}

#[tokio::test(start_paused = true)]
async fn a_defined_kind_is_served_once_it_is_established() {
    let server = Server::start().await;
    assert_eq!(server.get(WIDGETS).await.text, "404 page not found\n");
    let before = server.get("/api/v1/namespaces/default").await.body["metadata"]["resourceVersion"].clone();
    define(&server, &definition("widgets", "Widget", json!([version("v1", true)]))).await;
    let list = server.get(WIDGETS).await;
    assert_eq!((list.status.as_u16(), &list.body["kind"], list.names()), (200, &json!("WidgetList"), vec![]));
    let resources = server.get(&format!("{GROUP}/v1")).await.body["resources"].clone();
    assert_eq!(
        resources[0],
        json!({"name": "widgets", "singularName": "widget", "namespaced": true, "kind": "Widget", "shortNames": ["wd"],
            "categories": ["all"], "storageVersionHash": resources[0]["storageVersionHash"],
            "verbs": ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]})
    );
    let openapi = server.get("/openapi/v3").await;
    assert!(openapi.body["paths"]["apis/things.example.org/v1"].is_object(), "{}", openapi.text);
    let path = format!("{WIDGETS}?watch=1&timeoutSeconds=1&resourceVersion={}", before.as_str().unwrap());
    let watch = server.get(&path).await;
    assert_eq!(watch.body["object"]["reason"], json!("Expired"), "{}", watch.text);
}

#[tokio::test(start_paused = true)]
async fn objects_are_pruned_and_get_their_defaults() {
    let server = with_widgets().await;
    let spec = json!({"colour": "green", "parts": [{"k": "x", "w": 1}], "free": {"any": [1]}, "extra": 1});
    let created = server.ask("POST", WIDGETS, &widget("a", spec)).await;
    let expected = json!({"size": 3, "colour": "green", "parts": [{"k": "x", "v": "d"}], "free": {"any": [1]}});
    assert_eq!((created.status.as_u16(), &created.body["spec"]), (201, &expected));
    assert_eq!(created.body["metadata"]["generation"], json!(1));
    assert_eq!(
        created.warnings(),
        ["299 - \"unknown field \\\"spec.extra\\\"\"", "299 - \"unknown field \\\"spec.parts[0].w\\\"\""]
    );
    let read = server.get(&format!("{WIDGETS}/a")).await;
    assert_eq!(read.body, created.body);
    let strict =
        server.ask("POST", &format!("{WIDGETS}?fieldValidation=Strict"), &widget("b", json!({"extra": 1}))).await;
    assert_eq!(
        strict.error(),
        (
            400,
            "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \"spec.extra\""
        )
    );
}

#[tokio::test(start_paused = true)]
async fn bodies_must_be_of_the_kind_and_version() {
    let server = with_widgets().await;
    let mut other = widget("x", json!({}));
    other["kind"] = json!("Gadget");
    assert_eq!(
        server.ask("POST", WIDGETS, &other).await.error(),
        (422, "Gadget.things.example.org \"x\" is invalid: kind: Invalid value: \"Gadget\": must be Widget")
    );
    let mut later = widget("x", json!({}));
    later["apiVersion"] = json!("things.example.org/v2");
    let refused = server.ask("POST", WIDGETS, &later).await;
    let why = "the API version in the data (things.example.org/v2) does not match the expected API version (things.example.org/v1)";
    assert_eq!((refused.error(), refused.warnings()), ((400, why), vec!["299 - \"unknown field \\\"spec\\\"\""]));
    let typed = json!({"apiVersion": "things.example.org/v1", "kind": "Widget", "metadata": {"name": 1}});
    assert_eq!(
        server.ask("POST", WIDGETS, &typed).await.error(),
        (
            400,
            "Widget in version \"v1\" cannot be handled as a Widget: json: cannot unmarshal number into Go struct field ObjectMeta.name of type string"
        )
    );
    let refused = server.patch("strategic-merge", &format!("{WIDGETS}/a"), &json!({})).await;
    assert_eq!(refused.status.as_u16(), 415);
    assert!(
        refused
            .error()
            .1
            .ends_with("application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml")
    );
}

#[tokio::test(start_paused = true)]
async fn objects_must_be_as_the_schema_says() {
    let server = with_widgets().await;
    let table = [
        (json!({"size": 0}), "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        (json!({"colour": "blue"}), "spec.colour: Unsupported value: \"blue\": supported values: \"red\", \"green\""),
        (json!({"parts": [{"k": "a"}, {"k": "a"}]}), "spec.parts[1]: Duplicate value: {\"k\":\"a\"}"),
        (json!({"parts": [{}]}), "spec.parts[0].k: Required value"),
        (
            json!({"size": "big"}),
            "[spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\", \
             .spec.size: Invalid value: 0: .spec.size accessor error: big is of the type string, expected int64]",
        ),
    ];
    for (spec, why) in table {
        let refused = server.ask("POST", WIDGETS, &widget("x", spec)).await;
        assert_eq!(refused.error(), (422, format!("Widget.things.example.org \"x\" is invalid: {why}").as_str()));
    }
    let missing = json!({"apiVersion": "things.example.org/v1", "kind": "Widget", "metadata": {"name": "x"}});
    assert_eq!(
        server.ask("POST", WIDGETS, &missing).await.error(),
        (422, "Widget.things.example.org \"x\" is invalid: spec: Required value")
    );
}

#[tokio::test(start_paused = true)]
async fn status_scale_and_generation_are_kept_apart() {
    let server = with_widgets().await;
    let path = format!("{WIDGETS}/a");
    let mut first = widget("a", json!({}));
    first["status"] = json!({"ready": true});
    assert_eq!(server.ask("POST", WIDGETS, &first).await.body.get("status"), None);
    let patched = server.patch("merge", &path, &json!({"status": {"ready": true}, "spec": {"size": 4}})).await;
    assert_eq!((patched.body.get("status"), &patched.body["metadata"]["generation"]), (None, &json!(2)));
    let change = json!({"status": {"ready": true, "replicas": 2, "selector": "a=b"}, "spec": {"size": 9}, "metadata": {"labels": {"x": "y"}}});
    let patched = server.patch("merge", &format!("{path}/status"), &change).await;
    assert_eq!((&patched.body["spec"]["size"], &patched.body["metadata"]["generation"]), (&json!(4), &json!(2)));
    assert_eq!(patched.body["metadata"].get("labels"), None, "metadata is not the status' to change");
    let scale = server.get(&format!("{path}/scale")).await;
    assert_eq!(
        (&scale.body["spec"], &scale.body["status"]),
        (&json!({"replicas": 4}), &json!({"replicas": 2, "selector": "a=b"}))
    );
    let scaled = server.patch("merge", &format!("{path}/scale"), &json!({"spec": {"replicas": 6}})).await;
    assert_eq!(scaled.body["spec"], json!({"replicas": 6}));
    let refused = server.patch("merge", &format!("{path}/scale"), &json!({"spec": {"replicas": -1}})).await;
    let of_the_object = refused.error().1.starts_with("Widget.things.example.org \"a\" is invalid: ");
    let counted = refused.error().1.contains(".spec.size: Invalid value: -1: should be a non-negative integer");
    assert!(of_the_object && counted, "{:?}", refused.error());
    let read = server.get(&path).await;
    assert_eq!((&read.body["spec"]["size"], &read.body["metadata"]["generation"]), (&json!(6), &json!(3)));
    let put = server.ask("PUT", &path, &widget("a", json!({"size": 1}))).await;
    assert_eq!(
        put.error(),
        (
            422,
            "widgets.things.example.org \"a\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn tables_and_selectors_follow_the_definition() {
    let server = with_widgets().await;
    for (name, colour) in [("a", "red"), ("b", "green")] {
        server.ask("POST", WIDGETS, &widget(name, json!({"colour": colour}))).await;
    }
    server.ask("POST", WIDGETS, &widget("c", json!({}))).await;
    let accept = ("accept", "application/json;as=Table;g=meta.k8s.io;v=v1");
    let table = server.send("GET", WIDGETS, &[accept], "").await;
    let cells: Vec<&Value> = table.body["rows"].as_array().unwrap().iter().map(|row| &row["cells"]).collect();
    assert_eq!(cells, [&json!(["a", 3]), &json!(["b", 3]), &json!(["c", 3])]);
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let table = server.send("GET", definitions, &[accept], "").await;
    let columns = table.body["columnDefinitions"].as_array().unwrap().iter().map(|column| &column["name"]);
    assert_eq!(columns.collect::<Vec<_>>(), ["Name", "Created At"]);
    assert_eq!(server.get(&format!("{WIDGETS}?fieldSelector=spec.colour%3Dred")).await.names(), ["a"]);
    assert_eq!(server.get(&format!("{WIDGETS}?fieldSelector=spec.colour%3D")).await.names(), ["c"]);
    assert_eq!(
        server.get(&format!("{WIDGETS}?fieldSelector=spec.size%3D3")).await.error(),
        (400, "field label not supported: spec.size")
    );
}

#[tokio::test(start_paused = true)]
async fn apply_knows_the_lists_of_a_defined_kind() {
    let server = with_widgets().await;
    server.ask("POST", WIDGETS, &widget("a", json!({"parts": [{"k": "x"}]}))).await;
    let apply =
        "apiVersion: things.example.org/v1\nkind: Widget\nmetadata: {name: a}\nspec: {parts: [{k: z, v: '1'}]}\n";
    let headers = [("content-type", "application/apply-patch+yaml")];
    let applied = server.send("PATCH", &format!("{WIDGETS}/a?fieldManager=m"), &headers, apply).await;
    assert_eq!(applied.body["spec"]["parts"], json!([{"k": "x", "v": "d"}, {"k": "z", "v": "1"}]), "{}", applied.text);
    assert_eq!(
        applied.body["metadata"]["managedFields"][0]["fieldsV1"],
        json!({"f:spec": {"f:parts": {"k:{\"k\":\"z\"}": {".": {}, "f:k": {}, "f:v": {}}}}})
    );
}

#[tokio::test(start_paused = true)]
async fn versions_that_look_alike_become_each_other() {
    let server = Server::start().await;
    let mut later = version("v2", false);
    later["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["colour"] =
        json!({"type": "string", "enum": ["red"]});
    later["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"].as_object_mut().unwrap().remove("free");
    define(&server, &definition("widgets", "Widget", json!([version("v1", true), later]))).await;
    let created = server.ask("POST", WIDGETS, &widget("a", json!({"colour": "red", "free": {"x": 1}}))).await;
    assert_eq!(created.status.as_u16(), 201);
    let at_v2 = WIDGETS.replace("/v1/", "/v2/");
    let read = server.get(&format!("{at_v2}/a")).await;
    assert_eq!(
        (&read.body["apiVersion"], &read.body["spec"]),
        (&json!("things.example.org/v2"), &json!({"size": 3, "colour": "red"}))
    );
    assert_eq!(server.get(&at_v2).await.body["items"][0]["spec"], json!({"size": 3, "colour": "red"}));
    let patched = server.patch("merge", &format!("{at_v2}/a"), &json!({"spec": {"size": 5}})).await;
    assert_eq!((patched.status.as_u16(), &patched.body["apiVersion"]), (200, &json!("things.example.org/v2")));
    let stored = server.get(&format!("{WIDGETS}/a")).await;
    assert_eq!(
        (&stored.body["apiVersion"], &stored.body["spec"]["size"]),
        (&json!("things.example.org/v1"), &json!(5))
    );
    let watched = server.get(&format!("{at_v2}?watch=1&timeoutSeconds=1")).await;
    assert_eq!(watched.body["object"]["apiVersion"], json!("things.example.org/v2"), "{}", watched.text);
    let refused = server.ask("POST", &at_v2, &widget("b", json!({"colour": "red", "other": 1}))).await;
    let why = "the API version in the data (things.example.org/v1) does not match the expected API version (things.example.org/v2)";
    assert_eq!((refused.error(), refused.warnings()), ((400, why), vec!["299 - \"unknown field \\\"spec.other\\\"\""]));
}

#[tokio::test(start_paused = true)]
async fn objects_outlive_the_version_in_which_they_were_stored() {
    let server = Server::start().await;
    define(&server, &definition("widgets", "Widget", json!([version("v1", true), version("v2", false)]))).await;
    server.ask("POST", WIDGETS, &widget("a", json!({"colour": "red"}))).await;
    let path = format!("{DEFINITIONS}/widgets.things.example.org");
    let moved = json!({"spec": {"versions": [version("v1", false), version("v2", true)]}});
    assert_eq!(server.patch("merge", &path, &moved).await.status.as_u16(), 200);
    let forgotten = json!({"status": {"storedVersions": ["v2"]}});
    assert_eq!(server.patch("merge", &format!("{path}/status"), &forgotten).await.status.as_u16(), 200);
    let removed = json!({"spec": {"versions": [version("v2", true)]}});
    assert_eq!(server.patch("merge", &path, &removed).await.status.as_u16(), 200);
    until(&server, WIDGETS, |answer| answer.status.as_u16() == 404).await;
    let at_v2 = WIDGETS.replace("/v1/", "/v2/");
    let v2 = json!("things.example.org/v2");
    assert_eq!(server.get(&format!("{at_v2}/a")).await.body["apiVersion"], v2);
    assert_eq!(server.get(&at_v2).await.body["items"][0]["apiVersion"], v2);
    let patched = server.patch("merge", &format!("{at_v2}/a"), &json!({"spec": {"size": 5}})).await;
    assert_eq!((&patched.body["apiVersion"], &patched.body["spec"]["size"]), (&v2, &json!(5)), "{}", patched.text);
}

#[tokio::test(start_paused = true)]
async fn a_changed_schema_shows_in_old_objects() {
    let server = with_widgets().await;
    server.ask("POST", WIDGETS, &widget("a", json!({"colour": "red"}))).await;
    let properties = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let change = json!([
        {"op": "remove", "path": format!("{properties}/colour")},
        {"op": "remove", "path": "/spec/versions/0/selectableFields"},
        {"op": "add", "path": format!("{properties}/weight"), "value": {"type": "integer", "default": 7}}
    ]);
    let path = format!("{DEFINITIONS}/widgets.things.example.org");
    let changed = server.patch("json", &path, &change).await;
    assert_eq!(changed.status.as_u16(), 200, "{}", changed.text);
    let read = until(&server, &format!("{WIDGETS}/a"), |answer| answer.body["spec"]["weight"] == json!(7)).await;
    assert_eq!(read.body["spec"], json!({"size": 3, "weight": 7}));
}

#[tokio::test(start_paused = true)]
async fn objects_go_with_their_definition() {
    let server = with_widgets().await;
    let mut held = widget("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.org/f"]);
    server.ask("POST", WIDGETS, &held).await;
    server.ask("POST", WIDGETS, &widget("a", json!({}))).await;
    let path = format!("{DEFINITIONS}/widgets.things.example.org");
    let deleted = server.ask("DELETE", &path, &Value::Null).await;
    assert_eq!((deleted.status.as_u16(), condition(&deleted, "Terminating")), (200, "True"));
    until(&server, WIDGETS, |answer| answer.names() == ["held"]).await;
    let refused = server.ask("POST", WIDGETS, &widget("b", json!({}))).await;
    assert_eq!(refused.error(), (405, "create not allowed while custom resource definition is terminating"));
    server.patch("merge", &format!("{WIDGETS}/held"), &json!({"metadata": {"finalizers": null}})).await;
    until(&server, &path, |answer| answer.status.as_u16() == 404).await;
    until(&server, WIDGETS, |answer| answer.text == "404 page not found\n").await;
}

#[tokio::test(start_paused = true)]
async fn names_that_are_taken_are_not_accepted() {
    let server = with_widgets().await;
    let second = definition("wheels", "Widget", json!([version("v1", true)]));
    server.ask("POST", DEFINITIONS, &second).await;
    let path = format!("{DEFINITIONS}/wheels.things.example.org");
    let refused = until(&server, &path, |answer| !condition(answer, "NamesAccepted").is_empty()).await;
    assert_eq!((condition(&refused, "NamesAccepted"), condition(&refused, "Established")), ("False", "False"));
    server.ask("DELETE", &format!("{DEFINITIONS}/widgets.things.example.org"), &Value::Null).await;
    until(&server, &path, |answer| condition(answer, "Established") == "True").await;
}
