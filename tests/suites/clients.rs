//! The official Python client and kube-rs: CRUD and watch of pods and ReplicationControllers.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tests::cluster::Cluster;
use tests::files;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn the_python_client() {
    let cluster = Cluster::start(&["--runtime", "simulated"]);
    let script = files::root().join("tests/clients/crud_and_watch.py");
    let printed = cluster.program(&files::python(), &[script.to_str().unwrap()]).ok();
    assert!(printed.ends_with("all done\n"), "{printed}");
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
