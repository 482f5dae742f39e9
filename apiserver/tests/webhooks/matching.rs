//! Which requests webhooks are asked about.

use serde_json::{Value, json};

use crate::hooks::{Hooks, MAPS, MUTATING, VALIDATING, caught_up, configure, create};
use crate::server::Server;

#[tokio::test]
async fn selectors_choose_namespaces_and_objects() {
    let server = Server::start().await;
    let hooks = Hooks::start(|_, _| json!({"allowed": true})).await;
    let webhooks = vec![
        hooks.hook("/here", json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}})),
        hooks.hook("/there", json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}})),
        hooks.hook("/marked", json!({"objectSelector": {"matchLabels": {"mark": "yes"}}})),
    ];
    configure(&server, VALIDATING, "v", webhooks).await;
    create(&server, "plain").await;
    assert_eq!(hooks.paths(), ["/here"]);
    server.patch("merge", &format!("{MAPS}/plain"), &json!({"metadata": {"labels": {"mark": "yes"}}})).await;
    let mut asked = hooks.paths();
    asked.sort();
    assert_eq!(asked, ["/here", "/marked"]);
    server.patch("merge", &format!("{MAPS}/plain"), &json!({"metadata": {"labels": {"mark": null}}})).await;
    let mut asked = hooks.paths();
    asked.sort();
    assert_eq!(asked, ["/here", "/marked"], "what the object was counts too");
}

#[tokio::test]
async fn namespaces_are_selected_by_their_own_labels() {
    let server = Server::start().await;
    let hooks = Hooks::start(|_, _| json!({"allowed": true})).await;
    let rules = json!([{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["namespaces"]}]);
    let selector = json!({"matchLabels": {"mark": "yes"}});
    configure(&server, VALIDATING, "v", vec![hooks.hook("/n", json!({"rules": rules, "namespaceSelector": selector}))])
        .await;
    let namespace = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}});
    server.ask("POST", "/api/v1/namespaces", &namespace("one", json!({}))).await;
    assert_eq!(hooks.paths().len(), 0);
    server.ask("POST", "/api/v1/namespaces", &namespace("two", json!({"mark": "yes"}))).await;
    server.ask("DELETE", "/api/v1/namespaces/two", &Value::Null).await;
    let asked: Vec<_> = hooks
        .asked()
        .into_iter()
        .map(|(_, request)| {
            (request["operation"].as_str().unwrap_or_default().to_owned(), request["namespace"].clone())
        })
        .collect();
    assert_eq!(asked, [("CREATE".to_owned(), Value::Null), ("DELETE".to_owned(), json!("two"))]);
}

#[tokio::test]
async fn other_versions_of_the_same_objects_count_unless_matched_exactly() {
    let server = Server::start().await;
    let hooks = Hooks::start(|_, _| json!({"allowed": true})).await;
    let rules = json!([{"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"],
        "resources": ["horizontalpodautoscalers"]}]);
    let webhooks = vec![
        hooks.hook("/equivalent", json!({"rules": rules})),
        hooks.hook("/exact", json!({"rules": rules, "matchPolicy": "Exact"})),
    ];
    configure(&server, MUTATING, "m", webhooks).await;
    let scaler = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}});
    let path = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let created = server.ask("POST", path, &scaler).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let asked = hooks.asked();
    assert_eq!(asked.len(), 1);
    let (path, request) = &asked[0];
    assert_eq!(path, "/equivalent");
    assert_eq!((&request["kind"]["version"], &request["requestKind"]["version"]), (&json!("v2"), &json!("v1")));
    assert_eq!(request["object"]["apiVersion"], "autoscaling/v2");
    assert_eq!(request["object"]["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
}

#[tokio::test]
async fn match_conditions_choose_requests() {
    let server = Server::start().await;
    let hooks = Hooks::start(|_, _| json!({"allowed": true})).await;
    let condition = |expression: &str| json!([{"name": "c", "expression": expression}]);
    let wrong = hooks.hook("/wrong", json!({"matchConditions": condition("object.+")}));
    let refused = server.ask("POST", VALIDATING, &json!({"metadata": {"name": "w"}, "webhooks": [wrong]})).await;
    assert_eq!(refused.body["details"]["causes"][0]["field"], "webhooks[0].matchConditions[0].expression");
    let webhooks = vec![
        hooks.hook("/yes", json!({"matchConditions": condition("request.operation == 'CREATE' && has(object.data)")})),
        hooks.hook("/no", json!({"matchConditions": condition("object.metadata.name == 'other'")})),
        hooks.hook(
            "/ignored",
            json!({"matchConditions": condition("object.data.none == ''"), "failurePolicy": "Ignore"}),
        ),
    ];
    configure(&server, VALIDATING, "v", webhooks).await;
    assert_eq!(create(&server, "one").await.status, 201);
    assert_eq!(hooks.paths(), ["/yes"]);
    let failing = hooks.hook("/failing", json!({"matchConditions": condition("object.data.none == ''")}));
    configure(&server, VALIDATING, "a", vec![failing]).await;
    let refused = create(&server, "two").await;
    assert_eq!(
        refused.error(),
        (
            403,
            "configmaps \"two\" is forbidden: expression 'object.data.none == ''' resulted in error: no such key: none"
        )
    );
}

#[tokio::test]
async fn webhooks_have_no_say_in_webhooks() {
    let server = Server::start().await;
    let hooks = Hooks::start(|_, _| json!({"allowed": false})).await;
    let rules = json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]);
    configure(&server, MUTATING, "m", vec![hooks.hook("/all", json!({"rules": rules}))]).await;
    configure(&server, VALIDATING, "v", vec![hooks.hook("/all", json!({"rules": rules}))]).await;
    let refused = create(&server, "one").await;
    assert_eq!(refused.error(), (400, "admission webhook \"all.example.org\" denied the request without explanation"));
    for path in [format!("{MUTATING}/m"), format!("{VALIDATING}/v")] {
        assert_eq!(server.ask("DELETE", &path, &Value::Null).await.status, 200);
    }
    caught_up(&server, VALIDATING).await;
    assert_eq!(create(&server, "one").await.status, 201);
}

#[tokio::test]
async fn configurations_have_tables_and_need_a_version() {
    let server = Server::start().await;
    let hooks = Hooks::start(|_, _| json!({"allowed": true})).await;
    configure(&server, VALIDATING, "v", vec![hooks.hook("/v", json!({}))]).await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = server.send("GET", VALIDATING, &accept, "").await;
    assert_eq!(table.body["rows"][0]["cells"].as_array().map(|cells| &cells[..2]), Some(&[json!("v"), json!(1)][..]));
    let body = json!({"metadata": {"name": "v"}, "webhooks": [hooks.hook("/v", json!({}))]});
    let put = server.ask("PUT", &format!("{VALIDATING}/v"), &body).await;
    assert_eq!(put.body["details"]["causes"][0]["field"], "metadata.resourceVersion");
    assert_eq!(put.body["details"]["kind"], "validatingwebhookconfigurations");
    let patch = json!([{"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": 5}]);
    let changed = server.patch("json", &format!("{VALIDATING}/v"), &patch).await;
    assert_eq!(changed.body["metadata"]["generation"], 2);
}
