//! Tables: pods, standards, and upstream's words.

use serde_json::{Value, json};

use super::*;

fn violations(level: Level, version: Version, meta: Value, spec: Value) -> Vec<String> {
    let meta: ObjectMeta = serde_json::from_value(meta).expect("metadata");
    let spec: PodSpec = serde_json::from_value(spec).expect("a spec");
    let found = evaluate(&Standard { level, version }, &meta, &spec);
    found.into_iter().map(|one| format!("{} ({})", one.reason, one.detail)).collect()
}

fn container(name: &str, security: Value) -> Value {
    json!({"name": name, "securityContext": security})
}

fn hardened() -> Value {
    json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"}})
}

#[test]
fn a_plain_pod_is_baseline_but_not_restricted() {
    let plain = || json!({"containers": [{"name": "c"}]});
    let open = json!({"hostPID": true, "containers": []});
    assert!(violations(Level::Baseline, Version::Latest, json!({}), plain()).is_empty());
    assert!(violations(Level::Privileged, Version::Latest, json!({}), open).is_empty());
    assert_eq!(
        violations(Level::Restricted, Version::Latest, json!({}), plain()),
        [
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)",
            "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"])",
            "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)",
            "seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        ]
    );
    let spec = json!({"containers": [container("c", hardened())], "volumes": [{"name": "v", "emptyDir": {}}]});
    assert!(violations(Level::Restricted, Version::Latest, json!({}), spec).is_empty());
}

#[test]
fn the_baseline_in_upstreams_words() {
    let one = |security: Value| json!({"containers": [container("c", security)]});
    let pod = |security: Value| json!({"securityContext": security, "containers": []});
    let path = |name: &str| json!({"name": name, "hostPath": {"path": "/"}});
    let ports = json!([{"containerPort": 1, "hostPort": 80}, {"containerPort": 2, "hostPort": 8080}]);
    let probe = json!({"httpGet": {"host": "h", "port": 1}});
    let parameters = json!([{"name": "kernel.msgmax", "value": "1"}, {"name": "net.ipv4.tcp_rmem", "value": "1"}]);
    let table = [
        (
            json!({"containers": [], "hostNetwork": true, "hostPID": true}),
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (one(json!({"privileged": true})), "privileged (container \"c\" must not set securityContext.privileged=true)"),
        (json!({"containers": [], "volumes": [path("a"), path("b")]}), "hostPath volumes (volumes \"a\", \"b\")"),
        (json!({"containers": [{"name": "c", "ports": ports}]}), "hostPort (container \"c\" uses hostPorts 80, 8080)"),
        (
            json!({"containers": [{"name": "c", "livenessProbe": probe}]}),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"h\")",
        ),
        (
            one(json!({"procMount": "Unmasked"})),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            pod(json!({"seLinuxOptions": {"type": "foo", "user": "u"}})),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"foo\"; user may not be set)",
        ),
        (
            pod(json!({"seLinuxOptions": {"role": "r"}})),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: role may not be set)",
        ),
        (
            one(json!({"seccompProfile": {"type": "Unconfined"}})),
            "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (pod(json!({"sysctls": parameters})), "forbidden sysctls (kernel.msgmax)"),
        (
            one(json!({"windowsOptions": {"hostProcess": true}})),
            "hostProcess (container \"c\" must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            pod(json!({"appArmorProfile": {"type": "Unconfined"}})),
            "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            one(json!({"capabilities": {"add": ["NET_RAW", "CHOWN", "BPF"]}})),
            "non-default capabilities (container \"c\" must not include \"BPF\", \"NET_RAW\" in securityContext.capabilities.add)",
        ),
    ];
    for (spec, expected) in table {
        assert_eq!(violations(Level::Baseline, Version::Latest, json!({}), spec.clone()), [expected], "{spec}");
        assert!(!violations(Level::Restricted, Version::Latest, json!({}), spec.clone()).is_empty(), "{spec}");
    }
}

#[test]
fn restricted_checks_stand_for_baseline_ones() {
    let mut security = hardened();
    security["capabilities"]["add"] = json!(["NET_RAW"]);
    security["seccompProfile"]["type"] = json!("Unconfined");
    security["runAsUser"] = json!(0);
    let volumes = json!([{"name": "v", "hostPath": {"path": "/"}}, {"name": "n", "nfs": {"path": "/", "server": "s"}}]);
    let spec = json!({"containers": [container("c", security)], "volumes": volumes});
    assert_eq!(
        violations(Level::Restricted, Version::Latest, json!({}), spec),
        [
            "unrestricted capabilities (container \"c\" must not include \"NET_RAW\" in securityContext.capabilities.add)",
            "restricted volume types (volumes \"v\", \"n\" use restricted volume types \"hostPath\", \"nfs\")",
            "runAsUser=0 (container \"c\" must not set runAsUser=0)",
            "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ]
    );
}

#[test]
fn versions_and_systems_change_what_counts() {
    let plain = || json!({"containers": [{"name": "c"}]});
    let reasons = |version, spec| {
        let found = violations(Level::Restricted, version, json!({}), spec);
        found.iter().map(|one| one.split(" (").next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(reasons(Version::Minor(7), plain()), ["runAsNonRoot != true"]);
    assert_eq!(reasons(Version::Minor(18), plain()), ["allowPrivilegeEscalation != false", "runAsNonRoot != true"]);
    let windows = json!({"os": {"name": "windows"}, "containers": [{"name": "c"}]});
    assert_eq!(reasons(Version::Latest, windows.clone()), ["runAsNonRoot != true"]);
    assert_eq!(reasons(Version::Minor(24), windows).len(), 4);
    let own_users = json!({"hostUsers": false, "containers": [{"name": "c", "securityContext": {"runAsUser": 0}}]});
    assert_eq!(reasons(Version::Latest, own_users.clone()).len(), 3);
    assert!(reasons(Version::Minor(34), own_users).contains(&"runAsUser=0".to_owned()));
    let parameter = json!([{"name": "net.ipv4.tcp_rmem", "value": "1"}]);
    assert_eq!(
        violations(
            Level::Baseline,
            Version::Minor(31),
            json!({}),
            json!({"containers": [], "securityContext": {"sysctls": parameter}})
        ),
        ["forbidden sysctls (net.ipv4.tcp_rmem)"]
    );
    let annotated = json!({"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}});
    assert_eq!(
        violations(Level::Baseline, Version::Minor(18), annotated, plain()),
        ["seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")"]
    );
}
