//! What webhooks are asked, and what their answers do.

use serde_json::{Value, json};

use crate::hooks::{Hooks, MAPS, MUTATING, VALIDATING, configure, create, patched};
use crate::server::Server;

#[tokio::test]
async fn a_validating_webhook_is_asked_and_refuses() {
    let server = Server::start().await;
    let hooks = Hooks::start(|_, request| {
        let refused = request["object"]["data"]["a"] == "1" || request["operation"] == "DELETE";
        json!({"allowed": !refused, "warnings": ["look out"],
            "status": {"message": "not that", "reason": "Forbidden", "code": 403}})
    })
    .await;
    configure(&server, VALIDATING, "v", vec![hooks.hook("/v", json!({}))]).await;
    let path = format!("{MAPS}?fieldManager=tester&fieldValidation=Strict");
    let body = json!({"metadata": {"name": "one"}, "data": {"a": "1"}});
    let refused = server.ask("POST", &path, &body).await;
    assert_eq!(refused.error(), (403, "admission webhook \"v.example.org\" denied the request: not that"));
    assert_eq!(refused.body["reason"], "Forbidden");
    assert_eq!(refused.warnings(), ["299 - \"look out\""]);
    let (path, mut request) = hooks.asked().pop().expect("it was asked");
    assert_eq!(path, "/v");
    let object = request["object"].take();
    assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    assert!(object["metadata"]["uid"].is_string(), "what the server fills in is there when it is validated");
    assert!(request["uid"].take().is_string());
    let map = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    let maps = json!({"group": "", "version": "v1", "resource": "configmaps"});
    let expected = json!({
        "uid": null, "kind": map, "resource": maps, "requestKind": map, "requestResource": maps,
        "name": "one", "namespace": "default", "operation": "CREATE",
        "userInfo": {"username": "admin", "groups": ["system:masters", "system:authenticated"]},
        "object": null, "oldObject": null, "dryRun": false,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "tester",
            "fieldValidation": "Strict"},
    });
    assert_eq!(request, expected);

    let body = json!({"metadata": {"name": "two"}, "data": {"a": "2"}});
    assert_eq!(server.ask("POST", MAPS, &body).await.status, 201);
    let patched = server.patch("merge", &format!("{MAPS}/two"), &json!({"data": {"a": "3"}})).await;
    assert_eq!(patched.status, 200);
    let deleted = server.ask("DELETE", &format!("{MAPS}/two?propagationPolicy=Background"), &Value::Null).await;
    assert_eq!(deleted.error(), (403, "admission webhook \"v.example.org\" denied the request: not that"));
    let asked = hooks.asked();
    let operations: Vec<_> = asked.iter().map(|(_, request)| &request["operation"]).collect();
    assert_eq!(operations, ["CREATE", "UPDATE", "DELETE"]);
    assert_eq!(
        (&asked[1].1["object"]["data"], &asked[1].1["oldObject"]["data"]),
        (&json!({"a": "3"}), &json!({"a": "2"}))
    );
    assert_eq!(asked[1].1["options"]["kind"], "UpdateOptions");
    assert_eq!((&asked[2].1["object"], &asked[2].1["oldObject"]["data"]), (&Value::Null, &json!({"a": "3"})));
    let options = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "propagationPolicy": "Background"});
    assert_eq!(asked[2].1["options"], options);
    assert_eq!(hooks.connections(), 1, "connections are used again");
    let collection = server.ask("DELETE", MAPS, &Value::Null).await;
    assert_eq!(collection.status, 403, "every object of a collection is asked about");
}

#[tokio::test]
async fn mutating_webhooks_patch_in_order() {
    let server = Server::start().await;
    let hooks = Hooks::start(|path, request| {
        let seen = request["object"]["data"]["by"].as_str().unwrap_or("nobody").to_owned();
        match path {
            "/b" => patched(json!([{"op": "add", "path": "/data/by", "value": format!("{seen} b")},
                {"op": "add", "path": "/metadata/labels", "value": {"b": "1"}}])),
            _ => patched(json!([{"op": "add", "path": "/data/by", "value": format!("{seen} a")}])),
        }
    })
    .await;
    // Configurations are asked by name, the webhooks of one in their order.
    configure(&server, MUTATING, "z", vec![hooks.hook("/c", json!({}))]).await;
    configure(&server, MUTATING, "m", vec![hooks.hook("/b", json!({})), hooks.hook("/a", json!({}))]).await;
    let created = create(&server, "one").await;
    assert_eq!(created.body["data"], json!({"a": "1", "by": "nobody b a a"}));
    assert_eq!(created.body["metadata"]["labels"], json!({"b": "1"}));
    assert_eq!(hooks.paths(), ["/b", "/a", "/c"]);
    let owned = &created.body["metadata"]["managedFields"][0]["fieldsV1"];
    assert_eq!(*owned, json!({"f:data": {".": {}, "f:a": {}}}), "what webhooks add is owned by nobody");
}

#[tokio::test]
async fn webhooks_are_asked_again_when_others_changed_the_object() {
    let server = Server::start().await;
    let hooks = Hooks::start(|path, request| {
        let seen = request["object"]["data"].as_object().map_or(0, |data| data.len());
        let name = path.trim_start_matches('/');
        match path {
            "/same" => json!({"allowed": true}),
            "/first" if request["object"]["data"]["first"].is_string() => json!({"allowed": true}),
            _ => patched(json!([{"op": "add", "path": format!("/data/{name}"), "value": seen.to_string()}])),
        }
    })
    .await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    let webhooks = vec![
        hooks.hook("/first", again.clone()),
        hooks.hook("/never", json!({})),
        hooks.hook("/last", again.clone()),
        hooks.hook("/same", again),
    ];
    configure(&server, MUTATING, "m", webhooks).await;
    let created = create(&server, "one").await;
    // The second round asks those that were asked before somebody else's change: not the last one, after which nothing changed.
    assert_eq!(hooks.paths(), ["/first", "/never", "/last", "/same", "/first"]);
    assert_eq!(created.body["data"], json!({"a": "1", "first": "1", "never": "2", "last": "3"}));
}

#[tokio::test]
async fn defaults_are_applied_to_what_webhooks_leave() {
    let server = Server::start().await;
    let hooks = Hooks::start(|_, _| {
        patched(json!([{"op": "add", "path": "/spec/containers/-", "value": {"name": "side", "image": "car:1"}}]))
    })
    .await;
    let rules = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]);
    configure(&server, MUTATING, "m", vec![hooks.hook("/pods", json!({"rules": rules}))]).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let created = server.ask("POST", "/api/v1/namespaces/default/pods", &pod).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let side = &created.body["spec"]["containers"][1];
    assert_eq!(
        (&side["imagePullPolicy"], &side["terminationMessagePath"]),
        (&json!("IfNotPresent"), &json!("/dev/termination-log"))
    );
}

#[tokio::test]
async fn what_is_sent_to_subresources_is_shown_as_it_is() {
    let server = Server::start().await;
    let hooks = Hooks::start(|_, _| json!({"allowed": false, "status": {"message": "no"}})).await;
    let rules = json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
        "resources": ["*/scale", "pods/eviction", "pods/binding", "pods/exec"]}]);
    configure(&server, VALIDATING, "v", vec![hooks.hook("/sub", json!({"rules": rules}))]).await;
    let pod =
        json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(server.ask("POST", "/api/v1/namespaces/default/pods", &pod).await.status, 201);
    let controller =
        json!({"metadata": {"name": "r"}, "spec": {"replicas": 0, "selector": {"a": "b"}, "template": pod}});
    let controllers = "/api/v1/namespaces/default/replicationcontrollers";
    assert_eq!(server.ask("POST", controllers, &controller).await.status, 201);
    let refused = (400, "admission webhook \"sub.example.org\" denied the request: no");
    let scaled = server.patch("merge", &format!("{controllers}/r/scale"), &json!({"spec": {"replicas": 3}})).await;
    assert_eq!(scaled.error(), refused);
    let of_pod = "/api/v1/namespaces/default/pods/p";
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    assert_eq!(server.ask("POST", &format!("{of_pod}/eviction"), &eviction).await.error(), refused);
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(server.ask("POST", &format!("{of_pod}/binding"), &binding).await.error(), refused);
    assert_eq!(server.ask("POST", &format!("{of_pod}/exec?command=ls&stdout=1"), &Value::Null).await.error(), refused);
    let asked = hooks.asked();
    let shown: Vec<_> = asked
        .iter()
        .map(|(_, request)| {
            (
                request["kind"]["kind"].as_str().unwrap_or_default(),
                request["subResource"].as_str(),
                request["operation"].as_str(),
            )
        })
        .collect();
    let expected = [
        ("Scale", Some("scale"), Some("UPDATE")),
        ("Eviction", Some("eviction"), Some("CREATE")),
        ("Binding", Some("binding"), Some("CREATE")),
        ("PodExecOptions", Some("exec"), Some("CONNECT")),
    ];
    assert_eq!(shown, expected);
    let replicas = |at: &str| asked[0].1[at]["spec"]["replicas"].as_i64().unwrap_or(0);
    assert_eq!((replicas("object"), replicas("oldObject")), (3, 0));
    assert_eq!(asked[3].1["object"]["command"], json!(["ls"]));
}
