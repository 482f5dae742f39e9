//! Creating, replacing, patching.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::server::Server;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

#[tokio::test(start_paused = true)]
async fn kubes_client_creates_changes_and_deletes() {
    let server = Server::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "default");
    let created: ConfigMap = serde_json::from_value(map("a", json!({"k": "1"}))).unwrap();
    let created = maps.create(&PostParams::default(), &created).await.unwrap();
    assert!(created.uid().is_some() && created.resource_version().is_some());
    let patched = maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "2"}}))).await.unwrap();
    assert_ne!(patched.resource_version(), created.resource_version());
    let same = maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "2"}}))).await.unwrap();
    assert_eq!(same.resource_version(), patched.resource_version());
    let conflict = maps.replace("a", &PostParams::default(), &created).await.unwrap_err();
    assert!(matches!(conflict, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict"));
    maps.delete("a", &kube::api::DeleteParams::default()).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn resource_versions_on_writes() {
    let server = Server::start().await;
    let with = |version: &str| json!({"metadata": {"name": "a", "resourceVersion": version}, "data": {"v": version}});
    let created = server.ask("POST", MAPS, &map("a", json!({}))).await;
    assert_eq!(created.status, 201);
    let path = format!("{MAPS}/a");
    let table = [
        ("0", 200, ""),
        ("", 200, ""),
        (
            "99999999",
            409,
            "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again",
        ),
        ("abc", 500, "strconv.ParseUint: parsing \"abc\": invalid syntax"),
    ];
    for (version, code, message) in table {
        assert_eq!(server.ask("PUT", &path, &with(version)).await.error(), (code, message), "{version:?}");
    }
    let created = server.ask("POST", MAPS, &json!({"metadata": {"name": "b", "resourceVersion": "5"}})).await;
    assert_eq!(created.error(), (500, "resourceVersion should not be set on objects to be created"));
}

#[tokio::test(start_paused = true)]
async fn names_and_namespaces_must_fit() {
    let server = Server::start().await;
    let table = [
        (
            "POST",
            MAPS.to_owned(),
            json!({"metadata": {"name": "x", "namespace": "other"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "PUT",
            format!("{MAPS}/other"),
            map("x", json!({})),
            400,
            "the name of the object (x) does not match the name on the URL (other)",
        ),
        ("PUT", format!("{MAPS}/x"), map("x", json!({})), 404, "configmaps \"x\" not found"),
        (
            "POST",
            MAPS.to_owned(),
            json!({}),
            422,
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
        ),
        ("POST", MAPS.replace("default", "absent"), map("x", json!({})), 404, "namespaces \"absent\" not found"),
        (
            "POST",
            format!("{MAPS}/x"),
            json!({}),
            405,
            "the server does not allow this method on the requested resource",
        ),
        ("GET", "/api/v1/nothings".to_owned(), Value::Null, 404, "the server could not find the requested resource"),
    ];
    for (method, path, body, code, message) in table {
        assert_eq!(server.ask(method, &path, &body).await.error(), (code, message), "{method} {path} {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_can_not_be_read() {
    let server = Server::start().await;
    let unread = "the object provided is unrecognized (must be of type ConfigMap): ";
    let kind = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: ";
    let table = [
        ("", format!("{unread}couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)")),
        ("hello", format!("{unread}couldn't get version/kind; json parse error: invalid character 'h' looking for beginning of value (68656c6c6f)")),
        ("{\"metadata\":{\"name\":true}}", format!("{kind}json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.name of type string")),
        ("{\"data\":[1]}", format!("{kind}json: cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string")),
        ("{\"kind\":\"Secret\",\"apiVersion\":\"v1\"}", "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion".to_owned()),
        ("{\"kind\":\"Confog\",\"apiVersion\":\"v1\"}", "Confog in version \"v1\" cannot be handled as a ConfigMap: no kind \"Confog\" is registered for version \"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"".to_owned()),
    ];
    for (text, message) in table {
        let answer = server.send("POST", MAPS, &[("content-type", "application/json")], text).await;
        assert_eq!(answer.error(), (400, message.as_str()), "{text}");
    }
    let answer = server.send("POST", MAPS, &[("content-type", "text/plain")], "hello").await;
    assert_eq!(answer.status, 415);
    let answer =
        server.send("POST", MAPS, &[("content-type", "application/json")], "x".repeat(3 * 1024 * 1024 + 1)).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test(start_paused = true)]
async fn unknown_and_repeated_fields() {
    let server = Server::start().await;
    let text = r#"{"metadata":{"name":"w","name":"w"},"data":{"a":"1","a":"2"},"extra":{"x":1}}"#;
    let post = async |validation: &str| {
        let path = format!("{MAPS}?dryRun=All&fieldValidation={validation}");
        server.send("POST", &path, &[("content-type", "application/json")], text).await
    };
    let warned = post("Warn").await;
    assert_eq!(warned.status, 201);
    assert_eq!(warned.body["data"], json!({"a": "2"}));
    let warnings = [
        r#"299 - "duplicate field \"metadata.name\"""#,
        r#"299 - "duplicate field \"data.a\"""#,
        r#"299 - "unknown field \"extra\"""#,
    ];
    assert_eq!(warned.warnings(), warnings);
    assert!(post("Ignore").await.warnings().is_empty());
    let refused = post("Strict").await;
    let message = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \"metadata.name\", duplicate field \"data.a\", unknown field \"extra\"";
    assert_eq!(refused.error(), (400, message));
    let yaml = "metadata: {name: yd}\ndata:\n  a: one\n  a: two\n";
    let path = format!("{MAPS}?fieldValidation=Strict");
    let refused = server.send("POST", &path, &[("content-type", "application/yaml")], yaml).await;
    assert!(
        refused
            .error()
            .1
            .ends_with("strict decoding error: yaml: unmarshal errors:\n  line 4: key \"a\" already set in map"),
        "{}",
        refused.text
    );
}

#[tokio::test(start_paused = true)]
async fn names_are_generated_and_dry_runs_store_nothing() {
    let server = Server::start().await;
    let generated = server.ask("POST", MAPS, &json!({"metadata": {"generateName": "g-"}})).await;
    let name = generated.body["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("g-") && name.len() == 7, "{name}");
    let dry = server.ask("POST", &format!("{MAPS}?dryRun=All"), &map("dry", json!({}))).await;
    assert_eq!((dry.status.as_u16(), &dry.body["metadata"]["resourceVersion"]), (201, &Value::Null));
    assert_eq!(server.get(&format!("{MAPS}/dry")).await.status, 404);
    let taken = server.ask("POST", &format!("{MAPS}?dryRun=All"), &map(name, json!({}))).await;
    assert_eq!(taken.status, 409);
}

#[tokio::test(start_paused = true)]
async fn patches_of_each_kind() {
    let server = Server::start().await;
    assert_eq!(server.ask("POST", PODS, &pod("p")).await.status, 201);
    let path = format!("{PODS}/p");
    let merged = server.patch("merge", &path, &json!({"metadata": {"labels": {"a": "1", "b": null}}})).await;
    assert_eq!(merged.body["metadata"]["labels"], json!({"a": "1"}));
    let image = json!({"spec": {"containers": [{"name": "c", "image": "i:2"}]}});
    let strategic = server.patch("strategic-merge", &path, &image).await;
    assert_eq!(strategic.body["spec"]["containers"][0]["image"], "i:2");
    assert_eq!(strategic.body["metadata"]["generation"], 2);
    let operations = json!([{"op": "test", "path": "/metadata/labels/a", "value": "1"}, {"op": "add", "path": "/metadata/labels/c~1d", "value": "2"}]);
    let json_patched = server.patch("json", &path, &operations).await;
    assert_eq!(json_patched.body["metadata"]["labels"], json!({"a": "1", "c/d": "2"}));
    let failed =
        server.patch("json", &path, &json!([{"op": "test", "path": "/metadata/labels/a", "value": "2"}])).await;
    assert_eq!(failed.error(), (422, "the server rejected our request due to an error in our request"));
    let no_key = server.patch("strategic-merge", &path, &json!({"spec": {"containers": [{"image": "x"}]}})).await;
    assert_eq!(no_key.error(), (500, "map: map[image:x] does not contain declared merge key: name"));
    let plain = server.send("PATCH", &path, &[("content-type", "application/json")], "{}").await;
    assert_eq!(plain.error(), (415, "415: Unsupported Media Type"));
}

#[tokio::test(start_paused = true)]
async fn status_and_spec_are_written_apart() {
    let server = Server::start().await;
    server.ask("POST", PODS, &pod("p")).await;
    let path = format!("{PODS}/p");
    let status = server
        .patch("merge", &format!("{path}/status"), &json!({"status": {"phase": "Running"}, "spec": {"nodeName": "n"}}))
        .await;
    assert_eq!((&status.body["status"]["phase"], &status.body["spec"]["nodeName"]), (&json!("Running"), &Value::Null));
    let spec =
        server.patch("merge", &path, &json!({"status": {"phase": "Failed"}, "metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!(spec.body["status"]["phase"], "Running");
    let pods: Api<Pod> = Api::namespaced(server.client(), "default");
    assert_eq!(pods.get_status("p").await.unwrap().status.unwrap().phase.as_deref(), Some("Running"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_bound_once() {
    let server = Server::start().await;
    server.ask("POST", PODS, &pod("p")).await;
    let bind = |node: &str| json!({"metadata": {"name": "p", "annotations": {"k": "v"}}, "target": {"kind": "Node", "name": node}});
    let path = format!("{PODS}/p/binding");
    assert_eq!(server.ask("POST", &path, &bind("n1")).await.status, 201);
    let bound = server.get(&format!("{PODS}/p")).await.body;
    assert_eq!((&bound["spec"]["nodeName"], &bound["metadata"]["annotations"]["k"]), (&json!("n1"), &json!("v")));
    let conditions = bound["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["type"] == "PodScheduled" && c["status"] == "True"));
    let message = "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\"";
    assert_eq!(server.ask("POST", &path, &bind("n2")).await.error(), (409, message));
    assert_eq!(
        server.ask("POST", &path, &json!({"metadata": {"name": "p"}})).await.error(),
        (500, "target.name: Required value")
    );
}

#[tokio::test(start_paused = true)]
async fn replicas_are_scaled() {
    let server = Server::start().await;
    let controllers = "/api/v1/namespaces/default/replicationcontrollers";
    let controller = json!({"metadata": {"name": "rc"}, "spec": {"replicas": 2, "selector": {"a": "b"},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    assert_eq!(server.ask("POST", controllers, &controller).await.status, 201);
    let path = format!("{controllers}/rc/scale");
    let scale = server.get(&path).await.body;
    assert_eq!(
        (&scale["kind"], &scale["spec"]["replicas"], &scale["status"]["selector"]),
        (&json!("Scale"), &json!(2), &json!("a=b"))
    );
    let patched = server.patch("merge", &path, &json!({"spec": {"replicas": 5}})).await;
    assert_eq!(patched.body["spec"]["replicas"], 5);
    let scaled = server.get(&format!("{controllers}/rc")).await.body;
    assert_eq!((&scaled["spec"]["replicas"], &scaled["metadata"]["generation"]), (&json!(5), &json!(2)));
    let negative = server.patch("merge", &path, &json!({"spec": {"replicas": -1}})).await;
    assert_eq!(negative.status, 422);
    let of_version = |version: &str| json!({"apiVersion": version, "kind": "Scale", "metadata": {"name": "rc"}});
    let refused = server.ask("PUT", &path, &of_version("autoscaling/v2")).await;
    let why = "Scale in version \"v2\" cannot be handled as a Scale: no kind \"Scale\" is registered for version \"autoscaling/v2\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"";
    assert_eq!(refused.error(), (400, why));
    let refused = server.ask("PUT", &path, &of_version("apps/v1beta2")).await;
    let why = "the API version in the data (apps/v1beta2) does not match the expected API version (autoscaling/v1)";
    assert_eq!(refused.error(), (400, why));
}

/// Two writers that read the same state and patch it concurrently lose nothing.
#[tokio::test(start_paused = true)]
async fn concurrent_patches_all_count() {
    let server = Server::start().await;
    server.ask("POST", MAPS, &map("a", json!({}))).await;
    let path = format!("{MAPS}/a");
    let patches = (0..20).map(|i| {
        let (server, path) = (&server, &path);
        async move { server.patch("merge", path, &json!({"data": {format!("k{i}"): "v"}})).await.status }
    });
    assert!(futures::future::join_all(patches).await.iter().all(|status| *status == 200));
    assert_eq!(server.get(&path).await.body["data"].as_object().unwrap().len(), 20);
}
