//! Applying by several managers: ownership shared and taken, fields that go, conflicts and their words.

use super::*;
use crate::write::managed_fields::tests::{OneVersion, owners, second};
use crate::write::managed_fields::update;
use crate::write::managed_fields::{Fields, Versions};
use serde_json::json;

struct Bench {
    kind: OneVersion,
    live: Value,
    managed: Managed,
    now: i64,
}

impl Bench {
    fn new(kind: &'static str) -> Self {
        let kind = OneVersion("v1", kind);
        let live = kind.empty("v1");
        Self { kind, live, managed: Managed::default(), now: 0 }
    }

    fn apply(&mut self, manager: &str, force: bool, fields: Value) -> Result<bool, String> {
        self.now += 1;
        let mut config = json!({"apiVersion": "v1", "kind": self.kind.1});
        if let (Value::Object(config), Value::Object(fields)) = (&mut config, fields) {
            config.extend(fields);
        }
        let ignored = Fields::of_paths(["status"]);
        let write = Write {
            manager,
            subresource: "",
            version: "v1",
            now: second(self.now),
            ignored: &ignored,
            only: &[],
            kind: &self.kind,
        };
        let config = Config { value: &config, kind: self.kind.1, force };
        let applied = apply(&self.live, self.managed.clone(), &config, &write).map_err(|error| error.to_string())?;
        self.managed = applied.managed;
        match applied.object {
            Some(object) => {
                self.live = object;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn update(&mut self, manager: &str, pointer: &str, value: Value) {
        self.now += 1;
        let ignored = Fields::default();
        let write = Write {
            manager,
            subresource: "",
            version: "v1",
            now: second(self.now),
            ignored: &ignored,
            only: &[],
            kind: &self.kind,
        };
        let mut new = self.live.clone();
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        new.pointer_mut(parent)
            .and_then(Value::as_object_mut)
            .expect("the parent exists")
            .insert(name.to_owned(), value);
        self.managed = update(&self.live, &new, self.managed.clone(), &write);
        self.live = new;
    }
}

#[test]
fn fields_are_shared_taken_and_given_up() {
    let mut bench = Bench::new("ConfigMap");
    assert_eq!(bench.apply("a", false, json!({"data": {"x": "1", "y": "2"}})), Ok(true));
    assert_eq!(bench.apply("a", false, json!({"data": {"x": "1", "y": "2"}})), Ok(false));
    assert_eq!(bench.apply("a", false, json!({"data": {"x": "1"}})), Ok(true));
    assert_eq!(bench.live["data"], json!({"x": "1"}));
    let conflict = bench.apply("b", false, json!({"data": {"x": "9"}}));
    assert_eq!(conflict, Err("Apply failed with 1 conflict: conflict with \"a\": .data.x".to_owned()));
    assert_eq!(bench.apply("b", true, json!({"data": {"x": "9"}})), Ok(true));
    assert_eq!(owners(&bench.managed), json!({"b applied": {"f:data": {"f:x": {}}}}));
    assert_eq!(bench.apply("a", false, json!({"data": {"x": "9"}})), Ok(false));
    assert_eq!(
        owners(&bench.managed),
        json!({"a applied": {"f:data": {"f:x": {}}}, "b applied": {"f:data": {"f:x": {}}}})
    );
    let times: Vec<_> = bench.managed.entries().iter().map(|entry| (entry.manager.name.clone(), entry.time)).collect();
    assert_eq!(times, [("b".to_owned(), Some(second(5))), ("a".to_owned(), None)], "who changes nothing has no time");
    assert_eq!(bench.apply("b", false, json!({})), Ok(false));
    assert_eq!(bench.live["data"], json!({"x": "9"}), "a still owns it");
    assert_eq!(bench.apply("a", false, json!({})), Ok(true));
    assert_eq!((bench.live.get("data"), bench.managed.is_empty()), (None, true));
}

#[test]
fn updaters_and_unknown_owners_conflict_too() {
    let mut bench = Bench::new("ConfigMap");
    assert_eq!(bench.apply("a", false, json!({"data": {"x": "1"}})), Ok(true));
    bench.update("u", "/data/x", json!("2"));
    let conflict = bench.apply("a", false, json!({"data": {"x": "1"}}));
    assert_eq!(conflict, Err("Apply failed with 1 conflict: conflict with \"u\" using v1: .data.x".to_owned()));
    bench.managed = Managed::default();
    let conflict = bench.apply("a", false, json!({"data": {"x": "1"}}));
    assert_eq!(
        conflict,
        Err("Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.x".to_owned())
    );
    assert_eq!(bench.apply("a", false, json!({"data": {"x": "2"}})), Ok(false));
    assert_eq!(
        owners(&bench.managed),
        json!({"a applied": {"f:data": {"f:x": {}}}, "before-first-apply": {"f:data": {".": {}, "f:x": {}}}})
    );
}

#[test]
fn items_of_lists_have_owners() {
    let mut bench = Bench::new("Pod");
    let containers = |containers: Value| json!({"spec": {"containers": containers}});
    assert_eq!(
        bench.apply("a", false, containers(json!([{"name": "a", "image": "a:1", "ports": [{"containerPort": 80}]}]))),
        Ok(true)
    );
    bench.live["spec"]["containers"][0]["ports"][0]["protocol"] = json!("TCP");
    assert_eq!(
        bench.apply(
            "b",
            false,
            containers(json!([{"name": "b", "image": "b:1"}, {"name": "a", "env": [{"name": "E", "value": "1"}]}]))
        ),
        Ok(true)
    );
    let names = |bench: &Bench| {
        bench.live["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|item| item["name"].clone())
            .collect::<Value>()
    };
    assert_eq!(names(&bench), json!(["b", "a"]));
    let conflict = bench.apply(
        "c",
        false,
        containers(json!([{"name": "a", "image": "a:2", "env": [{"name": "E", "value": "2"}]}])),
    );
    assert_eq!(
        conflict,
        Err("Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.containers[name=\"a\"].image\n\
        conflicts with \"b\":\n- .spec.containers[name=\"a\"].env[name=\"E\"].value"
            .to_owned())
    );
    assert_eq!(bench.apply("b", false, containers(json!([{"name": "b", "image": "b:1"}]))), Ok(true));
    assert_eq!(bench.live["spec"]["containers"][1].get("env"), None);
    assert_eq!(bench.live["spec"]["containers"][1]["ports"], json!([{"containerPort": 80, "protocol": "TCP"}]));
    assert_eq!(bench.apply("a", false, json!({})), Ok(true));
    assert_eq!(names(&bench), json!(["b"]));
}

#[test]
fn the_configuration_must_fit_the_request() {
    let mut bench = Bench::new("ConfigMap");
    let table = [
        (json!({"kind": "Secret"}), "invalid object type: /v1, Kind=Secret"),
        (json!({"apiVersion": "apps/v1"}), "invalid object type: apps/v1, Kind=ConfigMap"),
        (json!({"apiVersion": ""}), "invalid object type: /, Kind=ConfigMap"),
        (json!({"metadata": {"managedFields": []}}), "metadata.managedFields must be nil"),
        (
            json!({"metadata": {"name": "n"}, "more": 1}),
            "failed to create typed patch object (/n; /v1, Kind=ConfigMap): .more: field not declared in schema",
        ),
    ];
    for (fields, message) in table {
        assert_eq!(bench.apply("a", false, fields), Err(message.to_owned()));
    }
}

#[test]
fn kubectl_takes_over_from_its_older_self() {
    const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let mut bench = Bench::new("ConfigMap");
    let last = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"x": "1"}}).to_string();
    let annotations = json!({"annotations": {ANNOTATION: last}});
    bench.live["metadata"] = annotations;
    bench.update("kubectl-client-side-apply", "/data", json!({"x": "1"}));
    assert!(bench.apply("other", false, json!({"data": {"x": "2"}})).is_err());
    assert_eq!(bench.apply("kubectl", false, json!({"data": {"x": "2"}})), Ok(true));
    let kept = bench.live["metadata"]["annotations"][ANNOTATION].as_str().unwrap_or_default();
    assert_eq!(kept, "{\"apiVersion\":\"v1\",\"data\":{\"x\":\"2\"},\"kind\":\"ConfigMap\"}\n");
    bench.update("u", "/data/x", json!("3"));
    assert!(bench.apply("kubectl", false, json!({"data": {"x": "4"}})).is_err(), "the last applied value is gone");
}
