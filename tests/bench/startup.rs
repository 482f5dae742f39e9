//! From the command to a usable cluster, and from a deleted pod to its ready replacement.

use std::time::{Duration, Instant};

use anyhow::Result;
use tests::cluster::Cluster;
use tests::command::until;

/// Clusters started for the figure.
const STARTS: usize = 5;
/// Pods deleted for the figure.
const DELETIONS: usize = 10;

/// First starts and later ones.
pub fn measure() -> Result<()> {
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let cluster = Cluster::home();
        first.push(timed(|| drop(cluster.kubelab(&["start"]).ok())));
        cluster.kubelab(&["stop"]).ok();
        again.push(timed(|| drop(cluster.kubelab(&["start"]).ok())));
    }
    print("start, new cluster to node Ready", first);
    print("start, stopped cluster", again);
    Ok(())
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn print(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    println!(
        "{name:<34} median {:>6.0} ms  min {:>6.0} ms  max {:>6.0} ms",
        ms(times.get(times.len() / 2)),
        ms(times.first()),
        ms(times.last())
    );
}

/// Deletes pods of a ReplicationController one after the other; the image is there.
pub fn replacement(cluster: &Cluster) -> Result<()> {
    let (limit, selector) = (Duration::from_secs(30), "app=bench");
    let rc = serde_json::json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "bench"}, "spec": {"replicas": 1, "selector": {"app": "bench"},
        "template": {"metadata": {"labels": {"app": "bench"}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "demo", "image": "kubelab.io/demo", "imagePullPolicy": "IfNotPresent"}]}}}});
    let file = cluster.folder().join("bench.json");
    std::fs::write(&file, rc.to_string())?;
    cluster.ours(&["apply", "-f", &file.display().to_string()]).ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut times = Vec::new();
    for _ in 0..DELETIONS {
        let pods = cluster.until_pods(selector, 1, limit);
        let name = pods[0]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        times.push(runtime.block_on(replaced(cluster, &name))?);
    }
    print("RC pod deleted to next one Ready", times);
    cluster.ours(&["delete", "rc", "bench"]).ok();
    until(
        "the pods to go",
        limit,
        || if cluster.ready_pods(selector).is_empty() { Ok(()) } else { Err("there".into()) },
    );
    Ok(())
}

/// Watches from before the deletion, so that the figure holds no polling.
async fn replaced(cluster: &Cluster, name: &str) -> Result<Duration> {
    use futures::TryStreamExt;
    use k8s_openapi::api::core::v1::Pod;
    use kube::api::{Api, DeleteParams, ListParams, WatchEvent, WatchParams};

    let pods: Api<Pod> = Api::default_namespaced(client::kube_client(&cluster.kubeconfig(), "bench").await?);
    let revision = pods.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
    let mut events = Box::pin(pods.watch(&WatchParams::default().labels("app=bench"), &revision).await?);
    let begun = Instant::now();
    pods.delete(name, &DeleteParams::default()).await?;
    while let Some(event) = events.try_next().await? {
        if let WatchEvent::Modified(pod) = event
            && pod.metadata.name.as_deref() != Some(name)
            && api::pods::is_ready(&pod)
        {
            return Ok(begun.elapsed());
        }
    }
    anyhow::bail!("the watch ended")
}
