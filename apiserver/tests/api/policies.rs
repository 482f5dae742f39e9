//! Admission policies: what clients are told when a policy refuses or warns, where parameters come from, and what mutating
//! policies make of objects.

use serde_json::{Value, json};

use crate::server::{Answer, Server};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Rules that mean config maps.
fn config_maps() -> Value {
    json!({"resourceRules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE", "DELETE"], "resources": ["configmaps"]}]})
}

async fn make(server: &Server, plural: &str, name: &str, spec: Value) {
    let answer =
        server.ask("POST", &format!("{GROUP}/{plural}"), &json!({"metadata": {"name": name}, "spec": spec})).await;
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.text);
    settle(server).await;
}

/// Policies are read from the cache; a consistent read waits until it has what was written.
async fn settle(server: &Server) {
    for plural in
        ["validatingadmissionpolicies", "validatingadmissionpolicybindings", "mutatingadmissionpolicybindings"]
    {
        server.get(&format!("{GROUP}/{plural}")).await;
    }
}

/// A validating policy on config maps, and its binding.
async fn policy(server: &Server, name: &str, spec: Value, binding: Value) {
    let mut all = json!({"matchConstraints": config_maps()});
    all.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    make(server, "validatingadmissionpolicies", name, all).await;
    let mut all = json!({"policyName": name, "validationActions": ["Deny"]});
    all.as_object_mut().expect("an object").extend(binding.as_object().expect("an object").clone());
    make(server, "validatingadmissionpolicybindings", &format!("{name}-b"), all).await;
}

async fn write(server: &Server, name: &str, data: Value) -> Answer {
    server.ask("POST", MAPS, &json!({"metadata": {"name": name}, "data": data})).await
}

#[tokio::test(start_paused = true)]
async fn a_broken_rule_refuses_in_upstreams_words() {
    let server = Server::start().await;
    let rule = json!({"validations": [{"expression": "!has(object.data) || !('bad' in object.data)", "message": "no bad data"}]});
    policy(&server, "p", rule, json!({})).await;
    let refused = write(&server, "x", json!({"bad": "1"})).await;
    let why = "ValidatingAdmissionPolicy 'p' with binding 'p-b' denied request: no bad data";
    assert_eq!(
        refused.body,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Invalid", "code": 422,
            "message": format!("configmaps \"x\" is forbidden: {why}"),
            "details": {"name": "x", "kind": "configmaps", "causes": [{"message": why}]}})
    );
    assert_eq!(write(&server, "ok", json!({"good": "1"})).await.status.as_u16(), 201);
    let update = server.patch("merge", &format!("{MAPS}/ok"), &json!({"data": {"bad": "1"}})).await;
    assert_eq!(update.error(), (422, format!("configmaps \"ok\" is forbidden: {why}").as_str()));
    let warns = json!({"spec": {"validationActions": ["Warn"]}});
    let binding = format!("{GROUP}/validatingadmissionpolicybindings/p-b");
    assert_eq!(server.patch("merge", &binding, &warns).await.body["metadata"]["generation"], json!(2));
    settle(&server).await;
    let warned = write(&server, "y", json!({"bad": "1"})).await;
    assert_eq!(
        (warned.status.as_u16(), warned.warnings()),
        (201, vec!["299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p-b': no bad data\""])
    );
    server.ask("DELETE", &binding, &Value::Null).await;
    settle(&server).await;
    assert!(write(&server, "z", json!({"bad": "1"})).await.warnings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn messages_reasons_and_failures() {
    let server = Server::start().await;
    let table = [
        (
            json!({"validations": [{"expression": "object.data.n == '1'", "reason": "Forbidden",
                "messageExpression": "'n is ' + object.data.n + ' of ' + request.operation"}]}),
            Some((403, "n is 2 of CREATE")),
        ),
        (
            json!({"validations": [{"expression": " object.data.n == '1' "}]}),
            Some((422, "failed expression: object.data.n == '1'")),
        ),
        (
            json!({"validations": [{"expression": "object.data.missing == '1'", "message": "m"}]}),
            Some((422, "expression 'object.data.missing == '1'' resulted in error: no such key: missing")),
        ),
        (json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.data.missing == '1'"}]}), None),
        (
            json!({"variables": [{"name": "n", "expression": "int(object.data.n)"}, {"name": "double", "expression": "variables.n * 2"}],
                "validations": [{"expression": "variables.double < 4", "messageExpression": "'too much: %d'.format([variables.double])"}]}),
            Some((422, "too much: 4")),
        ),
        (
            json!({"matchConditions": [{"name": "never", "expression": "request.name == 'other'"}], "validations": [{"expression": "false"}]}),
            None,
        ),
        (
            json!({"matchConditions": [{"name": "broken", "expression": "object.nothing == 1"}], "validations": [{"expression": "true"}]}),
            Some((422, "expression 'object.nothing == 1' resulted in error: no such key: nothing")),
        ),
        (
            json!({"validations": [{"expression": "authorizer.group('').resource('secrets').namespace('default').check('get').allowed()"}]}),
            None,
        ),
        (
            json!({"validations": [{"expression": "namespaceObject.metadata.name == 'default' && oldObject == null && request.userInfo.username == 'admin'"}]}),
            None,
        ),
        (json!({"validations": [{"expression": "has(object.metadata.uid) && object.kind == 'ConfigMap'"}]}), None),
        (
            json!({"paramKind": {"apiVersion": "x.io/v1", "kind": "Nothing"}, "validations": [{"expression": "true"}]}),
            Some((422, "")),
        ),
    ];
    for (i, (spec, expected)) in table.into_iter().enumerate() {
        let name = format!("p{i}");
        policy(&server, &name, spec.clone(), json!({})).await;
        let answer = write(&server, &format!("x{i}"), json!({"n": "2"})).await;
        let message = match expected {
            None => String::new(),
            Some((_, "")) => format!(
                "configmaps \"x{i}\" is forbidden: ValidatingAdmissionPolicy '{name}' denied request: failed to configure policy: failed \
                 to find resource referenced by paramKind: 'x.io/v1, Kind=Nothing'"
            ),
            Some((_, why)) => {
                format!(
                    "configmaps \"x{i}\" is forbidden: ValidatingAdmissionPolicy '{name}' with binding '{name}-b' denied request: {why}"
                )
            }
        };
        let code = expected.map_or(201, |(code, _)| code);
        assert_eq!(answer.error(), (code, message.as_str()), "{spec}");
        server.ask("DELETE", &format!("{GROUP}/validatingadmissionpolicies/{name}"), &Value::Null).await;
        settle(&server).await;
    }
}

#[tokio::test(start_paused = true)]
async fn parameters_and_who_is_meant() {
    let server = Server::start().await;
    let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "Secret"},
        "validations": [{"expression": "int(object.data.n) <= int(params.metadata.labels.max)", "messageExpression": "'at most ' + params.metadata.labels.max"}]});
    let binding = json!({"paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"},
        "matchResources": {"objectSelector": {"matchLabels": {"checked": "yes"}}}});
    policy(&server, "p", spec, binding).await;
    let checked = |name: &str, n: &str| {
        let body = json!({"metadata": {"name": name, "labels": {"checked": "yes"}}, "data": {"n": n}});
        let server = &server;
        async move { server.ask("POST", MAPS, &body).await }
    };
    assert_eq!(write(&server, "free", json!({"n": "9"})).await.status.as_u16(), 201, "its labels keep it out");
    let why = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    let refused = checked("a", "9").await;
    assert!(refused.error().1.ends_with(why), "{}", refused.text);
    let secret = json!({"metadata": {"name": "limits", "labels": {"max": "5"}}});
    server.ask("POST", "/api/v1/namespaces/default/secrets", &secret).await;
    let refused = checked("a", "9").await;
    assert!(refused.error().1.ends_with("denied request: at most 5"), "{}", refused.text);
    assert_eq!(checked("a", "5").await.status.as_u16(), 201);
    let allows = json!({"spec": {"paramRef": {"name": "nothing", "parameterNotFoundAction": "Allow"}}});
    server.patch("merge", &format!("{GROUP}/validatingadmissionpolicybindings/p-b"), &allows).await;
    settle(&server).await;
    assert_eq!(checked("b", "9").await.status.as_u16(), 201);
    let excluded = json!({"spec": {"validations": [{"expression": "false"}], "paramKind": null, "matchConstraints": {"excludeResourceRules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"], "resourceNames": ["special"]}]}}});
    server.patch("merge", &format!("{GROUP}/validatingadmissionpolicies/p"), &excluded).await;
    settle(&server).await;
    assert_eq!(checked("special", "9").await.status.as_u16(), 201);
    assert_eq!(checked("usual", "9").await.status.as_u16(), 422);
    let delete = server.ask("DELETE", &format!("{MAPS}/b"), &Value::Null).await;
    assert_eq!(delete.status.as_u16(), 422, "deletes too: the labels are those of the old object");
    let dry = server.ask("DELETE", &format!("{MAPS}/free"), &Value::Null).await;
    assert_eq!(dry.status.as_u16(), 200);
}

#[tokio::test(start_paused = true)]
async fn policies_are_checked_when_they_are_written() {
    let server = Server::start().await;
    let spec = json!({"matchConstraints": config_maps(), "validations": [{"expression": "object.+"}]});
    let path = format!("{GROUP}/validatingadmissionpolicies");
    let refused = server.ask("POST", &path, &json!({"metadata": {"name": "x"}, "spec": spec})).await;
    let why = "ValidatingAdmissionPolicy.admissionregistration.k8s.io \"x\" is invalid: spec.validations[0].expression: Invalid value: \
               \"object.+\": compilation failed: ERROR: <input>:1:8: Syntax error: no viable alternative at input '.+'\n | object.+\n | \
               .......^\nERROR: <input>:1:9: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', \
               'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | object.+\n | ........^";
    assert_eq!(refused.error(), (422, why));
    policy(&server, "p", json!({"validations": [{"expression": "true"}]}), json!({})).await;
    let stored = server.get(&format!("{path}/p")).await.body["spec"].clone();
    assert_eq!(
        (
            &stored["failurePolicy"],
            &stored["matchConstraints"]["matchPolicy"],
            &stored["matchConstraints"]["resourceRules"][0]["scope"]
        ),
        (&json!("Fail"), &json!("Equivalent"), &json!("*"))
    );
    let binding = json!({"metadata": {"name": "p-b"}, "spec": {"policyName": "p", "validationActions": ["Warn"]}});
    let path_of_binding = format!("{GROUP}/validatingadmissionpolicybindings/p-b");
    let owned = server.get(&path_of_binding).await.body["metadata"]["managedFields"][0]["fieldsV1"].clone();
    assert_eq!(
        owned,
        json!({"f:spec": {"f:policyName": {}, "f:validationActions": {".": {}, "v:\"Deny\"": {}}}}),
        "the list itself is owned too"
    );
    let put = server.ask("PUT", &path_of_binding, &binding).await;
    assert_eq!(put.body["details"]["causes"][0]["message"], json!("Invalid value: 0: must be specified for an update"));
    let table = server.send("GET", &path, &[("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")], "").await;
    assert_eq!(
        table.body["rows"][0]["cells"].as_array().map(|cells| &cells[..3]),
        Some([json!("p"), json!(1), json!("<unset>")].as_slice())
    );
    let status = json!({"status": {"observedGeneration": 1, "typeChecking": {}}, "spec": {"failurePolicy": "Ignore"}});
    let status = server.patch("merge", &format!("{path}/p/status"), &status).await;
    assert_eq!(
        (&status.body["status"], &status.body["spec"]["failurePolicy"]),
        (&json!({"observedGeneration": 1, "typeChecking": {}}), &json!("Fail"))
    );
}

/// A mutating policy on config maps with one mutation, and its binding.
async fn mutation(server: &Server, name: &str, again: &str, mutation: Value) {
    let mut rules = config_maps();
    rules["resourceRules"][0]["operations"] = json!(["CREATE", "UPDATE"]);
    let spec = json!({"matchConstraints": rules, "reinvocationPolicy": again, "mutations": [mutation]});
    make(server, "mutatingadmissionpolicies", name, spec).await;
    make(server, "mutatingadmissionpolicybindings", &format!("{name}-b"), json!({"policyName": name})).await;
}

fn configuration(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

#[tokio::test(start_paused = true)]
async fn mutations_change_what_is_written() {
    let server = Server::start().await;
    let label =
        "Object{metadata: Object.metadata{labels: Object.metadata.labels{made: 'by-' + request.userInfo.username}}}";
    mutation(&server, "a", "Never", configuration(label)).await;
    let add = "[JSONPatch{op: 'test', path: '/data/n', value: '1'}, JSONPatch{op: 'add', path: '/metadata/annotations', value: {'x/y': ''}}, JSONPatch{op: 'replace', path: '/metadata/annotations/' + jsonpatch.escapeKey('x/y'), value: 'z'}]";
    mutation(&server, "b", "Never", patch(add)).await;
    let made = write(&server, "x", json!({"n": "1"})).await;
    assert_eq!(made.body["metadata"]["labels"], json!({"made": "by-admin"}), "{}", made.text);
    assert_eq!(made.body["metadata"]["annotations"], json!({"x/y": "z"}));
    let other = write(&server, "y", json!({"n": "2"})).await;
    assert_eq!(other.body["metadata"].get("annotations"), None, "the test failed, so nothing was patched");
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_asked_again_if_it_wants_to() {
    for (again, expected) in
        [("Never", json!({"n": "1", "later": "1"})), ("IfNeeded", json!({"n": "1", "later": "1", "seen": "1"}))]
    {
        let server = Server::start().await;
        let seen = "has(object.data.later) ? Object{data: Object.data{seen: '1'}} : Object{}";
        mutation(&server, "a", again, configuration(seen)).await;
        mutation(&server, "b", "Never", configuration("Object{data: Object.data{later: '1'}}")).await;
        let made = write(&server, "x", json!({"n": "1"})).await;
        assert_eq!(made.body["data"], expected, "{again}: {}", made.text);
    }
}

#[tokio::test(start_paused = true)]
async fn mutations_that_fail_refuse() {
    let table = [
        (
            configuration("Object{data: Object.data{n: object.data.missing}}"),
            "expression 'Object{data: Object.data{n: object.data.missing}}' resulted in error: no such key: missing",
        ),
        (
            configuration("Object{data: Object.other{n: '1'}}"),
            "type mismatch: unexpected type name \"Object.other\", expected \"Object.data\", which matches field name path from root \
             Object type",
        ),
        (
            configuration("Object{nothing: '1'}"),
            "error applying patch: failed to convert patch object to typed object: .nothing: field not declared in schema",
        ),
        (
            patch("[JSONPatch{op: 'add', path: '/nothing', value: '1'}]"),
            "Internal error occurred: strict decoding error: unknown field \"nothing\"",
        ),
        (
            patch("[JSONPatch{op: 'remove', path: '/data/none'}]"),
            "JSONPath: error in remove for path: '/data/none': Unable to remove nonexistent key: none: missing value",
        ),
    ];
    for (one, why) in table {
        let server = Server::start().await;
        mutation(&server, "a", "Never", one).await;
        let refused = write(&server, "x", json!({"n": "1"})).await;
        let message = format!("policy 'a' with binding 'a-b' denied request: {why}");
        assert_eq!(refused.error(), (403, message.as_str()));
        assert_eq!(refused.body["details"]["causes"], json!([{"message": message}]));
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_says_where_expressions_do_not_fit() {
    let server = Server::start().await;
    let rules = json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": ["deployments", "deployments/scale"]}]});
    let validations = json!([
        {"expression": "object.replicas > 1"},
        {"expression": "object.spec.template.spec.containers.all(c, c.image.size() > variables.least)",
         "messageExpression": "'replicas: ' + object.spec.replicas"},
        {"expression": "object.metadata.labels['a'] == 'b' && has(object.spec.paused)"},
    ]);
    let variables = json!([{"name": "least", "expression": "3"}]);
    let spec = json!({"matchConstraints": rules, "validations": validations, "variables": variables});
    make(&server, "validatingadmissionpolicies", "typed", spec).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let policy = server.get(&format!("{GROUP}/validatingadmissionpolicies/typed")).await.body;
    assert_eq!(
        policy["status"],
        json!({"observedGeneration": 1, "typeChecking": {"expressionWarnings": [
            {"fieldRef": "spec.validations[0].expression", "warning": "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined \
                field 'replicas'\n | object.replicas > 1\n | ......^\n"},
            {"fieldRef": "spec.validations[1].messageExpression", "warning": "apps/v1, Kind=Deployment: ERROR: <input>:1:14: found \
                no matching overload for '_+_' applied to '(string, int)'\n | 'replicas: ' + object.spec.replicas\n | \
                .............^\n"},
        ]}})
    );
    let owner = &policy["metadata"]["managedFields"][0];
    assert_eq!(
        (&owner["manager"], &owner["operation"], &owner["subresource"]),
        (&json!("validatingadmissionpolicy-status"), &json!("Apply"), &json!("status"))
    );
}

#[tokio::test(start_paused = true)]
async fn policies_see_scales() {
    let server = Server::start().await;
    let rules = json!({"resourceRules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["replicationcontrollers/scale"]}]});
    let few = json!([{"expression": "object.kind == 'Scale' && object.spec.replicas <= 5 && !has(oldObject.spec.replicas)",
        "messageExpression": "'not ' + string(object.spec.replicas)"}]);
    let spec = json!({"matchConstraints": rules, "validations": few});
    policy(&server, "few", spec, json!({})).await;
    let up = "Object{spec: Object.spec{replicas: object.spec.replicas + 1}}";
    let more = json!({"matchConstraints": rules, "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": up}}]});
    make(&server, "mutatingadmissionpolicies", "more", more).await;
    make(&server, "mutatingadmissionpolicybindings", "more-b", json!({"policyName": "more"})).await;
    let controllers = "/api/v1/namespaces/default/replicationcontrollers";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let rc = json!({"metadata": {"name": "r", "labels": {"a": "b"}}, "spec": {"replicas": 0, "selector": {"a": "b"}, "template": template}});
    assert_eq!(server.ask("POST", controllers, &rc).await.status, 201);
    let scale = |replicas: i32| json!({"spec": {"replicas": replicas}});
    let merge = "merge";
    let refused = server.patch(merge, &format!("{controllers}/r/scale"), &scale(5)).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("denied request: not 6"), "{}", refused.text);
    let scaled = server.patch(merge, &format!("{controllers}/r/scale"), &scale(2)).await;
    assert_eq!((scaled.status.as_u16(), &scaled.body["spec"]["replicas"]), (200, &json!(3)), "{}", scaled.text);
    assert_eq!(server.get(&format!("{controllers}/r")).await.body["spec"]["replicas"], 3);
}
