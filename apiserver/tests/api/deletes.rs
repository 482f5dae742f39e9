//! Deleting: finalizers, grace, preconditions, collections, namespaces.

use serde_json::{Value, json};

use crate::server::Server;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

async fn create(server: &Server, name: &str, meta: Value) -> String {
    let mut meta = meta;
    meta["name"] = json!(name);
    let created = server.ask("POST", MAPS, &json!({"metadata": meta})).await;
    assert_eq!(created.status, 201, "{}", created.text);
    created.body["metadata"]["uid"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_delete_answers_a_status_or_what_remains() {
    let server = Server::start().await;
    let uid = create(&server, "a", json!({})).await;
    let deleted = server.ask("DELETE", &format!("{MAPS}/a"), &Value::Null).await;
    let details = json!({"kind": "configmaps", "name": "a", "uid": uid});
    assert_eq!(
        deleted.body,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
    );
    create(&server, "held", json!({"finalizers": ["a.example.org/f"]})).await;
    let path = format!("{MAPS}/held");
    let marked = server.ask("DELETE", &path, &Value::Null).await;
    assert!(marked.body["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked.body["metadata"]["deletionGracePeriodSeconds"], 0);
    let taken = server.ask("POST", MAPS, &json!({"metadata": {"name": "held"}})).await;
    assert_eq!(taken.error(), (409, "object is being deleted: configmaps \"held\" already exists"));
    let added = server.patch("merge", &path, &json!({"metadata": {"finalizers": ["a.example.org/g"]}})).await;
    assert!(
        added.error().1.contains("no new finalizers can be added if the object is being deleted"),
        "{}",
        added.text
    );
    assert_eq!(server.patch("merge", &path, &json!({"metadata": {"finalizers": null}})).await.status, 200);
    assert_eq!(server.get(&path).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn preconditions_and_policies() {
    let server = Server::start().await;
    let uid = create(&server, "a", json!({})).await;
    let path = format!("{MAPS}/a");
    let refused = server.ask("DELETE", &path, &json!({"preconditions": {"uid": "other"}})).await;
    let message = format!(
        "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (other) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
    );
    assert_eq!(refused.error(), (409, message.as_str()));
    let own =
        server.ask("DELETE", "/api/v1/namespaces/default", &json!({"preconditions": {"resourceVersion": "1"}})).await;
    let message = "Operation cannot be fulfilled on namespaces \"default\": Precondition failed: ResourceVersion in precondition: 1, \
        ResourceVersion in object meta: ";
    assert!(own.error().1.starts_with(message), "{}", own.text);
    let orphaned = server.ask("DELETE", &path, &json!({"propagationPolicy": "Orphan"})).await;
    assert_eq!(orphaned.body["metadata"]["finalizers"], json!(["orphan"]));
    let both = server.ask("DELETE", &path, &json!({"propagationPolicy": "Orphan", "orphanDependents": true})).await;
    assert_eq!(both.status, 422);
}

#[tokio::test(start_paused = true)]
async fn pods_end_gracefully() {
    let server = Server::start().await;
    let pod = |name: &str, node: &str| json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": node, "terminationGracePeriodSeconds": 60}});
    server.ask("POST", PODS, &pod("p", "n")).await;
    let path = format!("{PODS}/p");
    for (query, grace) in [("", 60), ("?gracePeriodSeconds=90", 60), ("?gracePeriodSeconds=10", 10)] {
        let deleted = server.ask("DELETE", &format!("{path}{query}"), &Value::Null).await;
        assert_eq!(
            (deleted.status.as_u16(), &deleted.body["metadata"]["deletionGracePeriodSeconds"]),
            (200, &json!(grace)),
            "{query}"
        );
    }
    let forced = server.ask("DELETE", &format!("{path}?gracePeriodSeconds=0"), &Value::Null).await;
    assert_eq!(forced.body["kind"], "Pod");
    assert_eq!(server.get(&path).await.status, 404);
    server.ask("POST", PODS, &pod("unbound", "")).await;
    server.ask("DELETE", &format!("{PODS}/unbound"), &Value::Null).await;
    assert_eq!(server.get(&format!("{PODS}/unbound")).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn collections_honour_selectors() {
    let server = Server::start().await;
    for i in 0..4 {
        create(&server, &format!("m{i}"), json!({"labels": {"odd": (i % 2).to_string()}})).await;
    }
    let deleted = server.ask("DELETE", &format!("{MAPS}?labelSelector=odd%3D1"), &Value::Null).await;
    assert_eq!(deleted.names(), ["m1", "m3"]);
    assert_eq!(server.get(&format!("{MAPS}?labelSelector=odd")).await.names(), ["m0", "m2"]);
    assert_eq!(server.ask("DELETE", "/api/v1/namespaces", &Value::Null).await.status, 405);
}

#[tokio::test(start_paused = true)]
async fn large_collections_go_in_their_order() {
    let server = Server::start().await;
    let names: Vec<String> = (100..200).map(|i| format!("m{i}")).collect();
    for name in &names {
        create(&server, name, json!({})).await;
    }
    let begun = server.get(MAPS).await.body["metadata"]["resourceVersion"].clone();
    assert_eq!(server.ask("DELETE", MAPS, &Value::Null).await.names(), names);
    assert_eq!(server.get(MAPS).await.names(), Vec::<String>::new());
    let watch =
        server.get(&format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={}", begun.as_str().unwrap())).await;
    let events = watch.text.lines().map(|line| serde_json::from_str::<Value>(line).expect("an event"));
    let gone: Vec<Value> = events.map(|event| event["object"]["metadata"]["name"].clone()).collect();
    assert_eq!(gone, names);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_with_its_last_finalizer() {
    let server = Server::start().await;
    server.ask("POST", "/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await;
    let path = "/api/v1/namespaces/n";
    let deleted = server.ask("DELETE", path, &Value::Null).await;
    assert_eq!(deleted.body["status"]["phase"], "Terminating");
    let refused = server.ask("POST", "/api/v1/namespaces/n/configmaps", &json!({"metadata": {"name": "a"}})).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.body["details"]["causes"][0]["reason"]),
        (403, &json!("NamespaceTerminating"))
    );
    let finalized = server
        .ask("PUT", &format!("{path}/finalize"), &json!({"metadata": {"name": "n"}, "spec": {"finalizers": []}}))
        .await;
    assert_eq!(finalized.status, 200, "{}", finalized.text);
    assert_eq!(server.get(path).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn an_eviction_asks_the_budget() {
    let server = Server::start().await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget =
        json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}});
    assert_eq!(server.ask("POST", budgets, &budget).await.status, 201);
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}});
    server.patch("merge", &format!("{budgets}/b/status"), &status).await;
    for name in ["p", "q"] {
        let pod = json!({"metadata": {"name": name, "labels": {"a": "b"}}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
        server.ask("POST", PODS, &pod).await;
        let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        server.patch("merge", &format!("{PODS}/{name}/status"), &running).await;
    }
    let evict = async |name: &str| {
        server.ask("POST", &format!("{PODS}/{name}/eviction"), &json!({"metadata": {"name": name}})).await
    };
    assert_eq!(evict("p").await.status, 201);
    let refused = evict("q").await;
    assert_eq!(refused.error(), (429, "Cannot evict pod as it would violate the pod's disruption budget."));
    assert_eq!(refused.body["details"]["causes"][0]["reason"], "DisruptionBudget");
    assert_eq!(evict("none").await.error(), (404, "pods \"none\" not found"));
}
