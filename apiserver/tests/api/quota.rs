//! What a namespace's LimitRanges and ResourceQuotas let in.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::server::{Answer, Server};

const NS: &str = "/api/v1/namespaces/default";

fn pod(name: &str, resources: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i:1", "resources": resources}]}})
}

/// A quota whose status says what its controller would have written.
async fn quota(server: &Server, name: &str, spec: Value) {
    let made =
        server.ask("POST", &format!("{NS}/resourcequotas"), &json!({"metadata": {"name": name}, "spec": spec})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let used: Value = spec["hard"]
        .as_object()
        .expect("hard")
        .keys()
        .map(|name| (name.clone(), json!("0")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let status = json!({"status": {"hard": spec["hard"], "used": used}});
    let written = server.patch("merge", &format!("{NS}/resourcequotas/{name}/status"), &status).await;
    assert_eq!(written.status, 200, "{}", written.text);
}

async fn used(server: &Server, name: &str) -> Value {
    server.get(&format!("{NS}/resourcequotas/{name}")).await.body["status"]["used"].clone()
}

async fn create(server: &Server, plural: &str, object: &Value) -> Answer {
    server.ask("POST", &format!("{NS}/{plural}"), object).await
}

#[tokio::test(start_paused = true)]
async fn creations_are_charged_until_nothing_is_left() {
    let server = Server::start().await;
    quota(
        &server,
        "q",
        json!({"hard": {"pods": "2", "requests.cpu": "1", "count/configmaps": "1", "services.nodeports": "0"}}),
    )
    .await;
    let silent = create(&server, "pods", &pod("x", json!({}))).await;
    assert_eq!(silent.error(), (403, "pods \"x\" is forbidden: failed quota: q: must specify requests.cpu for: c"));
    assert_eq!(create(&server, "pods", &pod("a", json!({"requests": {"cpu": "600m"}}))).await.status, 201);
    let too_much = create(&server, "pods", &pod("b", json!({"requests": {"cpu": "500m"}}))).await;
    assert_eq!(
        too_much.error(),
        (
            403,
            "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
        )
    );
    assert_eq!(create(&server, "configmaps", &json!({"metadata": {"generateName": "m-"}})).await.status, 201);
    for query in ["", "?dryRun=All"] {
        let second = create(&server, &format!("configmaps{query}"), &json!({"metadata": {"name": "n"}})).await;
        let refused = "configmaps \"n\" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1";
        assert_eq!(second.error(), (403, refused));
    }
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let refused = "services \"s\" is forbidden: exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=0, limited: services.nodeports=0";
    assert_eq!(create(&server, "services", &service).await.error(), (403, refused));
    let plain = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    assert_eq!(create(&server, "services", &plain).await.status, 201);
    let changed = server.patch("merge", &format!("{NS}/services/s"), &json!({"spec": {"type": "NodePort"}})).await;
    assert_eq!(changed.error(), (403, refused));
    assert_eq!(
        used(&server, "q").await,
        json!({"pods": "1", "requests.cpu": "600m", "count/configmaps": "1", "services.nodeports": "0"})
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_not_charged() {
    let server = Server::start().await;
    quota(&server, "a", json!({"hard": {"secrets": "5"}})).await;
    quota(&server, "b", json!({"hard": {"count/secrets": "1"}})).await;
    let secret = json!({"metadata": {"name": "s"}});
    assert_eq!(create(&server, "secrets?dryRun=All", &secret).await.status, 201);
    assert_eq!(used(&server, "a").await, json!({"secrets": "0"}));
    assert_eq!(create(&server, "secrets", &secret).await.status, 201);
    let beyond = create(&server, "secrets", &json!({"metadata": {"name": "t"}})).await;
    assert_eq!(beyond.status, 403, "{}", beyond.text);
    assert_eq!(used(&server, "a").await, json!({"secrets": "1"}), "the first quota had been charged and got it back");
    server
        .patch("merge", &format!("{NS}/resourcequotas/b/status"), &json!({"status": {"hard": {"count/secrets": "9"}}}))
        .await;
    assert_eq!(create(&server, "secrets", &secret).await.status, 409);
    assert_eq!(
        (used(&server, "a").await, used(&server, "b").await),
        (json!({"secrets": "1"}), json!({"count/secrets": "1"}))
    );
}

#[tokio::test(start_paused = true)]
async fn creations_that_race_do_not_exceed_the_quota() {
    let server = Server::start().await;
    quota(&server, "q", json!({"hard": {"count/configmaps": "7"}})).await;
    let maps: Vec<Value> = (0..40).map(|i| json!({"metadata": {"name": format!("m{i}")}})).collect();
    let answers = join_all(maps.iter().map(|map| create(&server, "configmaps", map))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 7);
    assert!(answers.iter().all(|answer| answer.status == 201 || answer.status == 403));
    assert_eq!(used(&server, "q").await, json!({"count/configmaps": "7"}));
}

#[tokio::test(start_paused = true)]
async fn scopes_choose_what_is_counted() {
    let server = Server::start().await;
    quota(&server, "q", json!({"hard": {"pods": "1"}, "scopes": ["BestEffort"]})).await;
    let limited = || json!({"limits": {"cpu": "1"}});
    assert_eq!(create(&server, "pods", &pod("a", json!({}))).await.status, 201);
    assert_eq!(create(&server, "pods", &pod("b", limited())).await.status, 201);
    assert_eq!(create(&server, "pods", &pod("c", json!({}))).await.status, 403);
    assert_eq!(used(&server, "q").await, json!({"pods": "1"}));
}

#[tokio::test(start_paused = true)]
async fn limit_ranges_fill_in_and_refuse() {
    let server = Server::start().await;
    let limit = json!({"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "2"}});
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [limit]}});
    assert_eq!(create(&server, "limitranges", &range).await.status, 201);
    let made = create(&server, "pods", &pod("a", json!({}))).await;
    assert_eq!(
        made.body["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(made.body["status"]["qosClass"], "Burstable");
    assert_eq!(
        made.body["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let large = create(&server, "pods", &pod("x", json!({"limits": {"cpu": "3"}}))).await;
    assert_eq!(large.error(), (403, "pods \"x\" is forbidden: maximum cpu usage per Container is 2, but limit is 3"));
}

#[tokio::test(start_paused = true)]
async fn storage_and_classes_are_filled_in() {
    let server = Server::start().await;
    let class = json!({"metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p"});
    assert_eq!(server.ask("POST", "/apis/storage.k8s.io/v1/storageclasses", &class).await.status, 201);
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let made = create(&server, "persistentvolumeclaims", &claim).await;
    assert_eq!(made.body["spec"]["storageClassName"], "fast", "{}", made.text);
    assert_eq!(made.body["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let named = json!({"metadata": {"name": "p"}, "spec": {"runtimeClassName": "none", "containers": [{"name": "c", "image": "i"}]}});
    let refused = create(&server, "pods", &named).await;
    assert_eq!(refused.error(), (403, "pods \"p\" is forbidden: pod rejected: RuntimeClass \"none\" not found"));
}
