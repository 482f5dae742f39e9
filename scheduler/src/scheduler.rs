//! The loop: takes one pod after another, decides, and lets the writes run beside it.
//!
//! Entry point: [`Scheduler::run`]. It sleeps until an informer, a back-off or a finished write wakes it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::ObjectKey;
use client::{Change, Informers, Recorder, Store, WatchConfig};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use process::metrics::{Counter, Gauge, Histogram, Registry, SECONDS};
use process::{Clock, Rng};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::bind::{Finished, Writer};
use crate::state::{State, Step};

/// How many writes may be under way at once.
const WRITES: usize = 64;
/// Pods that are over take no room and never wait.
const NOT_OVER: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// What a scheduler needs.
pub struct Scheduler {
    /// The API.
    pub client: kube::Client,
    /// The time of conditions and events.
    pub clock: Clock,
    /// Chooses among equally good nodes.
    pub rng: Rng,
    /// The host in the events; may be empty.
    pub host: String,
    /// Counts what happens.
    pub metrics: Registry,
}

impl Scheduler {
    /// Schedules until the token is cancelled.
    pub async fn run(self, token: CancellationToken) {
        let mut tasks = JoinSet::new();
        let name = api::well_known::DEFAULT_SCHEDULER;
        let recorder =
            Recorder::start(self.client.clone(), name, &self.host, self.clock, &mut tasks, token.child_token());
        let mut informers = Informers::new(self.rng.fork());
        let shared = Arc::new(Shared { state: Mutex::new(State::new(name)), changed: Notify::new() });
        let nodes: Store<Node> = informers.start(Api::all(self.client.clone()), WatchConfig::default(), Vec::new());
        let pods: Store<Pod> =
            informers.start(Api::all(self.client.clone()), WatchConfig::default().fields(NOT_OVER), Vec::new());
        shared.follow(&nodes, &pods);
        let filled = async {
            nodes.synced().await;
            pods.synced().await;
        };
        tokio::select! {
            biased;
            () = token.cancelled() => return,
            () = filled => {}
        }
        let writer = Writer { client: self.client, recorder, clock: self.clock, pods: pods.progress() };
        let work =
            Loop { shared, pods, writer, rng: self.rng, metrics: Metrics::new(&self.metrics), writes: JoinSet::new() };
        work.run(token).await;
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(self: &Arc<Self>, nodes: &Store<Node>, pods: &Store<Pod>) {
        let shared = self.clone();
        nodes.on_change(move |change: Change<Node>| {
            shared.state().node_changed(&change, Instant::now());
            shared.changed.notify_one();
        });
        let shared = self.clone();
        pods.on_change(move |change: Change<Pod>| {
            shared.state().pod_changed(&change, Instant::now());
            shared.changed.notify_one();
        });
    }
}

struct Loop {
    shared: Arc<Shared>,
    pods: Store<Pod>,
    writer: Writer,
    rng: Rng,
    metrics: Metrics,
    writes: JoinSet<Finished>,
}

impl Loop {
    async fn run(mut self, token: CancellationToken) {
        while !token.is_cancelled() {
            while let Some(finished) = self.writes.try_join_next() {
                self.finish(finished);
            }
            if self.writes.len() >= WRITES {
                tokio::select! {
                    biased;
                    () = token.cancelled() => return,
                    finished = self.writes.join_next() => if let Some(finished) = finished { self.finish(finished) },
                }
                continue;
            }
            let started = Instant::now();
            let step = self.shared.state().step(started, self.rng.range(0..u64::MAX));
            match step {
                Step::Wait(until) => self.wait(until, &token).await,
                step => {
                    self.metrics.decided(&step, started);
                    self.write(step);
                }
            }
        }
    }

    fn write(&mut self, step: Step) {
        let writer = self.writer.clone();
        match step {
            Step::Bind(attempt, node) => self.writes.spawn(writer.bind(*attempt, node)),
            Step::Report(pod, why) => {
                tracing::debug!(pod = %pod.key, %why, "unschedulable");
                self.writes.spawn(writer.report(*pod, why, None))
            }
            Step::Displace { pod, message, node, victims } => {
                self.writes.spawn(writer.displace(*pod, message, node, victims))
            }
            Step::Wait(_) => return,
        };
    }

    async fn wait(&mut self, until: Option<Instant>, token: &CancellationToken) {
        self.metrics.waiting(self.shared.state().waiting());
        let writing = !self.writes.is_empty();
        tokio::select! {
            biased;
            () = token.cancelled() => {}
            finished = self.writes.join_next(), if writing => {
                if let Some(finished) = finished {
                    self.finish(finished);
                }
            }
            () = self.shared.changed.notified() => {}
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
        }
    }

    fn finish(&self, finished: Result<Finished, tokio::task::JoinError>) {
        match finished {
            Ok(Finished::Bound | Finished::Reported) => {}
            Ok(Finished::NotBound(attempt)) => {
                self.metrics.errors.increment();
                let pod = self.pods.get(&ObjectKey::of(&attempt.pod.pod.metadata));
                self.shared.state().not_bound(*attempt, pod, Instant::now());
            }
            Err(error) => tracing::error!(%error, "a write broke"),
        }
    }
}

struct Metrics {
    scheduled: Counter,
    unschedulable: Counter,
    errors: Counter,
    latency: Histogram,
    active: Gauge,
    backoff: Gauge,
    parked: Gauge,
}

impl Metrics {
    fn new(registry: &Registry) -> Self {
        let attempts = |result| {
            let labels = [("profile", api::well_known::DEFAULT_SCHEDULER), ("result", result)];
            let help = "Number of attempts to schedule pods, by the result.";
            registry.counter("scheduler_schedule_attempts_total", help, &labels)
        };
        let pending = |queue| {
            registry.gauge("scheduler_pending_pods", "Number of pending pods, by the queue.", &[("queue", queue)])
        };
        Self {
            scheduled: attempts("scheduled"),
            unschedulable: attempts("unschedulable"),
            errors: attempts("error"),
            latency: registry.histogram(
                "scheduler_scheduling_algorithm_duration_seconds",
                "Scheduling algorithm latency in seconds.",
                &[],
                SECONDS,
            ),
            active: pending("active"),
            backoff: pending("backoff"),
            parked: pending("unschedulable"),
        }
    }

    fn decided(&self, step: &Step, started: Instant) {
        self.latency.observe(started.elapsed());
        match step {
            Step::Bind(..) => self.scheduled.increment(),
            Step::Report(..) | Step::Displace { .. } => self.unschedulable.increment(),
            Step::Wait(_) => {}
        }
    }

    fn waiting(&self, (active, backoff, parked): (usize, usize, usize)) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.active.set(number(active));
        self.backoff.set(number(backoff));
        self.parked.set(number(parked));
    }
}
