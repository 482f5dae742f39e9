//! Bodies of subresources are read as strictly as objects, and say of which pod they are; what becomes of the pod.

use serde_json::{Value, json};

use crate::server::Server;

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn pod(server: &Server, name: &str, more: Value) {
    let mut spec =
        json!({"containers": [{"name": "c", "image": "i", "env": [{"name": "E"}]}], "serviceAccountName": "default"});
    spec.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    let answer = server.ask("POST", PODS, &json!({"metadata": {"name": name}, "spec": spec})).await;
    assert_eq!(answer.status, 201, "{:?}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn bodies_are_read_strictly_and_are_of_the_pod() {
    let server = Server::start().await;
    pod(&server, "a", json!({})).await;
    let table = [
        (
            "binding?fieldValidation=Strict",
            json!({"metadata": {"name": "a"}, "target": {"nome": "n"}}),
            400,
            "Binding in version \"v1\" cannot be handled as a Binding: strict decoding error: unknown field \"target.nome\"",
        ),
        (
            "binding",
            json!({"metadata": {"name": "a"}, "target": "n"}),
            400,
            "Binding in version \"v1\" cannot be handled as a Binding: json: cannot unmarshal string into Go struct field Binding.target of type v1.ObjectReference",
        ),
        (
            "binding",
            json!({"metadata": {"name": "b"}, "target": {"name": "n"}}),
            400,
            "name in URL does not match name in Binding object",
        ),
        (
            "binding",
            json!({"metadata": {"name": "a", "namespace": "other"}, "target": {"name": "n"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "binding",
            json!({"kind": "Binding", "apiVersion": "v2", "metadata": {"name": "a"}}),
            400,
            "Binding in version \"v2\" cannot be handled as a Binding: no kind \"Binding\" is registered for version \"v2\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
        ("eviction", json!({}), 400, "name in URL does not match name in Eviction object"),
        (
            "eviction",
            json!({"kind": 5}),
            400,
            "the object provided is unrecognized (must be of type Eviction): couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string ({\"kind\":5})",
        ),
    ];
    for (path, body, code, message) in table {
        let answer = server.ask("POST", &format!("{PODS}/a/{path}"), &body).await;
        assert_eq!(answer.error(), (code, message), "{path} {body}");
    }
    let other = json!({"metadata": {"name": "a", "uid": "x"}, "target": {"name": "n"}});
    let refused = server.ask("POST", &format!("{PODS}/a/binding"), &other).await;
    assert!(
        refused
            .error()
            .1
            .starts_with("Operation cannot be fulfilled on pods \"a\": StorageError: invalid object, Code: 4")
    );
}

#[tokio::test(start_paused = true)]
async fn what_becomes_of_the_pod() {
    let server = Server::start().await;
    pod(&server, "a", json!({"nodeName": "n"})).await;
    let old = json!({"kind": "Eviction", "apiVersion": "policy/v1beta1", "metadata": {"name": "a"}});
    assert_eq!(server.ask("POST", &format!("{PODS}/a/eviction"), &old).await.status, 201);
    let evicted = server.get(&format!("{PODS}/a")).await.body;
    let condition = &evicted["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["reason"]),
        (&json!("DisruptionTarget"), &json!("EvictionByEvictionAPI"))
    );
    assert!(evicted["metadata"]["deletionTimestamp"].is_string());
    let dry = json!({"metadata": {"name": "a"}, "deleteOptions": {"dryRun": ["All", "All"], "propagationPolicy": "Sideways"}});
    assert_eq!(
        server.ask("POST", &format!("{PODS}/a/eviction"), &dry).await.status,
        201,
        "nobody checks these options"
    );
    assert_eq!(
        server.ask("POST", &format!("{PODS}/a/eviction?dryRun=All"), &dry).await.error(),
        (500, "Non-matching dry-run options in request and content: [All] and [All All]")
    );
    pod(&server, "b", json!({})).await;
    let bind = json!({"metadata": {"name": "b", "labels": {"zone": "z"}}, "target": {"name": "n"}});
    assert_eq!(server.ask("POST", &format!("{PODS}/b/binding"), &bind).await.status, 201);
    let bound = server.get(&format!("{PODS}/b")).await.body;
    assert_eq!((&bound["spec"]["nodeName"], &bound["metadata"]["labels"]), (&json!("n"), &json!({"zone": "z"})));
    let empty = json!({"spec": {"hostname": "", "containers": [{"name": "c", "env": [{"name": "E", "value": ""}]}]}});
    let same = server.patch("strategic-merge", &format!("{PODS}/b"), &empty).await;
    assert_eq!(same.body["metadata"]["resourceVersion"], bound["metadata"]["resourceVersion"], "empty is absent");
    let resized = json!({"metadata": {"labels": {"l": "1"}}, "spec": {"containers": [{"name": "c", "image": "j"}]}});
    let resized = server.patch("strategic-merge", &format!("{PODS}/b/resize"), &resized).await;
    let owners = resized.body["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    assert!(owners.iter().all(|owner| owner["subresource"] != "resize"), "nothing that it may change: {owners:?}");
}

#[tokio::test(start_paused = true)]
async fn a_scale_is_valid_as_a_whole_and_of_this_object() {
    let server = Server::start().await;
    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    let labels = json!({"a": "b"});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": labels}, "template": template});
    let made = server.ask("POST", sets, &json!({"metadata": {"name": "r"}, "spec": spec})).await;
    let uid = made.body["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let path = format!("{sets}/r/scale");
    let bad = json!({"metadata": {"labels": {"a": "b c"}}, "spec": {"replicas": -1}});
    let refused = server.patch("merge", &path, &bad).await;
    let fields = ["metadata.labels", "spec.replicas"];
    let causes = refused.body["details"]["causes"].as_array().expect("causes").iter();
    assert!(causes.map(|cause| cause["field"].as_str()).eq(fields.map(Some)), "{:?}", refused.body);
    let other = json!({"metadata": {"name": "r", "uid": "u"}});
    let why = format!("Precondition failed: UID in precondition: u, UID in object meta: {uid}");
    let patched = server.patch("merge", &path, &other).await;
    let message = format!("Operation cannot be fulfilled on replicasets/scale.apps \"r\": {why}");
    assert_eq!(patched.error(), (409, message.as_str()));
    assert_eq!(patched.body["details"]["kind"], "replicasets/scale");
    let stored = "StorageError: invalid object, Code: 4, Key: /registry/replicasets/default/r, ResourceVersion: 0";
    let message =
        format!("Operation cannot be fulfilled on replicasets.apps \"r\": {stored}, AdditionalErrorMsg: {why}");
    assert_eq!(server.ask("PUT", &path, &other).await.error(), (409, message.as_str()));
}
