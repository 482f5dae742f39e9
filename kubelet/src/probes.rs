//! Probes: asks running containers whether they have started, are alive and are ready.
//!
//! Entry: [`Probes::follow`], called by a pod's worker after each look at the runtime. Invariants: one task per probe
//! of a running container and none for anything else; a pod without probes costs nothing; readiness and liveness
//! are not asked before the startup probe has succeeded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{EventType, Recorder};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Probe};
use process::Clock;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::checks::Target;
use crate::health::{Health, Healths, Verdict};
use crate::members::{Member, Role};
use crate::runtime::Runtime;
use crate::view::{PodView, RunState};

/// Which question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Startup,
    Readiness,
    Liveness,
}

/// What all probes of one pod need.
#[derive(Clone)]
pub struct Tools {
    pub runtime: Runtime,
    pub recorder: Recorder,
    pub clock: Clock,
    pub simulated: bool,
    /// Where results go.
    pub healths: Arc<Mutex<Healths>>,
    /// Who wants to know.
    pub changed: Arc<Notify>,
}

/// The probes of one pod; dropping it stops them.
pub struct Probes {
    tools: Tools,
    running: BTreeMap<(String, Kind), AbortHandle>,
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.running.values().for_each(AbortHandle::abort);
    }
}

impl Probes {
    /// None yet.
    pub fn new(tools: Tools) -> Self {
        Self { tools, running: BTreeMap::new() }
    }

    /// Starts the probes of containers that run, and stops those of containers that do not.
    pub fn follow(
        &mut self,
        all: &[Member],
        view: &PodView,
        pod_ip: &str,
        subject: impl Fn(&Member) -> ObjectReference,
        started: impl Fn(&Member) -> bool,
    ) {
        let is_running = |id: &str| view.running().any(|container| container.id == id);
        self.running.retain(|(id, _), task| {
            is_running(id) || {
                task.abort();
                false
            }
        });
        let mut healths = self.tools.healths.lock().unwrap_or_else(PoisonError::into_inner);
        healths.0.retain(|id, _| is_running(id));
        drop(healths);
        for member in all.iter().filter(|member| matches!(member.role, Role::Sidecar | Role::Regular)) {
            let Some(run) = view.newest(member.name()) else { continue };
            let RunState::Running { started_at } = run.state else { continue };
            for (kind, probe) in questions(&member.container) {
                let early = kind != Kind::Startup && !started(member);
                let key = (run.id.clone(), kind);
                if early || self.running.contains_key(&key) {
                    continue;
                }
                let asker = Asker {
                    tools: self.tools.clone(),
                    kind,
                    probe: probe.clone(),
                    container: member.container.clone(),
                    container_id: run.id.clone(),
                    pod_ip: pod_ip.to_owned(),
                    subject: subject(member),
                };
                self.running.insert(key, tokio::spawn(asker.run(started_at)).abort_handle());
            }
        }
    }
}

fn questions(container: &Container) -> impl Iterator<Item = (Kind, &Probe)> {
    let all = [
        (Kind::Startup, &container.startup_probe),
        (Kind::Readiness, &container.readiness_probe),
        (Kind::Liveness, &container.liveness_probe),
    ];
    all.into_iter().filter_map(|(kind, probe)| Some((kind, probe.as_ref()?)))
}

struct Asker {
    tools: Tools,
    kind: Kind,
    probe: Probe,
    container: Container,
    container_id: String,
    pod_ip: String,
    subject: ObjectReference,
}

impl Asker {
    async fn run(self, started_at: Timestamp) {
        let seconds = |value: Option<i32>, default| u64::try_from(value.unwrap_or(default)).unwrap_or(0);
        let delay = Duration::from_secs(seconds(self.probe.initial_delay_seconds, 0));
        let age = Duration::try_from(self.tools.clock.now().duration_since(started_at)).unwrap_or_default();
        tokio::time::sleep(delay.saturating_sub(age)).await;
        let period = Duration::from_secs(seconds(self.probe.period_seconds, 10).max(1));
        let threshold = |value: Option<i32>, default| value.unwrap_or(default).max(1);
        let (needed, allowed) =
            (threshold(self.probe.success_threshold, 1), threshold(self.probe.failure_threshold, 3));
        let (mut successes, mut failures) = (0, 0);
        loop {
            match self.ask().await {
                Ok(()) => (successes, failures) = (successes + 1, 0),
                Err(complaint) => {
                    (successes, failures) = (0, failures + 1);
                    self.complain(&complaint);
                }
            }
            let verdict = if successes >= needed {
                Some(Verdict::Success)
            } else if failures >= allowed {
                Some(Verdict::Failure)
            } else {
                None
            };
            if let Some(verdict) = verdict {
                self.tell(verdict);
            }
            let settled = match self.kind {
                Kind::Startup => verdict.is_some(),
                Kind::Liveness => verdict == Some(Verdict::Failure),
                Kind::Readiness => false,
            };
            if settled {
                return;
            }
            tokio::time::sleep(period).await;
        }
    }

    async fn ask(&self) -> Result<(), String> {
        let target = Target {
            runtime: &self.tools.runtime,
            container_id: &self.container_id,
            container: &self.container,
            pod_ip: &self.pod_ip,
            simulated: self.tools.simulated,
        };
        target.check(&self.probe).await
    }

    fn complain(&self, complaint: &str) {
        let word = match self.kind {
            Kind::Startup => "Startup",
            Kind::Readiness => "Readiness",
            Kind::Liveness => "Liveness",
        };
        let message = format!("{word} probe failed: {complaint}");
        self.tools.recorder.event(&self.subject, EventType::Warning, "Unhealthy", message);
    }

    /// Notes the verdict, and wakes the pod's worker if it is news.
    fn tell(&self, verdict: Verdict) {
        let mut healths = self.tools.healths.lock().unwrap_or_else(PoisonError::into_inner);
        let health: &mut Health = healths.0.entry(self.container_id.clone()).or_default();
        let place = match self.kind {
            Kind::Startup => &mut health.startup,
            Kind::Readiness => &mut health.readiness,
            Kind::Liveness => &mut health.liveness,
        };
        let news = *place != verdict;
        *place = verdict;
        drop(healths);
        if news {
            self.tools.changed.notify_one();
        }
    }
}
