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
        ("GET", "/healthz/", 404),
        ("GET", "/metrics/", 404),
        ("GET", "/version/", 200),
        ("GET", "//version", 404),
        ("HEAD", "/version", 405),
        ("HEAD", "/api", 405),
        ("OPTIONS", "/api/v1", 405),
        ("POST", "/apis", 200),
        ("DELETE", "/apis/apps", 200),
        ("POST", "/openapi/v3", 200),
        ("GET", "/openapi/v3/apis/absent/v1", 404),
        ("POST", "/openid/v1/jwks", 405),
        ("GET", "/openid/v1/jwks/x", 404),
        ("GET", "/api/v1/namespaces/default/configmaps/%zz", 400),
        ("GET", "/api/v1/namespaces/default/configmaps/", 200),
        ("GET", "/api/v1//namespaces/default/configmaps", 404),
        ("GET", "/api/v1/namespaces/default/configmaps?limit=-1", 200),
        ("GET", "/api/v1/namespaces/default/configmaps?limit=1&resourceVersion=0", 200),
        ("GET", "/api/v9", 404),
        ("GET", "/api/v1/namespaces/default/bindings", 405),
        ("GET", "/api/v1/bindings", 404),
        ("GET", "/api/v1/namespaces/default/bindings/a", 404),
        ("GET", "/api/v1/watch/namespaces/default/bindings", 404),
        ("DELETE", "/apis/authorization.k8s.io/v1/subjectaccessreviews/a", 404),
        ("POST", "/apis/authorization.k8s.io/v1/localsubjectaccessreviews", 404),
        ("GET", "/api/v1/namespaces/default/pods/absent/proxy", 404),
        ("GET", "/apis/absent.example.org/v1/things", 404),
    ];
    for (method, path, code) in table {
        assert_eq!(server.ask(method, path, &Value::Null).await.status.as_u16(), code, "{method} {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_name_is_refused_before_its_object_is_looked_for() {
    let server = Server::start().await;
    for path in ["configmaps/a", "pods/a/status", "replicationcontrollers/a/scale"] {
        let answer = server.ask("PUT", &format!("/api/v1/namespaces/default/{path}"), &json!({})).await;
        let why = "the name of the object (a based on URL) was undeterminable: name must be provided";
        assert_eq!(answer.error(), (400, why), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn media_types_of_bodies_are_read_as_go_reads_them() {
    let server = Server::start().await;
    for (form, code) in
        [("APPLICATION/JSON", 201), ("application/json;", 201), ("application/json; x", 415), ("json", 415)]
    {
        let answer = server
            .send("POST", &format!("{MAPS}?dryRun=All"), &[("content-type", form)], r#"{"metadata":{"name":"a"}}"#)
            .await;
        assert_eq!(answer.status.as_u16(), code, "{form}: {}", answer.text);
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

#[tokio::test(start_paused = true)]
async fn versions_grow_with_each_effective_write_and_with_no_other() {
    let server = Server::start().await;
    let version = |body: &Value| body["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    let made = server.ask("POST", MAPS, &json!({"metadata": {"name": "a"}, "data": {"k": "1"}})).await.body;
    let first = version(&made);
    assert!(!first.starts_with('0') && first.parse::<u64>().is_ok(), "{first}");
    let path = format!("{MAPS}/a");
    let same = server.patch("merge", &path, &json!({"data": {"k": "1"}})).await.body;
    assert_eq!(version(&same), first);
    let changed = server.patch("merge", &path, &json!({"data": {"k": "2"}})).await.body;
    assert!(version(&changed).parse::<u64>().expect("a number") > first.parse::<u64>().expect("a number"));
}

#[tokio::test(start_paused = true)]
async fn a_generation_counts_changes_of_the_spec() {
    let server = Server::start().await;
    let generation = |body: &Value| body["metadata"]["generation"].clone();
    let pod = json!({"metadata": {"name": "p", "generation": 7}, "spec": {"containers": [{"name": "c", "image": "a"}], "nodeName": "n"}});
    assert_eq!(generation(&server.ask("POST", PODS, &pod).await.body), 1);
    let path = format!("{PODS}/p");
    let labelled = server.patch("merge", &path, &json!({"metadata": {"labels": {"a": "b"}, "generation": 9}})).await;
    assert_eq!(generation(&labelled.body), 1, "{}", labelled.text);
    let image = json!({"spec": {"containers": [{"name": "c", "image": "b"}]}});
    assert_eq!(generation(&server.patch("strategic-merge", &path, &image).await.body), 2);
    assert_eq!(generation(&server.ask("DELETE", &path, &Value::Null).await.body), 3);
}

#[tokio::test(start_paused = true)]
async fn events_have_two_faces_and_one_hour() {
    let server = Server::start().await;
    let event = json!({"metadata": {"name": "e"}, "regarding": {"kind": "Pod", "namespace": "default", "name": "p"}, "reason": "Why",
        "note": "what", "type": "Normal", "action": "Did", "eventTime": "2026-01-01T00:00:00.123456Z",
        "reportingController": "example.org/c", "reportingInstance": "i"});
    let made = server.ask("POST", "/apis/events.k8s.io/v1/namespaces/default/events", &event).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let core = "/api/v1/namespaces/default/events";
    let found = server.get(&format!("{core}?fieldSelector=involvedObject.name%3Dp,reason%3DWhy,type%3DNormal")).await;
    let found = &found.body["items"][0];
    assert_eq!((&found["message"], &found["eventTime"]), (&json!("what"), &json!("2026-01-01T00:00:00.123456Z")));
    assert_eq!(found["metadata"]["uid"], made.body["metadata"]["uid"]);
    tokio::time::sleep(std::time::Duration::from_secs(3500)).await;
    assert_eq!(server.patch("merge", &format!("{core}/e"), &json!({"count": 2})).await.status, 200);
    tokio::time::sleep(std::time::Duration::from_secs(3500)).await;
    assert_eq!(server.get(&format!("{core}/e")).await.status, 200, "an hour after its last write");
    tokio::time::sleep(std::time::Duration::from_secs(200)).await;
    assert_eq!(server.get(&format!("{core}/e")).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn discovery_has_two_forms() {
    let server = Server::start().await;
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let answer = server.send("GET", "/apis", &[("accept", &format!("{aggregated},application/json"))], "").await;
    assert_eq!(
        (&answer.headers["content-type"], &answer.body["kind"]),
        (&aggregated.parse().unwrap(), &json!("APIGroupDiscoveryList"))
    );
    let etag = answer.headers["etag"].to_str().expect("a text").to_owned();
    let again = server.send("GET", "/apis", &[("accept", aggregated), ("if-none-match", &etag)], "").await;
    assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""));
    let protobuf = aggregated.replace("json", "vnd.kubernetes.protobuf");
    for accept in [format!("{protobuf},application/json"), format!("{aggregated};stream=chair,{protobuf}")] {
        let answer = server.send("GET", "/api", &[("accept", &accept)], "").await;
        assert_eq!(answer.headers["content-type"], protobuf, "{accept}");
    }
    let later = aggregated.replace("v=v2", "v=v9");
    assert_eq!(server.send("GET", "/apis", &[("accept", &later)], "").await.status, 406);
    for (path, words) in [("/apis/apps", "only the following"), ("/apis/apps/v1", "406: Not Acceptable")] {
        let refused = server.send("GET", path, &[("accept", "text/plain")], "").await;
        assert!(refused.status == 406 && refused.error().1.starts_with(words), "{path}: {}", refused.text);
    }
    let legacy = server.get("/apis/apps").await;
    assert_eq!(legacy.body["kind"], "APIGroup");
    assert_eq!(server.get("/apis/apps/").await.body, legacy.body);
}

#[tokio::test(start_paused = true)]
async fn openapi_says_what_it_is_by_hash() {
    let server = Server::start().await;
    let index = server.get("/openapi/v3").await.body;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().expect("a URL").to_owned();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
    assert!(server.get(&url).await.body["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"].is_object());
    let whole = server.get("/openapi/v2").await;
    let etag = whole.headers["etag"].to_str().expect("a text").to_owned();
    assert_eq!(server.send("GET", "/openapi/v2", &[("if-none-match", &etag)], "").await.status, 304);
}

#[tokio::test(start_paused = true)]
async fn somebody_may_act_as_somebody_else() {
    let server = Server::start().await;
    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let headers = [
        ("impersonate-user", "jane"),
        ("impersonate-group", "testers"),
        ("impersonate-uid", "u-1"),
        ("impersonate-extra-scopes", "some"),
        ("content-type", "application/json"),
    ];
    let answer = server.send("POST", who, &headers, "{}").await;
    let info = json!({"username": "jane", "uid": "u-1", "groups": ["testers", "system:authenticated"], "extra": {"scopes": ["some"]}});
    assert_eq!(answer.body["status"]["userInfo"], info, "{}", answer.text);
    assert_eq!(server.send("GET", MAPS, &headers[..2], "").await.status, 403);
    assert_eq!(server.send("GET", MAPS, &headers[1..2], "").await.status, 400, "a group without a user");
    let review = json!({"spec": {"user": "jane", "groups": ["testers"], "resourceAttributes": {"verb": "list", "resource": "configmaps", "namespace": "default"}}});
    let review = server.ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", &review).await;
    assert_eq!(review.body["status"]["allowed"], json!(false), "as the request itself was answered");
}

#[tokio::test(start_paused = true)]
async fn a_new_cluster_has_what_clients_wait_for() {
    let server = Server::start().await;
    for namespace in ["kube-system", "kube-public", "kube-node-lease"] {
        assert_eq!(server.get(&format!("/api/v1/namespaces/{namespace}")).await.status, 200, "{namespace}");
    }
    let service = server.get("/api/v1/namespaces/default/services/kubernetes").await.body;
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slices = server.get(&format!("{slices}?labelSelector=kubernetes.io/service-name%3Dkubernetes")).await.body;
    assert_eq!(slices["items"][0]["endpoints"][0]["addresses"], json!(["192.0.2.1"]));
    let version = server.get("/version").await.body;
    for part in ["major", "minor"] {
        assert!(version[part].as_str().is_some_and(|text| text.chars().all(|c| c.is_ascii_digit())), "{version}");
    }
    for endpoint in ["livez", "readyz", "healthz"] {
        let verbose = server.get(&format!("/{endpoint}?verbose")).await.text;
        assert!(verbose.starts_with("[+]ping ok\n[+]log ok\n[+]etcd ok\n"), "{verbose}");
        assert!(verbose.ends_with(&format!("{endpoint} check passed\n")), "{verbose}");
    }
    assert_eq!(server.get("/livez/poststarthook/rbac/bootstrap-roles").await.text, "ok");
}

#[tokio::test(start_paused = true)]
async fn some_kinds_are_replaced_without_a_version() {
    let server = crate::crds::with_widgets().await;
    server.ask("POST", MAPS, &json!({"metadata": {"name": "a"}})).await;
    let map = format!("{MAPS}/a");
    for version in [Value::Null, json!("0")] {
        let body = json!({"metadata": {"name": "a", "resourceVersion": version}, "data": {"k": "v"}});
        assert_eq!(server.ask("PUT", &map, &body).await.status, 200, "{version}");
    }
    let widgets = "/apis/things.example.org/v1/namespaces/default/widgets";
    let widget = json!({"apiVersion": "things.example.org/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}});
    assert_eq!(server.ask("POST", widgets, &widget).await.status, 201);
    let refused = server.ask("PUT", &format!("{widgets}/w"), &widget).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(
        refused.text.contains("metadata.resourceVersion: Invalid value: 0: must be specified for an update"),
        "{}",
        refused.text
    );
}

#[tokio::test(start_paused = true)]
async fn delete_options_must_be_such() {
    let server = Server::start().await;
    let one = format!("{MAPS}/a");
    let table = [
        ("[]", "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type "),
        (
            r#"{"gracePeriodSeconds":"x"}"#,
            "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
        ),
        (r#"{"kind":"Pod","apiVersion":"v1"}"#, "no kind \"Pod\" is registered for version \"v1\" in scheme "),
    ];
    for (body, message) in table {
        let answer = server.send("DELETE", &one, &[("content-type", "application/json")], body).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(answer.error().1.starts_with(message), "{}", answer.text);
    }
}

#[tokio::test(start_paused = true)]
async fn owners_that_stand_twice_are_told_once() {
    let server = Server::start().await;
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"});
    let other = json!({"apiVersion": "v1", "kind": "Pod", "name": "q", "uid": "u"});
    let body = json!({"metadata": {"name": "a", "ownerReferences": [owner, other, owner]}});
    let made = server.ask("POST", MAPS, &body).await;
    assert_eq!(made.body["metadata"]["ownerReferences"].as_array().map(Vec::len), Some(2), "{}", made.text);
    let warning = "299 - \".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: [u]\"";
    assert_eq!(made.warnings(), [warning]);
    let patched = server.patch("merge", &format!("{MAPS}/a"), &body).await;
    assert_eq!(patched.warnings(), [warning.replace("entries;", "entries after mutating admission happens;")]);
}

#[tokio::test(start_paused = true)]
async fn versions_out_of_range_are_said_to_be() {
    let server = Server::start().await;
    let answer = server.get(&format!("{MAPS}?resourceVersion=99999999999999999999")).await;
    let why = "invalid resource version: resourceVersion: Invalid value: \"99999999999999999999\": strconv.ParseUint: parsing \"99999999999999999999\": value out of range";
    assert_eq!(answer.error(), (400, why));
}
