//! Groups and versions: APIServices that the server keeps, groups of other servers, and kinds that are made when they are read.

use serde_json::{Value, json};

use crate::server::Server;

const API_SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

#[tokio::test(start_paused = true)]
async fn every_group_and_version_has_its_api_service() {
    let server = Server::start().await;
    let list = server.get(API_SERVICES).await;
    let names = list.names();
    for name in ["v1.", "v1.apps", "v2.autoscaling", "v1.admissionregistration.k8s.io", "v1.rbac.authorization.k8s.io"]
    {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert!(!names.contains(&"v1.apiregistration.k8s.io"), "the group that serves them has none");
    let apps = server.get(&format!("{API_SERVICES}/v1.apps")).await;
    let spec = json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15});
    assert_eq!(apps.body["spec"], spec);
    assert_eq!(apps.body["metadata"]["labels"], json!({"kube-aggregator.kubernetes.io/automanaged": "onstart"}));
    let condition = &apps.body["status"]["conditions"][0];
    let known = ["type", "status", "reason", "message"].map(|name| condition[name].as_str().unwrap_or_default());
    assert_eq!(known, ["Available", "True", "Local", "Local APIServices are always available"]);
    let groups = server.get("/apis").await;
    let order: Vec<_> = groups.body["groups"].as_array().into_iter().flatten().map(|group| &group["name"]).collect();
    assert_eq!(order[..3], ["apiregistration.k8s.io", "apps", "events.k8s.io"]);
    let preferred = server.get("/apis/autoscaling").await;
    assert_eq!(preferred.body["preferredVersion"]["version"], "v2");
}

#[tokio::test(start_paused = true)]
async fn what_another_server_answers_for_is_unavailable() {
    let server = Server::start().await;
    let spec = json!({"group": "metrics.example.org", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
        "service": {"namespace": "default", "name": "metrics"}});
    let name = "v1.metrics.example.org";
    let created = server.ask("POST", API_SERVICES, &json!({"metadata": {"name": name}, "spec": spec})).await;
    assert_eq!((created.status.as_u16(), &created.body["spec"]["service"]["port"]), (201, &json!(443)));
    let path = format!("{API_SERVICES}/{name}");
    let mut told = server.get(&path).await;
    for _ in 0..100 {
        if told.body["status"]["conditions"].is_array() {
            break;
        }
        tokio::task::yield_now().await;
        told = server.get(&path).await;
    }
    let condition = &told.body["status"]["conditions"][0];
    let known = ["status", "reason", "message"].map(|name| condition[name].as_str().unwrap_or_default());
    assert_eq!(known, ["False", "ServiceNotFound", "service/metrics in \"default\" is not present"]);
    for path in ["/apis/metrics.example.org/v1", "/apis/metrics.example.org/v1/nodes"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (503, "service unavailable\n"), "{path}");
    }
    assert_eq!(server.get("/apis/metrics.example.org").await.body["preferredVersion"]["version"], "v1");
    assert_eq!(server.ask("DELETE", &path, &Value::Null).await.status, 200);
    assert_eq!(server.get(API_SERVICES).await.status, 200);
    assert_eq!(server.get("/apis/metrics.example.org").await.status, 404);
}

#[tokio::test]
async fn component_statuses_are_found_out_when_asked_for() {
    let server = Server::start().await;
    let list = server.get("/api/v1/componentstatuses").await;
    assert_eq!((list.body["kind"].as_str(), &list.body["metadata"]), (Some("ComponentStatusList"), &json!({})));
    assert_eq!(list.names(), ["controller-manager", "etcd-0", "scheduler"]);
    let deprecated = "299 - \"v1 ComponentStatus is deprecated in v1.19+\"";
    assert_eq!(list.warnings(), [deprecated]);
    let store = server.get("/api/v1/componentstatuses/etcd-0").await;
    assert_eq!(store.body["conditions"], json!([{"type": "Healthy", "status": "True", "message": "ok"}]));
    let none = server.get("/api/v1/componentstatuses/none").await;
    assert_eq!(none.error(), (404, "componentstatus \"none\" not found"));
    assert_eq!(none.warnings(), [deprecated]);
    assert_eq!(server.ask("POST", "/api/v1/componentstatuses", &json!({})).await.status, 405);
    let resources = server.get("/api/v1").await;
    let first: Vec<_> = resources.body["resources"].as_array().into_iter().flatten().take(2).collect();
    assert_eq!((&first[0]["name"], &first[1]["verbs"]), (&json!("bindings"), &json!(["get", "list"])));
}
