//! Lists of many pods, each 2 KB as submitted: whole, in pages, compressed, and the few that a label selector wants; and patches of a
//! large pod. Answers are read as bytes and counted, not decoded, so that the client's work is not in the figures.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::{Value, json};

use super::api_load::in_namespace;
use super::figures::{CpuMeter, Samples};
use super::usage;

/// How often each list is made.
const LISTS: usize = 10;
/// How many of the pods carry the label that the selector wants.
const SELECTED: usize = 100;
/// Objects a page.
const PAGE: usize = 500;
/// Patches of the large pod, and its size.
const PATCHES: usize = 500;
const LARGE: usize = 10_000;

/// Runs all of it in a namespace of its own.
pub async fn measure(client: &Client, pods: usize, clients: usize, pids: &[i32]) -> Result<()> {
    in_namespace(client, "bench-pods", async |name| {
        let api: Api<Pod> = Api::namespaced(client.clone(), name);
        let result = load(client, &api, name, pods, clients, pids).await;
        api.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default()).await?;
        result
    })
    .await
}

async fn load(
    client: &Client,
    api: &Api<Pod>,
    namespace: &str,
    pods: usize,
    clients: usize,
    pids: &[i32],
) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": "default"}}))?;
    match accounts.create(&PostParams::default(), &account).await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
        created => drop(created?),
    }
    let (meter, begun) = (CpuMeter::begin(pids), Instant::now());
    let samples = futures::stream::iter(0..pods)
        .map(async |index| {
            let begun = Instant::now();
            api.create(&PostParams::default(), &pod(index, pods)).await.map(|_| begun.elapsed())
        })
        .buffer_unordered(clients)
        .collect::<Vec<kube::Result<Duration>>>()
        .await;
    let samples = samples.into_iter().collect::<kube::Result<Vec<_>>>()?;
    Samples::new(&format!("create a pod, {clients} clients"), samples, begun.elapsed(), meter.used()).print();
    print_memory("before lists", pids);
    let lists = Lists { client, path: api.resource_url(), pods, pids };
    lists.measure("", false, false).await?;
    print_memory("after full lists", pids);
    lists.measure("", true, false).await?;
    lists.measure("", false, true).await?;
    lists.measure("labelSelector=bench%3Dselected", false, false).await?;
    print_memory("after all lists", pids);
    large_patches(api, pids).await
}

fn print_memory(when: &str, pids: &[i32]) {
    for pid in pids {
        println!("memory {when:<27} {:>6.1} MB  (process {pid})", usage::memory(*pid));
    }
}

/// A pod of about 2 KB that no scheduler cares for.
fn pod(index: usize, pods: usize) -> Pod {
    let selected = if index.is_multiple_of((pods / SELECTED).max(1)) { "selected" } else { "other" };
    let env: Vec<Value> = (0..8)
        .map(|n| json!({"name": format!("SETTING_{n}"), "value": format!("value-{n}-of-pod-{index:06}-{}", "x".repeat(64))}))
        .collect();
    let probe =
        |path: &str| json!({"httpGet": {"path": path, "port": 8080}, "initialDelaySeconds": 3, "periodSeconds": 5});
    serde_json::from_value(json!({
        "metadata": {"name": format!("pod-{index:06}"),
            "labels": {"app": "bench", "bench": selected, "index": index.to_string()},
            "annotations": {"bench/about": "a pod as a controller submits it ".repeat(4)}},
        "spec": {"schedulerName": "none", "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": "registry.example/bench/main:1.0", "args": ["--port=8080", "--verbose"], "env": env,
                "ports": [{"name": "http", "containerPort": 8080}], "livenessProbe": probe("/live"), "readinessProbe": probe("/ready"),
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
            "volumes": [{"name": "data", "emptyDir": {}}]}}))
    .expect("it is a pod")
}

struct Lists<'a> {
    client: &'a Client,
    path: &'a str,
    pods: usize,
    pids: &'a [i32],
}

impl Lists<'_> {
    async fn measure(&self, query: &str, paged: bool, gzip: bool) -> Result<()> {
        let (meter, begun) = (CpuMeter::begin(self.pids), Instant::now());
        let (mut samples, mut bytes) = (Vec::new(), 0);
        for _ in 0..LISTS {
            let begun = Instant::now();
            bytes = if paged { self.pages().await? } else { self.get(query, gzip).await?.1 };
            samples.push(begun.elapsed());
        }
        let how = match (query, paged, gzip) {
            (_, true, _) => format!(" by {PAGE}"),
            (_, _, true) => ", gzip".to_owned(),
            ("", ..) => String::new(),
            _ => format!(", selector for {SELECTED}"),
        };
        let name = format!("list {} pods{how}, {:.1} MB", self.pods, bytes as f64 / 1e6);
        Samples::new(&name, samples, begun.elapsed(), meter.used()).print();
        Ok(())
    }

    /// The first bytes of an answer, which hold its metadata, and its size.
    async fn get(&self, query: &str, gzip: bool) -> Result<(Vec<u8>, usize)> {
        let mut request = http::Request::get(format!("{}?{query}", self.path));
        if gzip {
            request = request.header("accept-encoding", "gzip");
        }
        let response = self.client.send(request.body(kube::client::Body::empty())?).await?;
        ensure!(response.status() == 200, "a list was answered with {}", response.status());
        ensure!(response.headers().contains_key("content-encoding") == gzip, "compression is not as asked for");
        let (mut body, mut head, mut size) = (response.into_body(), Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            size += data.len();
            if head.len() < 4096 {
                head.extend_from_slice(&data);
            }
        }
        Ok((head, size))
    }

    async fn pages(&self) -> Result<usize> {
        let (mut total, mut token) = (0, String::new());
        loop {
            let (head, size) = self.get(&format!("limit={PAGE}&continue={token}"), false).await?;
            total += size;
            let head = String::from_utf8_lossy(&head);
            let (meta, _) = head.split_once("\"items\":").context("a list has items")?;
            match meta.split_once("\"continue\":\"").and_then(|(_, rest)| rest.split_once('"')) {
                Some((next, _)) if !next.is_empty() => token = next.to_owned(),
                _ => return Ok(total),
            }
        }
    }
}

/// Merge patches of one label of a pod of 10 KB, one after the other.
async fn large_patches(api: &Api<Pod>, pids: &[i32]) -> Result<()> {
    let mut large = pod(0, 1);
    large.metadata.name = Some("large".to_owned());
    let filler = large.metadata.annotations.get_or_insert_default();
    for n in 0..20 {
        filler.insert(format!("bench/filler-{n}"), "y".repeat(LARGE / 25));
    }
    let created = api.create(&PostParams::default(), &large).await?;
    let size = serde_json::to_vec(&created)?.len();
    let (meter, begun) = (CpuMeter::begin(pids), Instant::now());
    let mut samples = Vec::new();
    for index in 0..PATCHES {
        let begun = Instant::now();
        let patch = json!({"metadata": {"labels": {"index": index.to_string()}}});
        api.patch(created.meta().name.as_deref().unwrap_or_default(), &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        samples.push(begun.elapsed());
    }
    let name = format!("merge patch of a pod of {:.0} KB", size as f64 / 1e3);
    Samples::new(&name, samples, begun.elapsed(), meter.used()).print();
    Ok(())
}
