//! Who owns what after creations and updates of built-in kinds and custom resources.

use super::*;
use crate::resources::{schema, wire};
use serde_json::json;

/// A kind with one version.
pub(crate) struct OneVersion(pub(crate) &'static str, pub(crate) &'static str);

impl Versions for OneVersion {
    fn node(&self, version: &str) -> Option<Node<'_>> {
        if version != self.0 {
            return None;
        }
        schema::of(self.0, self.1).map(Node::Type)
    }

    fn convert<'v>(&self, object: &'v Value, from: &str, to: &str) -> Option<Cow<'v, Value>> {
        (from == to).then_some(Cow::Borrowed(object))
    }

    fn empty(&self, _: &str) -> Value {
        let mut value = json!({"apiVersion": self.0, "kind": self.1});
        wire::canonical(self.0, self.1, &mut value);
        value
    }
}

pub(crate) fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a timestamp")
}

/// What each manager owns, as `name` or `name/subresource`.
pub(crate) fn owners(managed: &Managed) -> Value {
    let mut owners = serde_json::Map::new();
    for entry in managed.entries() {
        let Manager { name, subresource, applies, .. } = &entry.manager;
        let mut who = name.clone();
        if !subresource.is_empty() {
            who = format!("{who}/{subresource}");
        }
        if *applies {
            who = format!("{who} applied");
        }
        owners.insert(who, entry.fields.read().into_owned().into_json());
    }
    Value::Object(owners)
}

#[test]
fn a_creation_owns_what_it_brought() {
    let kind = OneVersion("v1", "Pod");
    let ignored = Fields::of_paths(["status"]);
    let write = Write {
        manager: "m",
        subresource: "",
        version: "v1",
        now: second(1),
        ignored: &ignored,
        only: &[],
        kind: &kind,
    };
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}, "finalizers": ["x/y"]},
        "spec": {"containers": [{"name": "c", "image": "i"}], "nodeSelector": {"k": "v"}}, "status": {"phase": "Pending"}});
    wire::canonical("v1", "Pod", &mut pod);
    let managed = update(&kind.empty("v1"), &pod, Managed::default(), &write);
    assert_eq!(
        owners(&managed),
        json!({"m": {
        "f:metadata": {"f:labels": {".": {}, "f:a": {}}, "f:finalizers": {".": {}, "v:\"x/y\"": {}}},
        "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}, "f:resources": {}}}, "f:nodeSelector": {}}}})
    );
    assert_eq!(managed.entries()[0].time, Some(second(1)));
}

#[test]
fn updates_take_fields_from_others() {
    let kind = OneVersion("v1", "ConfigMap");
    let ignored = Fields::default();
    let by = |manager: &'static str, now| Write {
        manager,
        subresource: "",
        version: "v1",
        now: second(now),
        ignored: &ignored,
        only: &[],
        kind: &kind,
    };
    let object =
        |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data});
    let (first, second_state) = (object(json!({"a": "1", "b": "2"})), object(json!({"a": "9", "c": "3"})));
    let managed = update(&kind.empty("v1"), &first, Managed::default(), &by("one", 1));
    let managed = update(&first, &second_state, managed, &by("two", 2));
    assert_eq!(owners(&managed), json!({"one": {"f:data": {}}, "two": {"f:data": {"f:a": {}, "f:c": {}}}}));
    let times: Vec<_> = managed.entries().iter().map(|entry| entry.time).collect();
    assert_eq!(times, [Some(second(1)), Some(second(2))]);
    let same = update(&second_state, &second_state, managed.clone(), &by("three", 3));
    assert_eq!(same, managed, "a write that changes nothing owns nothing");
    let gone = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}});
    assert!(update(&second_state, &gone, managed, &by("three", 3)).is_empty());
}

#[test]
fn subresources_have_entries_of_their_own_and_old_versions_are_dropped() {
    let kind = OneVersion("v1", "Pod");
    let ignored = Fields::of_paths(["spec"]);
    let write = Write {
        manager: "kubelet",
        subresource: "status",
        version: "v1",
        now: second(5),
        ignored: &ignored,
        only: &[],
        kind: &kind,
    };
    let mut managed = Managed::default();
    managed.grant(Manager::updater("old", "v0", ""), "v0", Fields::of_paths(["spec.nodeName"]), second(1));
    managed.grant(
        Manager::updater("api", "v1", ""),
        "v1",
        Fields::of_paths(["spec.nodeName", "status.message"]),
        second(1),
    );
    let before = json!({"metadata": {}, "spec": {"nodeName": "a"}, "status": {"message": "m"}});
    let after = json!({"metadata": {}, "spec": {"nodeName": "b"}, "status": {"phase": "Running", "conditions": [
        {"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": null}]}});
    assert_eq!(
        owners(&update(&before, &after, managed, &write)),
        json!({
        "api": {"f:spec": {"f:nodeName": {}}},
        "kubelet/status": {"f:status": {"f:phase": {}, "f:conditions": {".": {}, "k:{\"type\":\"Ready\"}": {
            ".": {}, "f:type": {}, "f:status": {}, "f:lastProbeTime": {}, "f:lastTransitionTime": {}}}}}})
    );
}

#[test]
fn custom_resources_follow_their_schema() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "size": {"type": "integer"},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"], "items": {
            "type": "object", "properties": {"port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}}}},
        "plain": {"type": "array", "items": {"type": "string"}},
        "one": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}});
    let custom = Custom::of_resource(Some(&schema));
    let object = json!({"apiVersion": "e.org/v1", "kind": "E", "metadata": {"name": "e", "labels": {"a": "b"}}, "spec": {
        "size": 1, "tags": ["x"], "ports": [{"port": 1}], "plain": ["y"], "one": {"k": "v"}, "free": {"a": {"b": [1]}}}});
    let mut changes = compare(Node::Custom(&custom), Some(&json!({})), Some(&object));
    Write::strip(&mut changes.added);
    assert_eq!(
        changes.added.into_json(),
        json!({
        "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
        "f:spec": {".": {}, "f:size": {}, "f:tags": {".": {}, "v:\"x\"": {}}, "f:plain": {}, "f:one": {},
            "f:ports": {".": {}, "k:{\"port\":1,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}},
            "f:free": {".": {}, "f:a": {".": {}, "f:b": {}}}}})
    );
}
