//! Requests at the API server: create, get, patch, list, watch; ConfigMaps of 1 KiB, many clients at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use tokio::task::JoinSet;

use super::figures::{CpuMeter, Samples};

/// Bytes of data in each object.
const SIZE: usize = 1024;
/// Lists made for the figure.
const LISTS: usize = 20;
/// Watchers and updates of the delivery figure.
const WATCHERS: usize = 100;
const UPDATES: usize = 1000;

/// Runs all of it in a namespace of its own.
pub async fn measure(client: &Client, objects: usize, clients: usize, pids: &[i32]) -> Result<()> {
    in_namespace(client, "bench", async |name| {
        load(&Api::namespaced(client.clone(), name), objects, clients, pids).await
    })
    .await
}

/// Makes a namespace for some work, and deletes it when that is done.
pub async fn in_namespace(client: &Client, prefix: &str, work: impl AsyncFnOnce(&str) -> Result<()>) -> Result<()> {
    let name = format!("{prefix}-{}", std::process::id());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces
        .create(&PostParams::default(), &serde_json::from_value(serde_json::json!({"metadata": {"name": name}}))?)
        .await?;
    let result = work(&name).await;
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

/// From a write's beginning to its event at each of many watchers, which all watch the whole namespace.
async fn deliveries(api: &Api<ConfigMap>, pids: &[i32]) -> Result<()> {
    let watched = "watched";
    let mut object = config_map(0);
    object.metadata.name = Some(watched.into());
    let created = api.create(&PostParams::default(), &object).await?;
    let revision = created.meta().resource_version.clone().unwrap_or_default();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..WATCHERS {
        let path = format!("{}?watch=1&resourceVersion={revision}", api.resource_url());
        let request = http::Request::get(path).body(kube::client::Body::empty())?;
        let response = api.clone().into_client().send(request).await?;
        tasks.spawn(received(response.into_body(), begun));
    }
    let meter = CpuMeter::begin(pids);
    let load = Instant::now();
    for _ in 0..UPDATES {
        let patch = serde_json::json!({"data": {"sent": format!("{:012}", begun.elapsed().as_micros())}});
        api.patch(watched, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    let mut samples = Vec::new();
    while let Some(task) = tasks.join_next().await {
        samples.extend(task??);
    }
    Samples::new(&format!("write to event, {WATCHERS} watchers"), samples, load.elapsed(), meter.used()).print();
    Ok(())
}

/// When each update came, by the time that it carries. Events are not decoded: the client shares the machine with the server.
async fn received(mut body: kube::client::Body, begun: Instant) -> Result<Vec<Duration>> {
    let (mut samples, mut rest) = (Vec::new(), Vec::new());
    while samples.len() < UPDATES {
        let frame = body.frame().await.ok_or_else(|| anyhow::anyhow!("a watch ended early"))??;
        let Ok(data) = frame.into_data() else { continue };
        rest.extend_from_slice(&data);
        let mut begin = 0;
        while let Some(length) = memchr::memchr(b'\n', &rest[begin..]) {
            samples.push(begun.elapsed().saturating_sub(sent(&rest[begin..begin + length])?));
            begin += length + 1;
        }
        rest.drain(..begin);
    }
    Ok(samples)
}

fn sent(event: &[u8]) -> Result<Duration> {
    let marker = b"\"sent\":\"";
    let at = memchr::memmem::find(event, marker);
    let digits = at.and_then(|at| event.get(at + marker.len()..at + marker.len() + 12));
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    Ok(Duration::from_micros(digits.ok_or_else(|| anyhow::anyhow!("an event without its time"))?.parse()?))
}
