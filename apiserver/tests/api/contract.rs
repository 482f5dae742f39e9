//! Habits of the API server that clients rely on, or at least meet, and that its documentation does not tell.

use serde_json::{Value, json};

use crate::server::Server;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test(start_paused = true)]
async fn methods_and_paths() {
    let server = Server::start().await;
    let table = [
        ("HEAD", MAPS, 405),
        ("OPTIONS", MAPS, 405),
        ("TRACE", MAPS, 405),
        ("FETCH", MAPS, 405),
        ("HEAD", "/healthz", 200),
        ("GET", "/api/v1/namespaces/default/configmaps/", 200),
        ("GET", "/api/v1//namespaces/default/configmaps", 404),
        ("GET", "/api/v1/namespaces/default/configmaps?limit=-1", 200),
        ("GET", "/api/v1/namespaces/default/configmaps?limit=1&resourceVersion=0", 200),
        ("GET", "/api/v9", 404),
        ("GET", "/apis/absent.example.org/v1/things", 404),
    ];
    for (method, path, code) in table {
        assert_eq!(server.ask(method, path, &Value::Null).await.status.as_u16(), code, "{method} {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn some_mistakes_of_clients_count_as_the_servers() {
    let server = Server::start().await;
    server.ask("POST", MAPS, &json!({"metadata": {"name": "a"}})).await;
    let (merge, apply) = ("application/merge-patch+json", "application/apply-patch+yaml");
    let one = format!("{MAPS}/a");
    let applied = format!("{MAPS}/a?fieldManager=m&fieldValidation=Ignore");
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let container = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: c, image: i}\n  - {name: c, image: i}\n";
    let table = [
        ("GET", format!("{one}?resourceVersion=abc"), merge, String::new()),
        ("PATCH", one.clone(), merge, r#"{"metadata":{"resourceVersion":"abc"}}"#.to_owned()),
        ("PATCH", applied.clone(), apply, format!("{head}extra: 1\n")),
        ("PATCH", applied, apply, format!("{head}data: [1]\n")),
        ("PATCH", format!("{PODS}/p?fieldManager=m"), apply, container.to_owned()),
    ];
    for (method, path, form, text) in table {
        let answer = server.send(method, &path, &[("content-type", form)], text).await;
        assert_eq!(answer.status, 500, "{method} {path} {}", answer.text);
        assert_eq!((&answer.body["kind"], &answer.body["code"]), (&json!("Status"), &json!(500)));
    }
    let watch = server.get(&format!("{MAPS}?watch=1&resourceVersion=abc")).await;
    assert_eq!(watch.status, 500, "{}", watch.text);
    let yaml = [("accept", "application/yaml")];
    assert_eq!(server.send("GET", &format!("{MAPS}?watch=1"), &yaml, "").await.status, 406);
}

#[tokio::test(start_paused = true)]
async fn yaml_is_that_of_its_first_version() {
    let server = Server::start().await;
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\n";
    let apply = [("content-type", "application/apply-patch+yaml")];
    let answer = server.send("PATCH", &format!("{MAPS}/y?fieldManager=m"), &apply, text).await;
    assert_ne!(answer.status, 201, "the name is a boolean: {}", answer.text);
    let quoted = text.replace("y}", "\"y\"}");
    let answer = server.send("PATCH", &format!("{MAPS}/y?fieldManager=m"), &apply, quoted).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn json_patches_forgive() {
    let server = Server::start().await;
    let finalizers = json!(["example.org/a", "example.org/b"]);
    server.ask("POST", MAPS, &json!({"metadata": {"name": "a", "finalizers": finalizers}})).await;
    let operations = json!([{"op": "add", "path": "/data"}, {"op": "remove", "path": "/metadata/finalizers/-1"}]);
    let patched = server.patch("json", &format!("{MAPS}/a"), &operations).await;
    assert_eq!(patched.status, 200, "{}", patched.text);
    assert_eq!(patched.body["metadata"]["finalizers"], json!(["example.org/a"]));
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_deprecated() {
    let server = Server::start().await;
    let path = "/api/v1/namespaces/default/endpoints";
    let warning = "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
    assert_eq!(server.get(path).await.warnings(), [warning]);
    assert_eq!(server.ask("POST", path, &json!({"metadata": {"name": "a"}})).await.warnings(), [warning]);
}

#[tokio::test(start_paused = true)]
async fn what_clients_decode_is_dumped_when_it_can_not_be_read() {
    let server = Server::start().await;
    server.ask("POST", MAPS, &json!({"metadata": {"name": "a"}})).await;
    let merged = server.patch("merge", &format!("{MAPS}/a"), &json!({"data": {"k": 1}})).await;
    let message = "cannot unmarshal number into Go struct field ConfigMap.data of type string";
    assert!(merged.error().0 == 422 && merged.error().1.ends_with(message), "{}", merged.text);
    assert!(merged.error().1.starts_with(" \"\" is invalid: patch: Invalid value: \"{\\\""), "{}", merged.text);
}
