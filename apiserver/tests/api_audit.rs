//! The audit log as its readers see it: one JSON event a line, in upstream's format.

#[path = "api/server.rs"]
#[allow(dead_code, reason = "each suite uses its part of it")]
mod server;

use std::path::PathBuf;

use apiserver::Config;
use apiserver::audit::{AuditConfig, Policy};
use serde_json::{Value, json};

use server::Server;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A server that logs by these rules, and its log.
struct Logged {
    server: Server,
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Logged {
    async fn start(rules: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        let policy = Policy::parse(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}")).expect("a policy");
        let audit = Some(AuditConfig { path: path.clone(), policy });
        let server = Server::start_with(Config { audit, ..Config::for_tests() }).await;
        Self { server, _folder: folder, path }
    }

    /// All events, once the log is finished.
    async fn events(&self) -> Vec<Value> {
        self.server.server.audit.as_ref().expect("there is a log").finish().await;
        let text = std::fs::read_to_string(&self.path).expect("the log");
        text.lines().map(|line| serde_json::from_str(line).expect("an event a line")).collect()
    }
}

fn stages(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["stage"].as_str().unwrap_or_default()).collect()
}

#[tokio::test]
async fn requests_and_answers_are_recorded_whole() {
    let rules = "omitManagedFields: true\nrules: [{level: RequestResponse, resources: [{group: '', resources: [configmaps]}]}]\n";
    let logged = Logged::start(rules).await;
    let body = json!({"metadata": {"name": "one"}, "data": {"a": "1"}}).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("user-agent", "tester/1"),
        ("audit-id", "mine"),
        ("x-forwarded-for", "192.0.2.7"),
    ];
    let created = logged.server.send("POST", &format!("{MAPS}?fieldManager=m"), &headers, body).await;
    assert_eq!((created.status.as_u16(), created.headers["audit-id"].to_str().ok()), (201, Some("mine")));
    let events = logged.events().await;
    assert_eq!(stages(&events), ["RequestReceived", "ResponseComplete"]);
    let (first, last) = (&events[0], &events[1]);
    assert_eq!(first["responseStatus"], Value::Null);
    let expected = json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": "mine",
        "stage": "ResponseComplete", "requestURI": format!("{MAPS}?fieldManager=m"), "verb": "create",
        "user": {"username": "admin", "groups": ["system:masters", "system:authenticated"]},
        "sourceIPs": ["192.0.2.7"], "userAgent": "tester/1",
        "objectRef": {"resource": "configmaps", "namespace": "default", "name": "one", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 201},
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""}});
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&last[name], value, "{name}");
    }
    assert_eq!(
        (&last["requestObject"]["kind"], &last["requestObject"]["data"]),
        (&json!("ConfigMap"), &json!({"a": "1"}))
    );
    assert_eq!(last["responseObject"]["metadata"]["uid"], created.body["metadata"]["uid"]);
    assert_eq!(last["responseObject"]["metadata"].get("managedFields"), None);
    assert!(
        last["requestReceivedTimestamp"].as_str().is_some_and(|time| time.len() == "2026-01-01T00:00:00.000000Z".len())
    );
}

#[tokio::test]
async fn failures_impersonation_and_refusals_are_recorded() {
    let rules = "omitStages: [RequestReceived]\nrules: [{level: Metadata, verbs: [get, delete]}]\n";
    let logged = Logged::start(rules).await;
    let missing = logged.server.get(&format!("{MAPS}/none")).await;
    assert_eq!(missing.status, 404);
    let refused = logged.server.send("GET", &format!("{MAPS}/none"), &[("impersonate-user", "jane")], "").await;
    assert_eq!(refused.status, 403);
    logged.server.ask("POST", MAPS, &json!({"metadata": {"name": "one"}})).await;
    assert_eq!(logged.server.ask("DELETE", &format!("{MAPS}/one"), &Value::Null).await.status, 200);
    let events = logged.events().await;
    assert_eq!(events.len(), 3, "creations are not recorded by this policy");
    let status = &events[0]["responseStatus"];
    assert_eq!(
        (&status["code"], &status["reason"], &status["status"]),
        (&json!(404), &json!("NotFound"), &json!("Failure"))
    );
    assert_eq!(events[0].get("responseObject"), None, "the level does not show it");
    assert_eq!(events[1]["impersonatedUser"], json!({"username": "jane", "groups": ["system:authenticated"]}));
    assert_eq!(events[1]["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(events[1]["responseStatus"]["code"], 403);
    assert_eq!(
        (&events[2]["responseStatus"]["status"], &events[2]["responseStatus"]["code"]),
        (&json!("Success"), &json!(200))
    );
}

#[tokio::test]
async fn a_watch_is_recorded_when_it_starts_and_when_it_ends() {
    let logged = Logged::start("rules: [{level: Metadata, verbs: [watch]}]\n").await;
    let watched = logged.server.get(&format!("{MAPS}?watch=true&timeoutSeconds=1")).await;
    assert_eq!(watched.status, 200);
    let events = logged.events().await;
    assert_eq!(stages(&events), ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
    assert!(events.iter().all(|event| event["auditID"] == events[0]["auditID"]));
}

#[tokio::test]
async fn nothing_is_recorded_without_a_rule() {
    let logged = Logged::start("rules: [{level: None}]\n").await;
    let answer = logged.server.get(MAPS).await;
    assert_eq!((answer.status.as_u16(), answer.headers.get("audit-id")), (200, None));
    assert_eq!(logged.events().await.len(), 0);
}
