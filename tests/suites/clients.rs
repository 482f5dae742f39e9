//! The official Python and Node clients and kube-rs: CRUD, watch, informers, server-side apply, and custom resources.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ReplicationController};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tests::cluster::Cluster;
use tests::files;

const SOON: Duration = Duration::from_secs(20);

/// Runs a script of `tests/clients` to its last line.
#[track_caller]
fn script(cluster: &Cluster, program: &[&str], name: &str) {
    let path = files::root().join("tests/clients").join(name);
    let args = [program, &[path.to_str().unwrap()]].concat();
    let printed = cluster.program(Path::new("env"), &args).ok();
    assert!(printed.ends_with("all done\n"), "{name}: {printed}");
}

#[test]
fn the_python_client() {
    let cluster = Cluster::start(&["--runtime", "simulated"]);
    let python = files::python();
    for name in ["crud_and_watch.py", "apply.py", "custom_resources.py"] {
        script(&cluster, &[python.to_str().unwrap()], name);
    }
}

#[test]
fn the_node_client() {
    let cluster = Cluster::start(&["--without", "kubelet,scheduler"]);
    let folder = format!("NODE_CLIENT={}", files::node_client().display());
    for name in ["crud_and_watch.mjs", "apply.mjs", "custom_resources.mjs"] {
        script(&cluster, &[&folder, "node"], name);
    }
}

async fn client(cluster: &Cluster) -> Client {
    client::kube_client(&cluster.kubeconfig(), "tests").await.unwrap()
}

fn controller(replicas: i32) -> ReplicationController {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"app": "web"}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "nginx"}]}}},
    }))
    .unwrap()
}

#[tokio::test]
async fn kube_rs() {
    let cluster = Cluster::start(&["--runtime", "simulated"]);
    let client = client(&cluster).await;
    let controllers: Api<ReplicationController> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client);

    let created = controllers.create(&PostParams::default(), &controller(2)).await.unwrap();
    let revision = created.metadata.resource_version.clone().unwrap();
    let ready =
        |rc: &ReplicationController, count| rc.status.as_ref().and_then(|status| status.ready_replicas) == Some(count);
    tokio::time::timeout(
        SOON,
        until_event(&controllers, &revision, |event| matches!(event, WatchEvent::Modified(rc) if ready(rc, 2))),
    )
    .await
    .unwrap();

    let patched = controllers
        .patch("web", &PatchParams::default(), &Patch::Merge(serde_json::json!({"spec": {"replicas": 1}})))
        .await
        .unwrap();
    assert_eq!(patched.spec.unwrap().replicas, Some(1));
    let mut read = controllers.get("web").await.unwrap();
    read.metadata.labels.get_or_insert_with(BTreeMap::new).insert("a".into(), "b".into());
    controllers.replace("web", &PostParams::default(), &read).await.ok();
    let stale = ReplicationController {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            resource_version: Some(revision),
            ..read.metadata.clone()
        },
        ..read
    };
    let conflict = controllers.replace("web", &PostParams::default(), &stale).await.unwrap_err();
    assert!(matches!(conflict, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict"));

    informer_sees_all(&pods).await;
    controllers.delete("web", &DeleteParams::background()).await.unwrap();
    assert_eq!(controllers.list(&ListParams::default()).await.unwrap().items.len(), 0);
    let gone = kube::runtime::wait::await_condition(pods.clone(), "none", kube::runtime::conditions::is_deleted(""));
    tokio::time::timeout(SOON, gone).await.unwrap().unwrap();
}

async fn until_event(
    api: &Api<ReplicationController>,
    revision: &str,
    wanted: impl Fn(&WatchEvent<ReplicationController>) -> bool,
) {
    let mut stream = api.watch(&WatchParams::default(), revision).await.unwrap().boxed();
    while let Some(event) = stream.try_next().await.unwrap() {
        if wanted(&event) {
            return;
        }
    }
    panic!("the watch ended early");
}

/// kube's watcher in both ways that informers begin: list then watch, and watch-list.
async fn informer_sees_all(pods: &Api<Pod>) {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let listed = pods.list(&ListParams::default()).await.unwrap().items.len();
        let mut events = watcher(pods.clone(), config).default_backoff().boxed();
        let mut seen = 0;
        loop {
            match tokio::time::timeout(SOON, events.try_next()).await.expect("the informer is ready in time").unwrap() {
                Some(watcher::Event::InitApply(_)) => seen += 1,
                Some(watcher::Event::InitDone) => break,
                Some(_) => {}
                None => panic!("the informer ended"),
            }
        }
        assert!(seen >= listed.min(1), "{seen} of {listed}");
    }
}

fn settings(data: serde_json::Value) -> Patch<serde_json::Value> {
    Patch::Apply(
        serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": data}),
    )
}

/// Server-side apply while a reflector keeps a store.
#[tokio::test]
async fn kube_rs_applies_and_reflects() {
    let cluster = Cluster::start(&["--without", "kubelet,scheduler"]);
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&cluster).await);
    let (store, reflecting) = reflect(&maps);
    let (one, two) = (PatchParams::apply("one"), PatchParams::apply("two"));

    let applied = maps.patch("settings", &one, &settings(serde_json::json!({"color": "blue"}))).await.unwrap();
    holds(&store, "blue").await;
    let again = maps.patch("settings", &one, &settings(serde_json::json!({"color": "blue"}))).await.unwrap();
    assert_eq!(again.metadata.resource_version, applied.metadata.resource_version);
    let red = settings(serde_json::json!({"color": "red"}));
    let kube::Error::Api(conflict) = maps.patch("settings", &two, &red).await.unwrap_err() else {
        panic!("an answer of the server")
    };
    assert_eq!((conflict.code, conflict.reason.as_str()), (409, "Conflict"));
    assert_eq!(conflict.details.unwrap().causes[0].field, ".data.color");
    maps.patch("settings", &two.clone().force(), &red).await.unwrap();
    holds(&store, "red").await;
    let removed = maps.patch("settings", &two, &settings(serde_json::json!({}))).await.unwrap();
    assert_eq!(removed.data.unwrap_or_default().len(), 0);

    maps.delete("settings", &DeleteParams::default()).await.unwrap();
    let gone = async {
        while store.get(&ObjectRef::new("settings").within("default")).is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("the store forgets it");
    reflecting.abort();
}

/// Keeps a store of all of them.
fn reflect(maps: &Api<ConfigMap>) -> (Store<ConfigMap>, tokio::task::JoinHandle<()>) {
    let (store, writer) = reflector::store();
    let events = kube::runtime::reflector(writer, watcher(maps.clone(), watcher::Config::default()));
    let reflecting = tokio::spawn(events.default_backoff().applied_objects().for_each(|_| async {}));
    (store, reflecting)
}

async fn holds(store: &Store<ConfigMap>, color: &str) {
    let wanted = Some(color.to_owned());
    let has = async {
        loop {
            let found = store.get(&ObjectRef::new("settings").within("default"));
            if found.is_some_and(|map| map.data.as_ref().and_then(|data| data.get("color").cloned()) == wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, has).await.unwrap_or_else(|_| panic!("the store never had {color}"));
}

fn definition() -> CustomResourceDefinition {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "gears.rust.example.com"},
        "spec": {
            "group": "rust.example.com",
            "scope": "Namespaced",
            "names": {"kind": "Gear", "plural": "gears", "singular": "gear"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["teeth"], "properties": {
                        "teeth": {"type": "integer", "minimum": 3}, "size": {"type": "string", "default": "small"}}},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}],
        },
    }))
    .unwrap()
}

/// A definition, its objects, what their schema refuses, a watch over all of it, and the end.
#[tokio::test]
async fn kube_rs_defines_a_kind() {
    let cluster = Cluster::start(&["--without", "kubelet,scheduler"]);
    let client = client(&cluster).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let defined = definitions.create(&PostParams::default(), &definition()).await.unwrap();
    let established = await_condition(definitions.clone(), "gears.rust.example.com", conditions::is_crd_established());
    tokio::time::timeout(SOON, established).await.expect("the definition is established in time").unwrap();

    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("rust.example.com", "v1", "Gear"));
    let gears: Api<DynamicObject> = Api::default_namespaced_with(client, &kind);
    let gear =
        |name: &str, spec: serde_json::Value| DynamicObject::new(name, &kind).data(serde_json::json!({"spec": spec}));
    let begin = gears.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let created =
        gears.create(&PostParams::default(), &gear("a", serde_json::json!({"teeth": 8, "surplus": 1}))).await.unwrap();
    assert_eq!(created.data["spec"], serde_json::json!({"teeth": 8, "size": "small"}));
    let refused = gears.create(&PostParams::default(), &gear("b", serde_json::json!({"teeth": 2}))).await.unwrap_err();
    let kube::Error::Api(status) = refused else { panic!("an answer of the server: {refused}") };
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert_eq!(status.details.unwrap().causes[0].field, "spec.teeth");
    let applied = Patch::Apply(gear("a", serde_json::json!({"teeth": 9})));
    let conflict = gears.patch("a", &PatchParams::apply("one"), &applied).await.unwrap_err();
    assert!(matches!(conflict, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict"));
    let forced = gears.patch("a", &PatchParams::apply("one").force(), &applied).await.unwrap();
    assert_eq!((forced.data["spec"]["teeth"].as_i64(), forced.metadata.generation), (Some(9), Some(2)));
    let status = Patch::Merge(serde_json::json!({"status": {"turning": true}, "spec": {"teeth": 1}}));
    let turning = gears.patch_status("a", &PatchParams::default(), &status).await.unwrap();
    assert_eq!(turning.data["status"]["turning"], true);
    assert_eq!(turning.data["spec"]["teeth"], 9);
    gears.delete("a", &DeleteParams::default()).await.unwrap();

    let mut told = Vec::new();
    let mut events = gears.watch(&WatchParams::default(), &begin).await.unwrap().boxed();
    while told.last() != Some(&"deleted") {
        let event = tokio::time::timeout(SOON, events.try_next()).await.expect("the watch goes on").unwrap().unwrap();
        told.push(match event {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(error) => panic!("{error}"),
        });
    }
    assert_eq!(told, ["added", "modified", "modified", "deleted"]);

    definitions.delete("gears.rust.example.com", &DeleteParams::default()).await.unwrap();
    let gone = conditions::is_deleted(defined.metadata.uid.as_deref().unwrap());
    let gone = await_condition(definitions, "gears.rust.example.com", gone);
    tokio::time::timeout(SOON, gone).await.expect("the definition goes in time").unwrap();
    let none = gears.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(none, kube::Error::Api(status) if status.code == 404));
}
