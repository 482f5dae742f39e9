//! Ends a pod, or some of its containers: hooks, the stop signal, SIGKILL, and then what they leave behind.
//!
//! Entry: [`Worker::terminate`], [`Worker::kill_all`], [`Worker::clean`]. Invariants: sidecars go after the containers
//! they serve; a hook and the stop share one grace period; every step may be repeated.

use std::time::Duration;

use client::EventType;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::{Instant, timeout};

use crate::actions::Kill;
use crate::checks::Target;
use crate::members::{Member, Role, members};
use crate::shared::{key, subject};
use crate::worker::Worker;

/// However short the grace period: a container gets this long to end by itself.
const SHORTEST_GRACE: i64 = 2;

/// What stopping one container takes.
struct Stop<'a> {
    id: &'a str,
    name: &'a str,
    message: String,
    grace_seconds: i64,
}

impl Worker {
    /// Ends everything of the pod that runs.
    pub(crate) async fn terminate(&mut self, pod: &Pod, grace_seconds: i64) {
        let all = members(pod);
        let begun = Instant::now();
        let is_sidecar = |name: &str| all.iter().any(|m| m.name() == name && m.role == Role::Sidecar);
        let running: Vec<(String, String)> =
            self.view.running().map(|container| (container.id.clone(), container.name.clone())).collect();
        let stop = |(id, name): &(String, String), grace_seconds| {
            (id.clone(), name.clone(), format!("Stopping container {name}"), grace_seconds)
        };
        let first = running.iter().filter(|(_, name)| !is_sidecar(name)).map(|one| stop(one, grace_seconds));
        self.stop_together(pod, &all, first.collect()).await;
        for member in all.iter().rev().filter(|member| member.role == Role::Sidecar) {
            let used = i64::try_from(begun.elapsed().as_secs()).unwrap_or(i64::MAX);
            let left = grace_seconds.saturating_sub(used).max(0);
            let mine = running.iter().filter(|(_, name)| name == member.name()).map(|one| stop(one, left));
            self.stop_together(pod, &all, mine.collect()).await;
        }
        for sandbox in self.view.sandboxes.iter().filter(|sandbox| sandbox.ready) {
            if let Err(status) = self.shared.runtime.stop_sandbox(&sandbox.id).await {
                tracing::warn!(pod = %key(pod), error = status.message(), "sandbox not stopped");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Ends the containers that were found to be wrong.
    pub(crate) async fn kill_all(&mut self, pod: &Pod, kills: &[Kill]) {
        let usual = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        let stops = kills.iter().map(|kill| {
            (kill.id.clone(), kill.name.clone(), kill.message.clone(), kill.grace_seconds.unwrap_or(usual))
        });
        self.stop_together(pod, &members(pod), stops.collect()).await;
    }

    async fn stop_together(&mut self, pod: &Pod, all: &[Member], stops: Vec<(String, String, String, i64)>) {
        let ids: Vec<String> = stops.iter().map(|(id, ..)| id.clone()).collect();
        let one_by_one = stops.iter().map(|(id, name, message, grace_seconds)| {
            let member = all.iter().find(|member| member.name() == name);
            let stop = Stop { id, name, message: message.clone(), grace_seconds: *grace_seconds };
            self.stop_one(pod, member, stop)
        });
        join_all(one_by_one).await;
        self.pre_stopped.extend(ids);
    }

    async fn stop_one(&self, pod: &Pod, member: Option<&Member>, stop: Stop<'_>) {
        self.shared.recorder.event(&subject(pod, member), EventType::Normal, "Killing", stop.message.clone());
        let mut left = stop.grace_seconds;
        let hook = member.and_then(|member| member.container.lifecycle.as_ref()?.pre_stop.as_ref());
        if let (Some(member), Some(hook)) = (member, hook)
            && left > 0
            && !self.pre_stopped.contains(stop.id)
        {
            let begun = Instant::now();
            let sandbox = self.view.sandbox();
            let ip = sandbox.and_then(|sandbox| sandbox.ips.first().cloned()).unwrap_or_default();
            let target = Target {
                runtime: &self.shared.runtime,
                container_id: stop.id,
                container: &member.container,
                pod_ip: &ip,
                simulated: self.shared.config.host.is_simulated(),
            };
            let limit = Duration::from_secs(u64::try_from(left).unwrap_or(0));
            let complaint = match timeout(limit, target.call(hook)).await {
                Ok(Ok(())) => None,
                Ok(Err(complaint)) => Some(complaint),
                Err(_) => Some("the grace period ran out".to_owned()),
            };
            if let Some(complaint) = complaint {
                let message = format!("PreStopHook failed: {complaint}");
                let subject = subject(pod, Some(member));
                self.shared.recorder.event(&subject, EventType::Warning, "FailedPreStopHook", message);
            }
            left -= i64::try_from(begun.elapsed().as_secs()).unwrap_or(0);
        }
        if let Err(status) = self.shared.runtime.stop_container(stop.id, left.max(SHORTEST_GRACE)).await {
            let name = stop.name;
            tracing::warn!(pod = %key(pod), container = name, error = status.message(), "container not stopped");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Removes what a stopped pod left behind: containers, sandboxes, volumes, logs.
    pub(crate) async fn clean(&mut self) -> Result<(), String> {
        let runtime = &self.shared.runtime;
        for container in &self.view.containers {
            runtime.remove_container(&container.id).await.map_err(|status| status.message().to_owned())?;
        }
        for sandbox in &self.view.sandboxes {
            runtime.remove_sandbox(&sandbox.id).await.map_err(|status| status.message().to_owned())?;
        }
        self.shared.volumes.tear_down(&self.uid).map_err(|error| error.to_string())?;
        let meta = &self.news.pod.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let logs = self.shared.config.pod_log_dir(&text(&meta.namespace), &text(&meta.name), &self.uid);
        match logs.map(std::fs::remove_dir_all) {
            Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
            Some(_) | None => Ok(()),
        }
    }
}
