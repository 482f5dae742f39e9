//! Pod Security Standards by the labels of namespaces.

use serde_json::{Value, json};

use crate::server::Server;

fn namespace(name: &str, labels: &[(&str, &str)]) -> Value {
    let labels: serde_json::Map<String, Value> =
        labels.iter().map(|(key, value)| (format!("pod-security.kubernetes.io/{key}"), Value::from(*value))).collect();
    json!({"metadata": {"name": name, "labels": labels}})
}

async fn make(server: &Server, name: &str, labels: &[(&str, &str)]) {
    let made = server.ask("POST", "/api/v1/namespaces", &namespace(name, labels)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let account = json!({"metadata": {"name": "default"}});
    server.ask("POST", &format!("/api/v1/namespaces/{name}/serviceaccounts"), &account).await;
}

fn pod(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["containers"] = json!([{"name": "c", "image": "i"}]);
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test(start_paused = true)]
async fn pods_that_violate_the_standard_are_refused() {
    let server = Server::start().await;
    make(&server, "strict", &[("enforce", "restricted")]).await;
    make(&server, "base", &[("enforce", "baseline"), ("enforce-version", "v1.30")]).await;
    let refused = server.ask("POST", "/api/v1/namespaces/strict/pods", &pod("x", json!({}))).await;
    assert_eq!(
        refused.error(),
        (
            403,
            "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": \
             allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
             unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
             runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
             seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        )
    );
    let base = "/api/v1/namespaces/base/pods";
    assert_eq!(server.ask("POST", base, &pod("a", json!({}))).await.status, 201);
    let refused = server.ask("POST", base, &pod("x", json!({"hostPID": true}))).await;
    assert_eq!(
        refused.error(),
        (403, "pods \"x\" is forbidden: violates PodSecurity \"baseline:v1.30\": host namespaces (hostPID=true)")
    );
}

#[tokio::test(start_paused = true)]
async fn violations_are_told_where_they_are_not_enforced() {
    let server = Server::start().await;
    make(&server, "warned", &[("warn", "baseline")]).await;
    let made = server.ask("POST", "/api/v1/namespaces/warned/pods", &pod("a", json!({"hostIPC": true}))).await;
    let warning = "299 - \"would violate PodSecurity \\\"baseline:latest\\\": host namespaces (hostIPC=true)\"";
    assert_eq!((made.status.as_u16(), made.warnings()), (201, vec![warning]));
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("x", json!({"hostIPC": true}))["spec"]});
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let deployment = json!({"metadata": {"name": "d"}, "spec": spec});
    let made = server.ask("POST", "/apis/apps/v1/namespaces/warned/deployments", &deployment).await;
    assert_eq!((made.status.as_u16(), made.warnings()), (201, vec![warning]));
    let stricter = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    let changed = server.patch("merge", "/api/v1/namespaces/warned", &stricter).await;
    assert_eq!(
        changed.warnings(),
        [
            "299 - \"existing pods in namespace \\\"warned\\\" violate the new PodSecurity enforce level \\\"baseline:latest\\\"\"",
            "299 - \"a: host namespaces\"",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn labels_must_be_understood() {
    let server = Server::start().await;
    let made = server.ask("POST", "/api/v1/namespaces", &namespace("n", &[("enforce", "strict")])).await;
    let message = "Namespace \"n\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted";
    assert_eq!(made.error(), (422, message));
}
