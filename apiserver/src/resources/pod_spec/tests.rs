//! Specs and what is wrong with them.

use super::*;
use serde_json::{Value, json};

fn spec(value: Value) -> PodSpec {
    let mut spec = serde_json::from_value(value).expect("a pod spec");
    set_pod_defaults(&mut spec);
    spec
}

fn found(value: Value) -> String {
    let mut errors = FieldErrors::new();
    let (path, spec) = (FieldPath::root("spec"), spec(value));
    validate(&mut errors, &path, &spec, Of::Pod("p"));
    images(&mut errors, &path, &spec);
    errors.to_string()
}

/// A container with further fields.
fn with(fields: Value) -> Value {
    let mut container = json!({"name": "c", "image": "img:1"});
    for (name, value) in fields.as_object().expect("fields") {
        container[name] = value.clone();
    }
    json!({"containers": [container]})
}

/// A spec with a good container and further fields.
fn pod(fields: Value) -> Value {
    let mut spec = with(json!({}));
    for (name, value) in fields.as_object().expect("fields") {
        spec[name] = value.clone();
    }
    spec
}

#[test]
fn defaults() {
    let full = spec(
        json!({"hostNetwork": true, "serviceAccount": "a", "volumes": [{"name": "e"}, {"name": "h", "hostPath": {"path": "/x"}}],
        "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}},
            "livenessProbe": {"httpGet": {"port": 80}}, "env": [{"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}]}),
    );
    let expected = json!({"hostNetwork": true, "serviceAccount": "a", "serviceAccountName": "a", "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always", "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
        "enableServiceLinks": true, "volumes": [{"name": "e", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/x", "type": ""}}],
        "containers": [{"name": "c", "image": "i", "imagePullPolicy": "Always", "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File", "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
            "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
            "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
                "successThreshold": 1, "failureThreshold": 3},
            "env": [{"name": "F", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}]}]});
    assert_eq!(serde_json::to_value(full).expect("json"), expected);
}

#[test]
fn containers_are_checked() {
    let table = [
        (json!({"containers": []}), "spec.containers: Required value"),
        (json!({"containers": [{"name": "c"}]}), "spec.containers[0].image: Required value"),
        (
            json!({"containers": [{"name": "c", "image": " i"}]}),
            "spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace",
        ),
        (
            with(json!({"imagePullPolicy": "Maybe"})),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            with(
                json!({"env": [{"name": "E", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "/a/../b", "key": ""}}}]}),
            ),
            "[spec.containers[0].env[0].valueFrom.fileKeyRef.key: Required value, spec.containers[0].env[0].valueFrom.fileKeyRef.path: Invalid value: \"/a/../b\": must not contain '..', spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: Not found: \"v\"]",
        ),
        (with(json!({"ports": [{"containerPort": 0}]})), "spec.containers[0].ports[0].containerPort: Required value"),
        (
            with(json!({"ports": [{"containerPort": 1, "hostPort": 80}, {"containerPort": 2, "hostPort": 80}]})),
            "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\"",
        ),
        (
            with(json!({"env": [{"name": "a", "valueFrom": {}}]})),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        (
            with(json!({"env": [{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "spec.nothing"}}}]})),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nothing\": error converting fieldPath: field label not supported: spec.nothing",
        ),
        (
            with(json!({"envFrom": [{"configMapRef": {"name": ""}}, {}]})),
            "[spec.containers[0].envFrom[0].configMapRef.name: Required value, spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`]",
        ),
        (
            with(json!({"env": [{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName['x']"}}}]})),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nodeName['x']\": error converting fieldPath: field label does not support subscript: spec.nodeName",
        ),
        (
            with(json!({"restartPolicyRules": [{"action": "Hope"}]})),
            "[spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used, spec.containers[0].restartPolicyRules[0].action: Unsupported value: \"Hope\": supported values: \"Restart\", \"RestartAllContainers\", spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified]",
        ),
        (
            with(json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "Maybe"}]})),
            "spec.containers[0].resizePolicy: Unsupported value: \"Maybe\": supported values: \"NotRequired\", \"RestartContainer\"",
        ),
        (
            with(json!({"resources": {"claims": [{"name": "gpu"}]}})),
            "spec.containers[0].resources.claims[0]: Not found: \"gpu\": must be one of the names in pod.spec.resourceClaims which is empty",
        ),
        (
            with(json!({"resources": {"limits": {"cpu": "1", "hugepages-2Mi": "3Mi"}}})),
            "[spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi, spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi]",
        ),
        (
            with(json!({"livenessProbe": {"httpGet": {"port": 1, "httpHeaders": [{"name": "a b", "value": ""}]}}})),
            "spec.containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: \"a b\": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
        ),
        (
            with(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]})),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            with(json!({"livenessProbe": {}})),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            with(json!({"livenessProbe": {"httpGet": {"port": 1}, "tcpSocket": {"port": 1}}})),
            "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
        ),
        (
            with(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            with(json!({"resources": {"requests": {"example.org/gpu": "1"}}})),
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        (
            with(json!({"resources": {"requests": {"moons": "1"}}})),
            "[spec.containers[0].resources.requests[moons]: Invalid value: \"moons\": must be a standard resource type or fully qualified, spec.containers[0].resources.requests[moons]: Invalid value: \"moons\": must be a standard resource for containers]",
        ),
        (
            with(json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": false}})),
            "spec.containers[0].securityContext: Invalid value: {\"Capabilities\":null,\"Privileged\":true,\"SELinuxOptions\":null,\"WindowsOptions\":null,\"RunAsUser\":null,\"RunAsGroup\":null,\"RunAsNonRoot\":null,\"ReadOnlyRootFilesystem\":null,\"AllowPrivilegeEscalation\":false,\"ProcMount\":null,\"SeccompProfile\":null,\"AppArmorProfile\":null}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        ),
        (
            pod(json!({"initContainers": [{"name": "c", "image": "i"}]})),
            "spec.initContainers[0].name: Duplicate value: \"c\"",
        ),
    ];
    for (value, message) in table {
        assert_eq!(found(value), message);
    }
}

#[test]
fn specs_are_checked() {
    let table = [
        (
            json!({"dnsPolicy": "None"}),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            json!({"activeDeadlineSeconds": 0}),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]}),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            json!({"volumes": [{"name": "v", "configMap": {"name": "x", "defaultMode": 9999}}]}),
            "spec.volumes[0].configMap.defaultMode: Invalid value: 9999: must be a number between 0 and 0777 (octal), both inclusive",
        ),
        (
            json!({"volumes": [{"name": "v", "nfs": {"server": "s", "path": "x"}}]}),
            "spec.volumes[0].nfs.path: Invalid value: \"x\": must be an absolute path",
        ),
        (
            json!({"tolerations": [{"operator": "Exists", "value": "x"}]}),
            "spec.tolerations[0].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
        ),
        (
            json!({"tolerations": [{"operator": "Equal"}]}),
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ),
        (
            json!({"securityContext": {"runAsUser": -1}}),
            "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}),
            "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        ),
        (
            json!({"hostAliases": [{"ip": "x", "hostnames": ["a"]}]}),
            "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            json!({"hostAliases": [{"ip": "010.0.0.1"}]}),
            "spec.hostAliases[0].ip: Invalid value: \"010.0.0.1\": must not have leading 0s",
        ),
        (
            json!({"dnsConfig": {"searches": ["_a.local", "b_"]}}),
            "spec.dnsConfig.searches[1]: Invalid value: \"b_\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')",
        ),
        (
            json!({"hostUsers": false, "hostNetwork": true}),
            "spec.hostNetwork: Forbidden: when `pod.Spec.HostUsers` is false",
        ),
        (
            json!({"overhead": {"moons": "1"}}),
            "[spec.overhead.limits[moons]: Invalid value: \"moons\": must be a standard resource type or fully qualified, spec.overhead.limits[moons]: Invalid value: \"moons\": must be a standard resource for containers]",
        ),
        (
            json!({"resourceClaims": [{"name": "c"}]}),
            "spec.resourceClaims[0]: Invalid value: {\"Name\":\"c\",\"ResourceClaimName\":null,\"ResourceClaimTemplateName\":null}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
        ),
        (
            json!({"resources": {"requests": {"pods": "1"}}}),
            "spec.resources.requests[pods]: Unsupported value: \"pods\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
        ),
        (
            json!({"os": {"name": "windows"}, "hostPID": true, "securityContext": {"runAsUser": 1}}),
            "[spec.hostPID: Forbidden: cannot be set for a windows pod, spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod]",
        ),
        (
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s", "items": [{"key": "a", "path": "x"}]}}, {"configMap": {"name": "m", "items": [{"key": "b", "path": "x"}]}}]}}]}),
            "spec.volumes[0].projected: Invalid value: \"m\": conflicting duplicate paths",
        ),
        (
            json!({"os": {"name": "plan9"}}),
            "spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\"",
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "Hope"}]}),
            "[spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero, spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty, spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"Hope\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"]",
        ),
        (
            json!({"dnsPolicy": "Mine"}),
            "spec.dnsPolicy: Unsupported value: \"Mine\": supported values: \"ClusterFirstWithHostNet\", \"ClusterFirst\", \"Default\", \"None\"",
        ),
    ];
    for (fields, message) in table {
        assert_eq!(found(pod(fields)), message);
    }
}

#[test]
fn a_full_spec_is_valid() {
    let value = pod(
        json!({"volumes": [{"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}, {"configMap": {"name": "r", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}}},
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        "dnsConfig": {"nameservers": ["10.0.0.1"], "searches": ["a.local."]}}),
    );
    assert_eq!(found(value), "[]");
}

#[test]
fn names_of_hosts() {
    let long = format!("{}.b", "a".repeat(63));
    let table = [
        (json!({"hostnameOverride": "a.b"}), "[]"),
        (json!({"hostnameOverride": "", "hostNetwork": true}), "[]"),
        (json!({"hostnameOverride": long}), "spec.hostnameOverride: Too long: may not be more than 64 bytes"),
        (
            json!({"hostnameOverride": "a", "hostNetwork": true, "setHostnameAsFQDN": true}),
            "[spec.hostnameOverride: Forbidden: may not be set when `setHostnameAsFQDN` is true, spec.hostnameOverride: Forbidden: may not be set when `hostNetwork` is true]",
        ),
    ];
    for (fields, expected) in table {
        assert_eq!(found(pod(fields)), expected);
    }
}
