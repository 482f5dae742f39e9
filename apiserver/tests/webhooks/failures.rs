//! Webhooks that can't be asked, or that answer nonsense.

use serde_json::{Value, json};

use crate::hooks::{Hooks, MAPS, MUTATING, VALIDATING, configure, create, patched};
use crate::server::Server;

/// A server with one webhook, and what a creation is answered.
async fn outcome(path: &str, hook: Value) -> (u16, String) {
    let server = Server::start().await;
    configure(&server, path, "x", vec![hook]).await;
    let answer = create(&server, "one").await;
    (answer.status.as_u16(), answer.body["message"].as_str().unwrap_or_default().to_owned())
}

fn failed(hook: &str, why: &str) -> (u16, String) {
    (500, format!("Internal error occurred: failed calling webhook \"{hook}.example.org\": {why}"))
}

#[tokio::test]
async fn who_can_not_be_asked() {
    let hooks = Hooks::start(|_, _| json!({"allowed": true, "sleep": 5})).await;
    let call =
        |path: &str, seconds: u8| format!("failed to call webhook: Post \"{}?timeout={seconds}s\": ", hooks.url(path));
    let nobody = "https://127.0.0.1:1/x";
    let refused = "failed to call webhook: Post \"https://127.0.0.1:1/x?timeout=10s\": dial tcp 127.0.0.1:1: connect: connection refused";
    let gone = hooks.hook("/x", json!({"clientConfig": {"url": nobody}}));
    assert_eq!(outcome(VALIDATING, gone.clone()).await, failed("x", refused));
    assert_eq!(outcome(MUTATING, gone).await, failed("x", refused));
    let ignored = hooks.hook("/x", json!({"clientConfig": {"url": nobody}, "failurePolicy": "Ignore"}));
    assert_eq!(outcome(VALIDATING, ignored.clone()).await.0, 201);
    assert_eq!(outcome(MUTATING, ignored).await.0, 201);
    let service = json!({"clientConfig": {"service": {"namespace": "default", "name": "s", "path": "/p"}}});
    let why = "failed to call webhook: Post \"https://s.default.svc:443/p?timeout=10s\": service \"s\" not found";
    assert_eq!(outcome(VALIDATING, hooks.hook("/x", service)).await, failed("x", why));
    let unknown = hooks.hook("/x", json!({"clientConfig": {"url": hooks.url("/x")}}));
    let why = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert_eq!(outcome(VALIDATING, unknown).await, failed("x", &format!("{}{why}", call("/x", 10))));
    let slow = hooks.hook("/slow", json!({"timeoutSeconds": 1}));
    let why = format!("{}context deadline exceeded", call("/slow", 1));
    assert_eq!(outcome(VALIDATING, slow).await, failed("slow", &why));
}

#[tokio::test]
async fn who_answers_nonsense() {
    let hooks = Hooks::start(|path, _| match path {
        "/broken" => json!({"code": 500, "text": "no luck"}),
        "/nothing" => json!({"code": 200, "text": "nothing"}),
        "/other" => json!({"uid": "other", "allowed": true}),
        "/missing" => patched(json!([{"op": "remove", "path": "/data/none"}])),
        _ => patched(json!({"op": "add"})),
    })
    .await;
    let table = [
        (
            "broken",
            "failed to call webhook: an error on the server (\"no luck\") has prevented the request from succeeding",
        ),
        (
            "nothing",
            "failed to call webhook: couldn't get version/kind; json parse error: invalid character 'o' in literal null (expecting 'u')",
        ),
        (
            "patch",
            "received undecodable patch in webhook response: json: cannot unmarshal object into Go value of type jsonpatch.Patch",
        ),
    ];
    for (name, why) in table {
        assert_eq!(outcome(MUTATING, hooks.hook(&format!("/{name}"), json!({}))).await, failed(name, why));
    }
    let (code, message) = outcome(MUTATING, hooks.hook("/other", json!({}))).await;
    assert_eq!(code, 500);
    assert!(message.contains("received invalid webhook response: expected response.uid="), "{message}");
    assert!(message.ends_with(", got \"other\""), "{message}");
    let ignored = json!({"failurePolicy": "Ignore"});
    let missing = "Internal error occurred: error in remove for path: '/data/none': Unable to remove nonexistent key: none: missing value";
    let found = outcome(MUTATING, hooks.hook("/missing", ignored)).await;
    assert_eq!(found, (500, missing.to_owned()), "a patch that fails is no failure to call");
}

#[tokio::test]
async fn dry_runs_reach_only_who_has_no_side_effects() {
    let server = Server::start().await;
    let hooks = Hooks::start(|_, _| json!({"allowed": true})).await;
    configure(&server, VALIDATING, "v", vec![hooks.hook("/v", json!({"sideEffects": "NoneOnDryRun"}))]).await;
    let body = json!({"metadata": {"name": "one"}});
    assert_eq!(server.ask("POST", &format!("{MAPS}?dryRun=All"), &body).await.status, 201);
    let (_, request) = hooks.asked().pop().expect("it was asked");
    assert_eq!((&request["dryRun"], &request["options"]["dryRun"]), (&json!(true), &json!(["All"])));
}
