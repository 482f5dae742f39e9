//! Requests at the API server: create, get, patch, list, watch; ConfigMaps of 1 KiB, many clients at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, Resource};
use tokio::task::JoinSet;

use super::figures::{CpuMeter, Samples};

/// Bytes of data in each object.
const SIZE: usize = 1024;
/// Lists made for the figure.
const LISTS: usize = 20;
/// Watchers and updates of the delivery figure.
const WATCHERS: usize = 100;
const UPDATES: usize = 200;

/// Runs all of it in a namespace of its own.
pub async fn measure(client: &Client, objects: usize, clients: usize, pids: &[i32]) -> Result<()> {
    let name = format!("bench-{}", std::process::id());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces
        .create(&PostParams::default(), &serde_json::from_value(serde_json::json!({"metadata": {"name": name}}))?)
        .await?;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &name);
    let result = load(&api, objects, clients, pids).await;
    namespaces.delete(&name, &DeleteParams::default()).await?;
    result
}

async fn load(api: &Api<ConfigMap>, objects: usize, clients: usize, pids: &[i32]) -> Result<()> {
    let each = |name: String, pids| Load { name, api: api.clone(), objects, clients, pids };
    each(format!("create, {clients} clients"), pids)
        .run(|api, index| async move { api.create(&PostParams::default(), &config_map(index)).await.map(drop) })
        .await?;
    each(format!("get, {clients} clients"), pids)
        .run(|api, index| async move { api.get(&object_name(index)).await.map(drop) })
        .await?;
    let single = Load { name: "get, 1 client".into(), api: api.clone(), objects: objects.min(500), clients: 1, pids };
    single.run(|api, index| async move { api.get(&object_name(index)).await.map(drop) }).await?;
    each(format!("merge patch, {clients} clients"), pids)
        .run(|api, index| async move {
            let patch = serde_json::json!({"data": {"changed": index.to_string()}});
            api.patch(&object_name(index), &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
        })
        .await?;
    let lists = Load { name: format!("list of {objects}"), api: api.clone(), objects: LISTS, clients: 1, pids };
    lists.run(|api, _| async move { api.list_metadata(&ListParams::default()).await.map(drop) }).await?;
    full_lists(api, objects, pids).await?;
    deliveries(api, pids).await
}

fn object_name(index: usize) -> String {
    format!("object-{index:06}")
}

fn config_map(index: usize) -> ConfigMap {
    ConfigMap {
        metadata: kube::core::ObjectMeta { name: Some(object_name(index)), ..Default::default() },
        data: Some([("text".to_owned(), "x".repeat(SIZE))].into()),
        ..Default::default()
    }
}

struct Load<'a> {
    name: String,
    api: Api<ConfigMap>,
    objects: usize,
    clients: usize,
    pids: &'a [i32],
}

impl Load<'_> {
    /// `objects` requests by `clients` tasks that each take the next number.
    async fn run<F, Fut>(self, request: F) -> Result<()>
    where
        F: Fn(Api<ConfigMap>, usize) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = kube::Result<()>> + Send,
    {
        let next = Arc::new(AtomicUsize::new(0));
        let (meter, begun) = (CpuMeter::begin(self.pids), Instant::now());
        let mut tasks = JoinSet::new();
        for _ in 0..self.clients {
            let (api, next, request, objects) = (self.api.clone(), next.clone(), request.clone(), self.objects);
            tasks.spawn(async move {
                let mut samples = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= objects {
                        return Ok::<_, kube::Error>(samples);
                    }
                    let begun = Instant::now();
                    request(api.clone(), index).await?;
                    samples.push(begun.elapsed());
                }
            });
        }
        let mut samples = Vec::new();
        while let Some(task) = tasks.join_next().await {
            samples.extend(task??);
        }
        Samples::new(&self.name, samples, begun.elapsed(), meter.used()).print();
        Ok(())
    }
}

/// Full lists as bytes, so that the client's decoding is not in the figure.
async fn full_lists(api: &Api<ConfigMap>, objects: usize, pids: &[i32]) -> Result<()> {
    let (meter, begun) = (CpuMeter::begin(pids), Instant::now());
    let (mut samples, mut bytes) = (Vec::new(), 0);
    for _ in 0..LISTS {
        let begun = Instant::now();
        let request = http::Request::get(api.resource_url()).body(vec![])?;
        bytes = api.clone().into_client().request_text(request).await?.len();
        samples.push(begun.elapsed());
    }
    Samples::new(&format!("list of {objects}, {:.1} MB", bytes as f64 / 1e6), samples, begun.elapsed(), meter.used())
        .print();
    Ok(())
}

/// From the write's answer to its event at each of many watchers.
async fn deliveries(api: &Api<ConfigMap>, pids: &[i32]) -> Result<()> {
    let watched = "watched";
    let created = api
        .create(
            &PostParams::default(),
            &ConfigMap {
                metadata: kube::core::ObjectMeta { name: Some(watched.into()), ..Default::default() },
                ..Default::default()
            },
        )
        .await?;
    let revision = created.meta().resource_version.clone().unwrap_or_default();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..WATCHERS {
        let params = WatchParams::default().fields(&format!("metadata.name={watched}"));
        let mut events = Box::pin(api.watch(&params, &revision).await?);
        tasks.spawn(async move {
            let mut samples = Vec::new();
            while samples.len() < UPDATES {
                match events.try_next().await? {
                    Some(WatchEvent::Modified(object)) => {
                        let sent =
                            object.data.and_then(|data| data.get("sent")?.parse::<u64>().ok()).unwrap_or_default();
                        samples.push(begun.elapsed().saturating_sub(Duration::from_micros(sent)));
                    }
                    Some(_) => {}
                    None => anyhow::bail!("a watch ended early"),
                }
            }
            Ok(samples)
        });
    }
    let meter = CpuMeter::begin(pids);
    let load = Instant::now();
    for _ in 0..UPDATES {
        let patch = serde_json::json!({"data": {"sent": begun.elapsed().as_micros().to_string()}});
        api.patch(watched, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    let mut samples = Vec::new();
    while let Some(task) = tasks.join_next().await {
        samples.extend(task??);
    }
    Samples::new(&format!("write to event, {WATCHERS} watchers"), samples, load.elapsed(), meter.used()).print();
    Ok(())
}
