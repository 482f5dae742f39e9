//! The life of one pod on this node: look, decide, report, act, wait for news.
//!
//! Entry: [`Worker::run`]. Invariants: it acts only on what [`lifecycle::next`] and [`actions::compute`] decide; it waits
//! without a timer unless something is due; what it was doing is given up when the pod's end becomes more urgent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::EventType;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::actions::{self, Actions, full_name};
use crate::admit;
use crate::backoff::Backoffs;
use crate::health::{Healths, known_status};
use crate::lifecycle::{self, Facts, Stage};
use crate::members::members;
use crate::pod_workers::{Inbox, News};
use crate::probes::{Probes, Tools};
use crate::shared::{Shared, key, subject};
use crate::sources;
use crate::status::{self, Verdict, Waiting};
use crate::status_writer::with_foreign_conditions;
use crate::view::PodView;
use crate::volumes::Tokens;

/// How soon a look at the runtime that failed is repeated.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const DEFAULT_GRACE: i64 = 30;

/// Everything known about one pod.
pub struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) uid: String,
    inbox: Arc<Inbox>,
    pub(crate) news: News,
    pub(crate) view: PodView,
    stale: bool,
    admitted: bool,
    pub(crate) healths: Arc<Mutex<Healths>>,
    probes: Probes,
    pub(crate) backoffs: Backoffs,
    pub(crate) image_backoffs: Backoffs,
    pub(crate) waiting: BTreeMap<String, Waiting>,
    failed: Option<Verdict>,
    pub(crate) tokens: Tokens,
    pub(crate) tokens_due: Option<Timestamp>,
    /// Failed attempts to set up the volumes, in a row.
    pub(crate) mount_failures: u32,
    pub(crate) volumes_stale: bool,
    pub(crate) retry_at: Option<Timestamp>,
    pub(crate) pre_stopped: BTreeSet<String>,
    reported: Option<PodStatus>,
    leaving: bool,
}

impl Worker {
    /// A worker that knows only its pod.
    pub fn new(shared: Arc<Shared>, uid: String, inbox: Arc<Inbox>) -> Self {
        let healths: Arc<Mutex<Healths>> = Arc::default();
        let tools = Tools {
            runtime: shared.runtime.clone(),
            recorder: shared.recorder.clone(),
            clock: shared.clock,
            simulated: shared.config.host.is_simulated(),
            healths: healths.clone(),
            changed: inbox.changed.clone(),
        };
        Self {
            news: inbox.take(),
            shared,
            uid,
            inbox,
            view: PodView::default(),
            stale: true,
            admitted: false,
            healths,
            probes: Probes::new(tools),
            backoffs: Backoffs::default(),
            image_backoffs: Backoffs::default(),
            waiting: BTreeMap::new(),
            failed: None,
            tokens: Tokens::new(),
            tokens_due: None,
            mount_failures: 0,
            volumes_stale: true,
            retry_at: None,
            pre_stopped: BTreeSet::new(),
            reported: None,
            leaving: false,
        }
    }

    /// Works until nothing of the pod is left.
    pub async fn run(mut self) {
        loop {
            self.take_news();
            if self.stale {
                match self.shared.runtime.observe(&self.uid).await {
                    Ok(view) => {
                        self.inbox.saw(&view);
                        (self.view, self.stale) = (view, false);
                    }
                    Err(status) => {
                        tracing::warn!(pod = %key(&self.news.pod), error = status.message(), "runtime not observed");
                        let inbox = self.inbox.clone();
                        let _ = tokio::time::timeout(LOOK_AGAIN, inbox.changed.notified()).await;
                        continue;
                    }
                }
            }
            if self.pass().await {
                self.shared.references.release(&self.uid);
                self.shared.status_writer.forget(&self.uid);
                if self.shared.workers.finish(&self.uid) {
                    return;
                }
                self = Self::new(self.shared.clone(), self.uid.clone(), self.inbox.clone());
            }
        }
    }

    fn take_news(&mut self) {
        self.news = self.inbox.take();
        self.stale |= self.news.runtime_changed;
        self.volumes_stale |= self.news.objects_changed;
    }

    /// One round; true when nothing is left to do for ever.
    async fn pass(&mut self) -> bool {
        let now = self.shared.clock.now();
        self.admit();
        self.check_deadline(now);
        let pod = self.pod_with_status();
        let actions = self.compute(&pod, now);
        let stage = lifecycle::next(&self.facts(&actions));
        self.note_back_offs(&actions);
        self.follow_probes(&pod);
        self.report(&pod, &stage, now);
        let inbox = self.inbox.clone();
        let known = self.news.clone();
        let heard = AtomicBool::new(false);
        let acted = {
            let act = self.act(&pod, stage, &actions, now);
            tokio::select! {
                biased;
                () = inbox.more_urgent(&known, &heard) => Acted::Changed,
                acted = act => acted,
            }
        };
        match acted {
            Acted::Changed => self.stale = true,
            Acted::Left => return true,
            Acted::Nothing if heard.load(Ordering::Relaxed) => {}
            Acted::Nothing => self.wait(&actions).await,
        }
        false
    }

    /// The pod with the status last reported, since the API may be behind it.
    fn pod_with_status(&self) -> Pod {
        let mut pod = Pod::clone(&self.news.pod);
        let Some(mine) = &self.reported else { return pod };
        if api::pods::is_terminal(&pod) && !matches!(mine.phase.as_deref(), Some("Failed" | "Succeeded")) {
            return pod;
        }
        pod.status = Some(with_foreign_conditions(mine, &pod));
        pod
    }

    fn healths(&self) -> Healths {
        self.healths.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the pod may run here is asked once, and not about pods that already did.
    fn admit(&mut self) {
        let pod = &self.news.pod;
        if self.admitted || self.failed.is_some() || self.is_ending() {
            return;
        }
        let ran = !self.view.containers.is_empty() || api::pods::phase(pod) == "Running";
        let node = self.shared.node();
        let offer = admit::Offer { labels: &node.labels, allocatable: &node.facts.allocatable };
        let others = self.shared.workers.admitted(&self.uid);
        let others: Vec<&Pod> = others.iter().map(Arc::as_ref).collect();
        match if ran { Ok(()) } else { admit::check(pod, &others, &offer) } {
            Ok(()) => {
                self.admitted = true;
                self.shared.workers.admit(&self.uid);
            }
            Err(verdict) => {
                let message = verdict.message.trim_start_matches("Pod was rejected: ").to_owned();
                self.shared.recorder.event(&subject(pod, None), EventType::Warning, &verdict.reason, message);
                self.failed = Some(verdict);
            }
        }
    }

    fn is_ending(&self) -> bool {
        self.news.gone || self.news.pod.metadata.deletion_timestamp.is_some() || api::pods::is_terminal(&self.news.pod)
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.news.pod.spec.as_ref()?.active_deadline_seconds?;
        let start = self.reported.as_ref().and_then(|status| status.start_time.clone());
        let start = start.or_else(|| self.news.pod.status.as_ref()?.start_time.clone())?;
        start.0.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    fn check_deadline(&mut self, now: Timestamp) {
        if self.failed.is_some() || self.is_ending() || self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        let verdict = Verdict { reason: "DeadlineExceeded".into(), message };
        let subject = subject(&self.news.pod, None);
        self.shared.recorder.event(&subject, EventType::Normal, &verdict.reason, verdict.message.clone());
        self.failed = Some(verdict);
    }

    fn compute(&self, pod: &Pod, now: Timestamp) -> Actions {
        if self.failed.is_some() || self.is_ending() {
            return Actions::default();
        }
        let healths = self.healths();
        let (view, backoffs) = (&self.view, &self.backoffs);
        actions::compute(&actions::Input { pod, view, healths: &healths, backoffs, now })
    }

    fn facts(&self, actions: &Actions) -> Facts {
        let pod = &self.news.pod;
        let deleted = pod.metadata.deletion_timestamp.is_some();
        let spec_grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        Facts {
            rejected: self.failed.is_some() && !self.admitted,
            deletion_grace: deleted.then(|| pod.metadata.deletion_grace_period_seconds.unwrap_or(DEFAULT_GRACE)),
            orphaned: self.news.gone,
            terminal: api::pods::is_terminal(pod),
            past_deadline: self.failed.is_some() && self.admitted,
            completed: actions.completed,
            stopped: self.view.is_stopped(),
            clean: self.view == PodView::default() && self.shared.volumes.is_clean(&self.uid),
            spec_grace: spec_grace.unwrap_or(DEFAULT_GRACE),
        }
    }

    /// A container that begins to wait is said to do so.
    fn note_back_offs(&mut self, actions: &Actions) {
        for one in &actions.backing_off {
            let waiting = Waiting { reason: "CrashLoopBackOff".into(), message: one.message.clone() };
            if self.waiting.get(&one.name) == Some(&waiting) {
                continue;
            }
            let all = members(&self.news.pod);
            let member = all.iter().find(|member| member.name() == one.name);
            let full = full_name(&self.news.pod);
            let message = format!("Back-off restarting failed container {} in pod {full}", one.name);
            self.shared.recorder.event(&subject(&self.news.pod, member), EventType::Warning, "BackOff", message);
            self.waiting.insert(one.name.clone(), waiting);
        }
    }

    fn follow_probes(&mut self, pod: &Pod) {
        let all = members(pod);
        let view = if self.is_ending() { PodView::default() } else { self.view.clone() };
        let healths = self.healths();
        let host = self.shared.node().facts.ips.first().cloned().unwrap_or_default();
        let ip = view.sandbox().and_then(|sandbox| sandbox.ips.first().cloned()).unwrap_or(host);
        let started = |member: &crate::members::Member| {
            let run = view.newest(member.name());
            run.is_some_and(|run| healths.started(member, run, known_status(pod, member)))
        };
        self.probes.follow(&all, &view, &ip, |member| subject(pod, Some(member)), started);
    }

    /// Tells the API how the pod is, if that is news.
    fn report(&mut self, pod: &Pod, stage: &Stage, now: Timestamp) {
        if self.news.gone || pod.spec.is_none() {
            return;
        }
        let ended = matches!(stage, Stage::Clean | Stage::Rest | Stage::Leave);
        let node = self.shared.node();
        let healths = self.healths();
        let status = status::derive(&status::Input {
            pod,
            view: &self.view,
            healths: &healths,
            waiting: &self.waiting,
            failed: self.failed.as_ref(),
            ended,
            host_ips: &node.facts.ips,
            now,
        });
        // Where the API says something else, its record is late, which the writer knows, or somebody wrote over it.
        if self.reported.as_ref() == Some(&status)
            && self.news.pod.status.as_ref() == Some(&with_foreign_conditions(&status, &self.news.pod))
        {
            return;
        }
        if let Some(uid) = sources::record_uid(&self.shared.pods, pod) {
            self.shared.status_writer.put(key(pod), &uid, status.clone());
        }
        self.reported = Some(status);
    }

    async fn act(&mut self, pod: &Pod, stage: Stage, actions: &Actions, now: Timestamp) -> Acted {
        match stage {
            Stage::Run => {
                if self.retry_at.is_some_and(|at| now < at) && !self.volumes_stale && actions.kill.is_empty() {
                    return Acted::Nothing;
                }
                self.retry_at = None;
                if self.keep(pod, actions).await { Acted::Changed } else { Acted::Nothing }
            }
            Stage::Terminate { grace_seconds } => {
                self.terminate(pod, grace_seconds).await;
                Acted::Changed
            }
            Stage::Clean => {
                if let Err(error) = self.clean().await {
                    tracing::warn!(pod = %key(pod), error, "not cleaned up");
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Acted::Changed
            }
            Stage::Rest => Acted::Nothing,
            Stage::Leave if self.news.gone => Acted::Left,
            Stage::Leave => {
                if !self.leaving && !sources::is_static(pod) {
                    self.leaving = true;
                    self.shared.status_writer.delete(key(pod), &self.uid);
                }
                Acted::Nothing
            }
        }
    }

    /// Until there is news, or something is due.
    async fn wait(&self, actions: &Actions) {
        let deadline = if self.failed.is_none() && !self.is_ending() { self.deadline() } else { None };
        let tokens = if self.is_ending() { None } else { self.tokens_due };
        let due = [actions.wake_at, self.retry_at, deadline, tokens].into_iter().flatten().min();
        let Some(due) = due else {
            self.inbox.changed.notified().await;
            return;
        };
        let left = Duration::try_from(due.duration_since(self.shared.clock.now())).unwrap_or_default();
        let _ = tokio::time::timeout(left, self.inbox.changed.notified()).await;
    }
}

/// What a round came to.
enum Acted {
    Nothing,
    /// Something was done, or has to be done differently: look again.
    Changed,
    /// Nothing of the pod is left.
    Left,
}
