//! Pods from birth to update, and what `kubectl get` makes of them.

use super::*;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

fn pod(value: Value) -> Object {
    serde_json::from_value(value).expect("a pod")
}

fn created(spec: Value) -> Object {
    let mut object = pod(json!({"metadata": {"name": "a"}, "spec": spec, "status": {"phase": "Running"}}));
    Pod::set_defaults(&mut object);
    Pod::prepare_for_create(&mut object);
    object
}

fn container() -> Value {
    json!({"name": "c", "image": "img:1"})
}

#[test]
fn is_born_pending() {
    let object = created(json!({"containers": [container()]}));
    assert_eq!(
        serde_json::to_value(&object.status).expect("json"),
        json!({"phase": "Pending", "qosClass": "BestEffort"})
    );
    let gated = created(json!({"containers": [container()], "schedulingGates": [{"name": "g"}]}));
    assert_eq!(Pod::validate(&gated).to_string(), "[]");
    assert_eq!(cells(&gated)[2], "SchedulingGated");
}

#[test]
fn updates() {
    let old = created(
        json!({"containers": [container()], "activeDeadlineSeconds": 10, "tolerations": [{"key": "a", "operator": "Exists"}]}),
    );
    let changed = |change: fn(&mut k8s_openapi::api::core::v1::PodSpec)| {
        let mut new = old.clone();
        change(new.spec.as_mut().expect("a spec"));
        Pod::validate_update(&new, &old).to_string()
    };
    assert_eq!(changed(|spec| spec.containers[0].image = Some("img:2".to_owned())), "[]");
    assert_eq!(
        changed(|spec| spec.active_deadline_seconds = Some(20)),
        "spec.activeDeadlineSeconds: Invalid value: 20: must be less than or equal to previous value"
    );
    assert_eq!(
        changed(|spec| spec.tolerations = None),
        "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
    );
    assert!(
        changed(|spec| spec.restart_policy = Some("Never".to_owned()))
            .starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,")
    );
    assert_eq!(
        changed(|spec| spec
            .containers
            .push(k8s_openapi::api::core::v1::Container { name: "d".to_owned(), ..spec.containers[0].clone() })),
        "spec.containers: Forbidden: pod updates may not add or remove containers"
    );
}

fn cells(object: &Object) -> Vec<Value> {
    let now: Timestamp = "2020-01-01T00:05:00Z".parse().expect("a time");
    (Pod::columns().cells)(object, now)
}

#[test]
fn status_words() {
    let status = |state: Value, ready: bool| json!({"name": "c", "image": "i", "imageID": "", "ready": ready, "restartCount": 2, "state": state});
    let running = json!({"running": {}});
    let table = [
        (json!({"phase": "Pending"}), "0/1", "Pending", "0"),
        (json!({"phase": "Running", "containerStatuses": [status(running.clone(), true)]}), "1/1", "Running", "2"),
        (
            json!({"phase": "Running", "containerStatuses": [status(json!({"waiting": {"reason": "CrashLoopBackOff"}}), false)]}),
            "0/1",
            "CrashLoopBackOff",
            "2",
        ),
        (
            json!({"phase": "Succeeded", "containerStatuses": [status(json!({"terminated": {"exitCode": 0, "reason": "Completed"}}), false)]}),
            "0/1",
            "Completed",
            "2",
        ),
        (
            json!({"phase": "Failed", "containerStatuses": [status(json!({"terminated": {"exitCode": 3}}), false)]}),
            "0/1",
            "ExitCode:3",
            "2",
        ),
        (
            json!({"phase": "Failed", "containerStatuses": [status(json!({"terminated": {"exitCode": 137, "signal": 9}}), false)]}),
            "0/1",
            "Signal:9",
            "2",
        ),
        (json!({"phase": "Failed", "reason": "Evicted"}), "0/1", "Evicted", "0"),
        (
            json!({"phase": "Pending", "initContainerStatuses": [status(running.clone(), false)]}),
            "0/1",
            "Init:0/1",
            "2",
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [status(json!({"terminated": {"exitCode": 1, "reason": "Error"}}), false)]}),
            "0/1",
            "Init:Error",
            "2",
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [status(json!({"terminated": {"exitCode": 0}}), true)],
            "containerStatuses": [status(json!({"waiting": {"reason": "PodInitializing"}}), false)]}),
            "0/1",
            "PodInitializing",
            "2",
        ),
    ];
    for (status, ready, word, restarts) in table {
        let object = pod(json!({"metadata": {"name": "a", "creationTimestamp": "2020-01-01T00:00:00Z"},
            "spec": {"containers": [container()], "initContainers": [{"name": "i"}]}, "status": status}));
        let cells = cells(&object);
        assert_eq!(
            (&cells[1], &cells[2], &cells[3], &cells[4]),
            (&json!(ready), &json!(word), &json!(restarts), &json!("5m"))
        );
    }
}

#[test]
fn restarts_and_deletion() {
    let status = json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": true,
        "restartCount": 3, "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2020-01-01T00:03:00Z"}}}]});
    let mut object = pod(
        json!({"metadata": {"name": "a"}, "spec": {"containers": [container()], "nodeName": "n"}, "status": status}),
    );
    let expected = ["a", "1/1", "Running", "3 (2m ago)", "<unknown>", "10.0.0.1", "n", "<none>", "<none>"];
    assert_eq!(cells(&object), expected);
    object.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
    assert_eq!(cells(&object)[2], "Terminating");
    object.status.as_mut().expect("a status").reason = Some("NodeLost".to_owned());
    assert_eq!(cells(&object)[2], "Unknown");
}

#[test]
fn ephemeral_containers_are_added_and_stay() {
    let old = created(json!({"containers": [container()]}));
    let with = |name: &str, image: &str| {
        let mut new = pod(
            json!({"metadata": {"name": "a"}, "spec": {"containers": [], "ephemeralContainers": [{"name": name, "image": image}]}}),
        );
        Pod::set_defaults(&mut new);
        Pod::prepare_for_subresource_update(Subresource::EphemeralContainers, &mut new, &old);
        new
    };
    let check = |new: &Object, old: &Object| {
        Pod::validate_subresource_update(Subresource::EphemeralContainers, new, old).to_string()
    };
    let debugged = with("dbg", "d:1");
    assert_eq!(check(&debugged, &old), "[]");
    assert_eq!(check(&with("c", "d:1"), &old), "spec.ephemeralContainers[0].name: Duplicate value: \"c\"");
    let changed = check(&with("dbg", "d:2"), &debugged);
    let expected = "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"dbg\" may not be changed\n@@ -1,6 +1,6 @@\n {\n  \"Name\": \"dbg\",\n- \"Image\": \"d:1\",\n+ \"Image\": \"d:2\",\n";
    assert!(changed.starts_with(expected), "{changed}");
}
