//! Kinds and subresources that few clients use.

use std::time::Duration;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::server::{Answer, Server};

const PODS: &str = "/api/v1/namespaces/default/pods";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const TABLE: (&str, &str) = ("accept", "application/json;as=Table;g=meta.k8s.io;v=v1");

async fn created(server: &Server, path: &str, body: Value) -> Answer {
    let answer = server.ask("POST", path, &body).await;
    assert_eq!(answer.status, 201, "{path} {}", answer.text);
    answer
}

fn pod(name: &str) -> Value {
    let resources = json!({"requests": {"cpu": "1", "memory": "1Gi"}});
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i:1", "resources": resources}]}})
}

#[tokio::test(start_paused = true)]
async fn the_oldest_binding_binds_too() {
    let server = Server::start().await;
    created(&server, PODS, pod("p")).await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let bound = created(&server, "/api/v1/namespaces/default/bindings", binding).await;
    assert_eq!((&bound.body["kind"], &bound.body["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(server.get(&format!("{PODS}/p")).await.body["spec"]["nodeName"], "n");
    let absent = json!({"metadata": {"name": "absent"}, "target": {"name": "n"}});
    let absent = server.ask("POST", "/api/v1/namespaces/default/bindings", &absent).await;
    assert_eq!(absent.status, 404, "{}", absent.text);
}

#[tokio::test(start_paused = true)]
async fn pods_are_resized_apart() {
    let server = Server::start().await;
    created(&server, PODS, pod("p")).await;
    let path = format!("{PODS}/p");
    let asking = |requests: Value| json!({"spec": {"containers": [{"name": "c", "image": "other", "resources": {"requests": requests}}]}});
    let resized = server.patch("strategic-merge", &format!("{path}/resize"), &asking(json!({"cpu": "2"}))).await;
    let container = &resized.body["spec"]["containers"][0];
    assert_eq!(
        (resized.status.as_u16(), &container["image"], &container["resources"]["requests"]),
        (200, &json!("i:1"), &json!({"cpu": "2", "memory": "1Gi"}))
    );
    let removed = server.patch("strategic-merge", &format!("{path}/resize"), &asking(json!({"memory": null}))).await;
    let message =
        "Pod \"p\" is invalid: spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed";
    assert_eq!(removed.error(), (422, message));
    let elsewhere = server.patch("strategic-merge", &path, &asking(json!({"cpu": "3"}))).await;
    assert_eq!(elsewhere.status, 422);
}

#[tokio::test(start_paused = true)]
async fn changes_of_pods_are_shown() {
    let server = Server::start().await;
    created(&server, PODS, pod("p")).await;
    let changed =
        server.patch("merge", &format!("{PODS}/p"), &json!({"spec": {"hostname": "h", "dnsPolicy": "Default"}})).await;
    let (code, message) = changed.error();
    assert_eq!(code, 422);
    for part in [
        "Forbidden: pod updates may not change fields other than",
        "\n- \"DNSPolicy\": \"ClusterFirst\",",
        "\n+ \"DNSPolicy\": \"Default\",",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn certificates_are_approved_apart() {
    let server = Server::start().await;
    let key = rcgen::KeyPair::generate().expect("a key");
    let text = rcgen::CertificateParams::new(Vec::new())
        .and_then(|params| params.serialize_request(&key))
        .and_then(|request| request.pem())
        .expect("a request");
    let body = |name: &str, bytes: &[u8]| {
        let request = ByteString(bytes.to_vec());
        let spec =
            json!({"request": request, "signerName": "example.org/a", "usages": ["client auth"], "username": "else"});
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let request = created(&server, REQUESTS, body("a", text.as_bytes())).await;
    assert_eq!(request.body["spec"]["username"], "admin");
    assert_eq!(request.body["spec"]["groups"], json!(["system:masters", "system:authenticated"]));
    let (code, message) = (422, "must be CERTIFICATE REQUEST");
    let refused = server.ask("POST", REQUESTS, &body("b", b"hello")).await;
    assert!(refused.error().0 == code && refused.error().1.ends_with(message), "{}", refused.text);

    let condition = |kind: &str| json!({"status": {"conditions": [{"type": kind, "status": "True", "reason": "r"}]}});
    let elsewhere = server.patch("merge", &format!("{REQUESTS}/a/status"), &condition("Approved")).await;
    let message = "CertificateSigningRequest.certificates.k8s.io \"a\" is invalid: status.conditions: Forbidden: updates may not add a condition of type \"Approved\"";
    assert_eq!(elsewhere.error(), (422, message));
    let approved = server.patch("merge", &format!("{REQUESTS}/a/approval"), &condition("Approved")).await;
    let condition_now = &approved.body["status"]["conditions"][0];
    assert_eq!((approved.status.as_u16(), &condition_now["type"]), (200, &json!("Approved")));
    assert!(condition_now["lastUpdateTime"].is_string() && condition_now["lastTransitionTime"].is_string());
    let denied = server.patch("merge", &format!("{REQUESTS}/a/approval"), &condition("Denied")).await;
    assert_eq!(denied.status, 422);
}

#[tokio::test(start_paused = true)]
async fn addresses_of_services_are_objects() {
    const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
    let server = Server::start().await;
    let services = "/api/v1/namespaces/default/services";
    let service =
        created(&server, services, json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})).await;
    let address = service.body["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    let record = server.get(&format!("{ADDRESSES}/{address}")).await.body;
    let parent = json!({"resource": "services", "namespace": "default", "name": "s"});
    assert_eq!(record["spec"]["parentRef"], parent);
    let labels = json!({"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
    assert_eq!(record["metadata"]["labels"], labels);
    assert_eq!(server.ask("DELETE", &format!("{ADDRESSES}/{address}"), &Value::Null).await.status, 200);
    let restored = server.get(&format!("{ADDRESSES}/{address}")).await.body;
    assert!(restored["spec"] == record["spec"] && restored["metadata"]["uid"] != record["metadata"]["uid"]);
    server.ask("DELETE", &format!("{services}/s"), &Value::Null).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.get(&format!("{ADDRESSES}/{address}")).await.status, 404);
    let odd = json!({"metadata": {"name": "010.0.0.1"}, "spec": {"parentRef": {"resource": "services", "name": "s"}}});
    assert_eq!(server.ask("POST", ADDRESSES, &odd).await.status, 422);
}

#[tokio::test(start_paused = true)]
async fn ranges_that_are_ready_give_addresses() {
    const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";
    const SERVICES: &str = "/api/v1/namespaces/default/services";
    let server = Server::start().await;
    let range = server.get(&format!("{RANGES}/kubernetes")).await.body;
    let condition = &range["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("Ready"), &json!("True")));
    let three = json!({"metadata": {"name": "x"}, "spec": {"cidrs": ["10.0.0.0/24", "10.1.0.0/24", "fd00::/64"]}});
    assert_eq!(server.ask("POST", RANGES, &three).await.status, 422);
    let service =
        |name: &str| json!({"metadata": {"name": name}, "spec": {"clusterIP": "10.5.0.9", "ports": [{"port": 80}]}});
    let refused = |why: &str| {
        format!(
            "Service \"a\" is invalid: spec.clusterIPs: Invalid value: [\"10.5.0.9\"]: failed to allocate IP 10.5.0.9: {why}"
        )
    };
    let elsewhere = refused("the provided network does not match the current range");
    assert_eq!(server.ask("POST", SERVICES, &service("a")).await.body["message"], elsewhere.as_str());
    let dry = server.ask("POST", &format!("{SERVICES}?dryRun=All"), &service("a")).await.body;
    let not_in_range = dry["message"].as_str().unwrap_or_default();
    assert!(not_in_range.contains("the provided IP (10.5.0.9) is not in the valid range."), "{not_in_range}");
    created(&server, RANGES, json!({"metadata": {"name": "x"}, "spec": {"cidrs": ["10.5.0.0/28"]}})).await;
    created(&server, SERVICES, service("a")).await;
    assert_eq!(server.get("/apis/networking.k8s.io/v1/ipaddresses/10.5.0.9").await.status, 200);
    let again = server.ask("POST", &format!("{SERVICES}?dryRun=All"), &service("b")).await;
    assert_eq!(again.status, 201, "a dry run does not ask who has an address: {}", again.text);
    let not_ready = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "x", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    assert_eq!(server.patch("merge", &format!("{RANGES}/x/status"), &not_ready).await.status, 200);
    server.ask("DELETE", &format!("{SERVICES}/a"), &Value::Null).await;
    assert_eq!(server.ask("POST", SERVICES, &service("a")).await.body["message"], elsewhere.as_str());
}

#[tokio::test(start_paused = true)]
async fn dry_runs_get_ports_that_do_not_exist() {
    let server = Server::start().await;
    let ports = json!([{"name": "a", "port": 1}, {"name": "b", "port": 2, "nodePort": 80}, {"name": "c", "port": 3}]);
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": ports}});
    let dry = server.ask("POST", "/api/v1/namespaces/default/services?dryRun=All", &service).await;
    let given: Vec<_> =
        dry.body["spec"]["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]).collect();
    assert_eq!(given, [32769, 80, 32770], "{}", dry.text);
    let real = server.ask("POST", "/api/v1/namespaces/default/services", &service).await;
    assert_eq!(real.status, 422, "{}", real.text);
}

#[tokio::test(start_paused = true)]
async fn kinds_of_storage_and_devices_are_kept_and_printed() {
    let server = Server::start().await;
    let device = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "d"}}]}});
    let nodes = json!({"driver": "example.org", "nodeName": "n", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}});
    let table = [
        (
            "storage.k8s.io/v1/volumeattributesclasses",
            json!({"driverName": "example.org", "parameters": {"a": "b"}}),
            "a example.org",
        ),
        ("resource.k8s.io/v1/deviceclasses", json!({"spec": {}}), "a"),
        ("resource.k8s.io/v1/namespaces/default/resourceclaims", json!({"spec": device}), "a pending"),
        ("resource.k8s.io/v1/namespaces/default/resourceclaimtemplates", json!({"spec": {"spec": device}}), "a"),
        ("resource.k8s.io/v1/resourceslices", json!({"spec": nodes}), "a n example.org p"),
    ];
    for (path, mut body, cells) in table {
        body["metadata"] = json!({"name": "a"});
        let path = format!("/apis/{path}");
        created(&server, &path, body).await;
        let row = server.send("GET", &format!("{path}/a"), &[TABLE], "").await.body["rows"][0]["cells"].clone();
        let row: Vec<_> = row.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert_eq!(row[..row.len() - 1].join(" "), cells, "{path}");
        assert!(server.ask("DELETE", &format!("{path}/a"), &Value::Null).await.status == 200, "{path}");
    }
    let claims = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
    let claim = created(&server, claims, json!({"metadata": {"name": "c"}, "spec": device})).await;
    assert_eq!(claim.body["spec"]["devices"]["requests"][0]["exactly"]["count"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_row_says_that_a_pod_has_ended() {
    let server = Server::start().await;
    for (phase, message) in [
        ("Running", None),
        ("Failed", Some("The pod failed.")),
        ("Succeeded", Some("The pod has completed successfully.")),
    ] {
        let path = format!("{PODS}/{}", phase.to_lowercase());
        created(&server, PODS, pod(&phase.to_lowercase())).await;
        let status = server.patch("merge", &format!("{path}/status"), &json!({"status": {"phase": phase}})).await;
        assert_eq!(status.status, 200, "{}", status.text);
        let row = server.send("GET", &path, &[TABLE], "").await.body["rows"][0].clone();
        let expected = message
            .map(|message| json!([{"type": "Completed", "status": "True", "reason": phase, "message": message}]));
        assert_eq!(row.get("conditions"), expected.as_ref(), "{phase}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_condition_without_a_time_is_read_and_then_refused() {
    let server = Server::start().await;
    let path = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    created(&server, path, json!({"metadata": {"name": "b"}, "spec": {"selector": {}, "minAvailable": 1}})).await;
    let condition = json!({"type": "DisruptionAllowed", "status": "True", "reason": "R", "message": ""});
    let refused =
        server.patch("merge", &format!("{path}/b/status"), &json!({"status": {"conditions": [condition]}})).await;
    let message = "PodDisruptionBudget.policy \"b\" is invalid: status.conditions[0].lastTransitionTime: Required value: must be set";
    assert_eq!(refused.error(), (422, message));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_finalizer_of_a_namespace_has_its_place_once_the_namespace_is_there() {
    let server = Server::start().await;
    let wrong = |name: &str| json!({"metadata": {"name": name}, "spec": {"finalizers": ["a.io/b", "nonsense"]}});
    let detail = "Invalid value: \"nonsense\": name is neither a standard finalizer name nor is it fully qualified";
    let refused = server.ask("POST", "/api/v1/namespaces", &wrong("n")).await;
    let message = format!("Namespace \"n\" is invalid: spec.finalizers: {detail}");
    assert_eq!(refused.error(), (422, message.as_str()));
    let refused = server.ask("PUT", "/api/v1/namespaces/default/finalize", &wrong("default")).await;
    let message = format!("Namespace \"default\" is invalid: spec.finalizers[1]: {detail}");
    assert_eq!(refused.error(), (422, message.as_str()));
}

#[tokio::test(start_paused = true)]
async fn autoscalers_have_two_faces() {
    const NEW: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    const OLD: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let server = Server::start().await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let pods = json!({"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "5"}});
    let spec = json!({"maxReplicas": 3, "scaleTargetRef": target, "metrics": [{"type": "Pods", "pods": pods}], "behavior": {}});
    created(&server, NEW, json!({"metadata": {"name": "h"}, "spec": spec})).await;
    let old = server.get(&format!("{OLD}/h")).await.body;
    let annotations = &old["metadata"]["annotations"];
    assert_eq!(
        annotations["autoscaling.alpha.kubernetes.io/metrics"],
        r#"[{"type":"Pods","pods":{"metricName":"m","targetAverageValue":"5"}}]"#
    );
    let behavior = annotations["autoscaling.alpha.kubernetes.io/behavior"].as_str().expect("a text");
    assert!(behavior.starts_with(r#"{"ScaleUp":{"StabilizationWindowSeconds":0,"SelectPolicy":"Max","Policies":["#));
    let percent = json!({"spec": {"targetCPUUtilizationPercentage": 30}});
    let written = server.patch("merge", &format!("{OLD}/h"), &percent).await;
    assert_eq!((written.status.as_u16(), &written.body["spec"]["targetCPUUtilizationPercentage"]), (200, &json!(30)));
    let new = server.get(&format!("{NEW}/h")).await.body;
    assert_eq!(new["spec"]["metrics"][0], json!({"type": "Pods", "pods": pods}));
    assert_eq!(new["spec"]["metrics"][1]["resource"]["target"]["averageUtilization"], 30);
    assert_eq!(new["spec"]["behavior"]["scaleUp"]["policies"].as_array().map(Vec::len), Some(2));
    assert!(new["metadata"]["annotations"].is_null());
}

#[tokio::test(start_paused = true)]
async fn jobs_end_once_and_workloads_count_changes() {
    const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
    const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
    let server = Server::start().await;
    let pod = |policy: &str| json!({"spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]}});
    created(&server, JOBS, json!({"metadata": {"name": "j"}, "spec": {"template": pod("Never")}})).await;
    let ended = json!({"status": {"conditions": [{"type": "Failed", "status": "True"}]}});
    let refused = server.patch("merge", &format!("{JOBS}/j/status"), &ended).await;
    let message = "Job.batch \"j\" is invalid: [status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition, status.startTime: Required value: startTime is required for finished job]";
    assert_eq!(refused.error(), (422, message));
    let wrong = server.patch("merge", &format!("{JOBS}/j"), &json!({"spec": {"backoffLimit": -1}})).await;
    // Upstream looks at the spec twice; the message tells it once.
    assert_eq!(wrong.body["details"]["causes"].as_array().map(Vec::len), Some(2));

    let mut template = pod("Always");
    template["metadata"] = json!({"labels": {"a": "b"}});
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let made = created(&server, DEPLOYMENTS, json!({"metadata": {"name": "d.d"}, "spec": spec})).await;
    assert!(
        made.warnings()[0].contains("a DNS label is recommended: [must not contain dots]"),
        "{:?}",
        made.warnings()
    );
    let noted = json!({"metadata": {"annotations": {"a": "b"}}});
    let noted = server.patch("merge", &format!("{DEPLOYMENTS}/d.d"), &noted).await;
    assert_eq!((&noted.body["metadata"]["generation"], noted.warnings().len()), (&json!(2), 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_registry_of_a_kind_adds() {
    let server = Server::start().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = |holder: &str| json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": holder}});
    assert_eq!(server.ask("PUT", &format!("{leases}/l"), &lease("a")).await.status, 201);
    let message = "leases.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update";
    assert_eq!(server.ask("PUT", &format!("{leases}/l"), &lease("b")).await.error(), (422, message));
    let template =
        json!({"metadata": {"name": "t"}, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}});
    let absent = server.ask("PUT", "/api/v1/namespaces/default/podtemplates/t", &template).await;
    assert_eq!(absent.error(), (404, "podtemplates \"t\" not found"));
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let kept = server.ask("DELETE", &format!("{classes}/system-node-critical"), &Value::Null).await;
    let message = "priorityclasses.scheduling.k8s.io \"system-node-critical\" is forbidden: this is a system priority class and cannot be deleted";
    assert_eq!(kept.error(), (403, message));
    created(&server, classes, json!({"metadata": {"name": "p"}, "value": 1})).await;
    let changed = server.patch("merge", &format!("{classes}/p"), &json!({"description": "d"})).await;
    assert_eq!((&changed.body["description"], &changed.body["metadata"]["generation"]), (&json!("d"), &json!(1)));
    let fields = [
        (
            "/apis/batch/v1/jobs?fieldSelector=status.failed%3D1",
            "field label \"status.failed\" not supported for batchv1.Job",
        ),
        ("/api/v1/nodes?fieldSelector=metadata.namespace%3Dx", "field label not supported: metadata.namespace"),
        (
            "/api/v1/persistentvolumes?fieldSelector=status.phase%3Dx",
            "\"status.phase\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
    ];
    for (path, message) in fields {
        assert_eq!(server.get(path).await.error(), (400, message));
    }
    let review = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews";
    let pods = json!({"namespace": "default", "verb": "get", "resource": "pods"});
    let asked = created(&server, review, json!({"spec": {"user": "u", "resourceAttributes": pods}})).await;
    assert_eq!(asked.body["metadata"]["namespace"], "default");
    let node = created(&server, "/api/v1/nodes", json!({"metadata": {"name": "n", "namespace": "default"}})).await;
    assert_eq!(node.body["metadata"].get("namespace"), None);
    let range = created(&server, "/api/v1/namespaces/default/limitranges", json!({"metadata": {}})).await;
    assert!(range.body["metadata"]["name"].is_string(), "{}", range.text);
}

#[tokio::test(start_paused = true)]
async fn what_is_off_by_default_is_dropped_from_every_template() {
    let server = Server::start().await;
    let container = json!({"name": "c", "image": "i:1", "lifecycle": {"stopSignal": "SIGTERM"}});
    let source = json!({"podCertificate": {"signerName": "a/b", "keyType": "RSA3072", "credentialBundlePath": "x"}});
    let spec = |restart: &str| {
        json!({"metadata": {"labels": {"a": "1"}}, "spec": {"schedulingGroup": {"podGroupName": "g"}, "restartPolicy": restart,
            "containers": [container], "volumes": [{"name": "v", "projected": {"sources": [source]}}]}})
    };
    let (template, selector, job) =
        (spec("Always"), json!({"matchLabels": {"a": "1"}}), json!({"template": spec("Never")}));
    let keeps = json!({"selector": selector, "template": template});
    let table = [
        (
            "/api/v1/namespaces/default/replicationcontrollers",
            "/spec/template/spec",
            json!({"spec": {"template": template}}),
        ),
        ("/api/v1/namespaces/default/podtemplates", "/template/spec", json!({"template": template})),
        ("/apis/apps/v1/namespaces/default/replicasets", "/spec/template/spec", json!({"spec": keeps})),
        ("/apis/apps/v1/namespaces/default/deployments", "/spec/template/spec", json!({"spec": keeps})),
        ("/apis/apps/v1/namespaces/default/daemonsets", "/spec/template/spec", json!({"spec": keeps})),
        ("/apis/apps/v1/namespaces/default/statefulsets", "/spec/template/spec", json!({"spec": keeps})),
        ("/apis/batch/v1/namespaces/default/jobs", "/spec/template/spec", json!({"spec": job})),
        (
            "/apis/batch/v1/namespaces/default/cronjobs",
            "/spec/jobTemplate/spec/template/spec",
            json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job}}}),
        ),
    ];
    for (path, at, mut body) in table {
        body["metadata"] = json!({"name": "x"});
        let made = created(&server, path, body).await.body;
        let spec = made.pointer(at).unwrap_or_else(|| panic!("{path}: {made}"));
        assert_eq!(spec["schedulingGroup"], Value::Null, "{path}");
        assert_eq!(spec["containers"][0]["lifecycle"], Value::Null, "{path}");
        assert_eq!(spec["volumes"][0]["projected"]["sources"], json!([{}]), "{path}");
    }
}
