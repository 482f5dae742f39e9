//! Services from birth to a change of type.

use super::*;
use serde_json::{Value, json};

fn service(spec: Value) -> Object {
    let mut object = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).expect("a service");
    Service::set_defaults(&mut object);
    Service::prepare_for_create(&mut object);
    object
}

#[test]
fn defaults() {
    let expected = json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]});
    assert_eq!(serde_json::to_value(service(json!({"ports": [{"port": 80}]})).spec).expect("json"), expected);
    let expected = json!({"type": "ExternalName", "externalName": "a.example.org", "sessionAffinity": "None"});
    assert_eq!(
        serde_json::to_value(service(json!({"type": "ExternalName", "externalName": "a.example.org"})).spec)
            .expect("json"),
        expected
    );
}

#[test]
fn what_is_refused() {
    let table = [
        (json!({"ports": []}), "spec.ports: Required value"),
        (
            json!({"ports": [{"port": 1}, {"port": 2}]}),
            "[spec.ports[0].name: Required value, spec.ports[1].name: Required value]",
        ),
        (
            json!({"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]}),
            "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":1,\"TargetPort\":0,\"NodePort\":0}",
        ),
        (
            json!({"ports": [{"port": 0}]}),
            "[spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive, spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive]",
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30080}]}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            json!({"ports": [{"port": 80}], "type": "Magic"}),
            "spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ),
        (
            json!({"ports": [{"port": 80}], "clusterIP": "nonsense"}),
            "spec.clusterIPs[0]: Invalid value: \"nonsense\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            json!({"ports": [{"port": 80}], "externalTrafficPolicy": "Local"}),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        ),
        (json!({"type": "ExternalName"}), "spec.externalName: Required value"),
        (json!({"ports": [{"port": 80}], "clusterIP": "None"}), "[]"),
    ];
    for (spec, message) in table {
        assert_eq!(Service::validate(&service(spec)).to_string(), message);
    }
}

#[test]
fn a_change_of_type_drops_what_it_forbids() {
    let spec = json!({"ports": [{"port": 80, "nodePort": 30080}], "type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"]});
    let old = service(spec);
    let changed = |kind: &str| {
        let mut new = old.clone();
        new.spec.as_mut().expect("a spec").type_ = Some(kind.to_owned());
        new.spec.as_mut().expect("a spec").external_name = (kind == "ExternalName").then(|| "b.example.org".to_owned());
        Service::set_defaults(&mut new);
        Service::prepare_for_update(&mut new, &old);
        assert_eq!(Service::validate_update(&new, &old).to_string(), "[]");
        serde_json::to_value(new.spec).expect("json")
    };
    assert_eq!(
        changed("ClusterIP"),
        json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "clusterIP": "10.96.0.9",
        "clusterIPs": ["10.96.0.9"], "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]})
    );
    assert_eq!(
        changed("ExternalName"),
        json!({"type": "ExternalName", "externalName": "b.example.org", "sessionAffinity": "None",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]})
    );
}

#[test]
fn cluster_ips_do_not_change() {
    let old = service(json!({"ports": [{"port": 80}], "clusterIP": "10.96.0.9"}));
    let mut new = old.clone();
    new.spec.as_mut().expect("a spec").cluster_ip = Some("None".to_owned());
    Service::prepare_for_update(&mut new, &old);
    assert_eq!(
        Service::validate_update(&new, &old).to_string(),
        "spec.clusterIPs[0]: Invalid value: [\"None\"]: may not change once set"
    );
    new.spec.as_mut().expect("a spec").cluster_ip = None;
    new.spec.as_mut().expect("a spec").cluster_ips = None;
    Service::prepare_for_update(&mut new, &old);
    assert_eq!(new.spec, old.spec, "left out means unchanged");
}

#[test]
fn node_ports_stay_with_the_names_of_ports_and_addresses_go_with_the_balancer() {
    let mut old = service(
        json!({"type": "LoadBalancer", "ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30081}]}),
    );
    old.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}})).expect("a status");
    let table = [
        (json!([{"name": "a", "port": 90}, {"name": "b", "port": 80}]), vec![Some(30080), Some(30081)]),
        (json!([{"name": "a", "port": 80}, {"name": "c", "port": 81, "nodePort": 30080}]), vec![None, Some(30080)]),
        (json!([{"name": "x", "port": 80}]), vec![None]),
    ];
    for (ports, expected) in table {
        let mut new = service(json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports}));
        Service::prepare_for_update(&mut new, &old);
        let found: Vec<_> = new.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).map(|p| p.node_port).collect();
        assert_eq!(found, expected);
        assert_eq!(new.status, old.status);
    }
    let mut new = service(json!({"type": "ClusterIP", "ports": [{"port": 80}]}));
    Service::prepare_for_update(&mut new, &old);
    assert_eq!(serde_json::to_value(new.status).expect("json"), json!({"loadBalancer": {}}));
}

#[test]
fn cells() {
    let now = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
    let shown = |spec: Value| (Service::columns().cells)(&service(spec), now);
    let row = shown(
        json!({"ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}], "type": "LoadBalancer", "selector": {"a": "b"}}),
    );
    assert_eq!(row, ["a", "LoadBalancer", "<none>", "<pending>", "80:30080/TCP,53/UDP", "<unknown>", "a=b"]);
    let row = shown(json!({"type": "ExternalName", "externalName": "x.example.org"}));
    assert_eq!(row, ["a", "ExternalName", "<none>", "x.example.org", "<none>", "<unknown>", "<none>"]);
}
