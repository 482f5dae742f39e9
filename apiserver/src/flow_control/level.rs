//! A priority level at work: who runs, who waits, and who is told when a seat is free. Entry point: [`Level::enter`].
//!
//! Invariant: the lock is held for a few steps of arithmetic only; whoever runs next is told after it is free again, in order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderValue;
use process::metrics::{Gauge, Registry};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::queues::{Arrival, Queues, Running, Settings, Ticket};
use super::shares::{Bounds, Terms};

/// A request waits no longer than a quarter of the time that it may take.
const WAIT_LIMIT: Duration = Duration::from_secs(15);

/// See the module.
pub struct Level {
    /// Its name.
    pub name: String,
    /// Its uid, for the header of answers.
    pub uid: HeaderValue,
    /// Shares, and what it lends and borrows.
    pub terms: Terms,
    kind: Kind,
    gauges: Gauges,
}

enum Kind {
    Exempt,
    Limited { settings: Settings, state: Mutex<State> },
}

struct State {
    queues: Queues<oneshot::Sender<Seat>>,
    bounds: Bounds,
}

struct Gauges {
    executing: Gauge,
    waiting: Gauge,
    seats: Gauge,
    nominal: Gauge,
    limit: Gauge,
}

/// The right to run; the seats are free again when it is dropped.
pub struct Seat {
    level: Arc<Level>,
    running: Option<Running>,
}

/// Why a request may not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The level has no queues, and all its seats are taken.
    ConcurrencyLimit,
    /// The queue is full.
    QueueFull,
    /// It waited too long.
    TimeOut,
}

impl Refusal {
    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::QueueFull => "queue-full",
            Self::TimeOut => "time-out",
        }
    }
}

/// A place in a queue, given up when it is dropped.
struct Queued {
    level: Arc<Level>,
    ticket: Ticket,
}

impl Gauges {
    fn new(registry: &Registry, level: &str) -> Self {
        let labels = [("priority_level", level)];
        let gauge = |name, help| registry.gauge(name, help, &labels);
        Self {
            executing: gauge(
                "apiserver_flowcontrol_current_executing_requests",
                "Requests of a priority level that run.",
            ),
            waiting: gauge("apiserver_flowcontrol_current_inqueue_requests", "Requests of a priority level that wait."),
            seats: gauge("apiserver_flowcontrol_current_executing_seats", "Seats of a priority level in use."),
            nominal: gauge("apiserver_flowcontrol_nominal_limit_seats", "Seats of a priority level by its shares."),
            limit: gauge("apiserver_flowcontrol_current_limit_seats", "Seats that a priority level has now."),
        }
    }
}

impl Level {
    /// A level without limits.
    pub fn exempt(name: &str, uid: HeaderValue, terms: Terms, registry: &Registry) -> Self {
        Self { name: name.to_owned(), uid, terms, kind: Kind::Exempt, gauges: Gauges::new(registry, name) }
    }

    /// A level with queues; it has no seats before [`Self::set_bounds`].
    pub fn limited(name: &str, uid: HeaderValue, terms: Terms, settings: Settings, registry: &Registry) -> Self {
        let queues = Queues::new(settings, 0, Instant::now());
        let state = Mutex::new(State { queues, bounds: Bounds::default() });
        let kind = Kind::Limited { settings, state };
        Self { name: name.to_owned(), uid, terms, kind, gauges: Gauges::new(registry, name) }
    }

    /// Whether requests of this level are never limited.
    pub fn is_exempt(&self) -> bool {
        matches!(self.kind, Kind::Exempt)
    }

    /// The queues of a limited level.
    pub fn settings(&self) -> Option<Settings> {
        match &self.kind {
            Kind::Exempt => None,
            Kind::Limited { settings, .. } => Some(*settings),
        }
    }

    fn state(&self) -> Option<MutexGuard<'_, State>> {
        match &self.kind {
            Kind::Exempt => None,
            Kind::Limited { state, .. } => Some(state.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Its bounds, and the seats that are in use or waited for.
    pub fn demand(&self) -> (Bounds, u32) {
        self.state().map(|state| (state.bounds, state.queues.demand())).unwrap_or_default()
    }

    /// What its shares come to.
    pub fn set_bounds(self: &Arc<Self>, bounds: Bounds) {
        if let Some(mut state) = self.state() {
            state.bounds = bounds;
        }
        self.gauges.nominal.set(bounds.nominal.into());
        self.set_limit(bounds.nominal);
    }

    /// How many seats it has now.
    pub fn set_limit(self: &Arc<Self>, limit: u32) {
        let Some(mut state) = self.state() else { return };
        let woken = state.queues.set_limit(limit, Instant::now());
        self.show(&state);
        drop(state);
        self.gauges.limit.set(limit.into());
        self.wake(woken);
    }

    /// The most seats that one list may take.
    pub fn widest(&self) -> u32 {
        self.state().map_or(u32::MAX, |state| (state.bounds.nominal * 15).div_ceil(100).max(1))
    }

    /// Whether a request of this width runs at once.
    pub fn has_room(&self, seats: u32) -> bool {
        self.state().is_none_or(|state| state.queues.has_room(seats))
    }

    /// Takes seats as soon as it is the request's turn.
    pub async fn enter(self: &Arc<Self>, hash: u64, seats: u32) -> Result<Seat, Refusal> {
        let (queued, turn) = match self.arrive(hash, seats) {
            Ok(seat) => return Ok(seat),
            Err(Some(waits)) => waits,
            Err(None) if self.settings().is_some_and(|settings| settings.queues == 0) => {
                return Err(Refusal::ConcurrencyLimit);
            }
            Err(None) => return Err(Refusal::QueueFull),
        };
        let seat = timeout(WAIT_LIMIT, turn).await;
        drop(queued);
        match seat {
            Ok(Ok(seat)) => Ok(seat),
            Ok(Err(_)) | Err(_) => Err(Refusal::TimeOut),
        }
    }

    /// A seat, or a place in a queue and the news of one, or nothing.
    fn arrive(self: &Arc<Self>, hash: u64, seats: u32) -> Result<Seat, Option<(Queued, oneshot::Receiver<Seat>)>> {
        let seat = |running| Seat { level: Arc::clone(self), running };
        let Some(mut state) = self.state() else {
            self.gauges.executing.add(1);
            return Ok(seat(None));
        };
        let mut turn = None;
        let waker = || {
            let (waker, receiver) = oneshot::channel();
            turn = Some(receiver);
            waker
        };
        let arrival = state.queues.arrive(Instant::now(), hash, seats, waker);
        self.show(&state);
        drop(state);
        match (arrival, turn) {
            (Arrival::Run(running), _) => Ok(seat(Some(running))),
            (Arrival::Wait(ticket), Some(turn)) => Err(Some((Queued { level: Arc::clone(self), ticket }, turn))),
            (Arrival::Wait(_) | Arrival::Full, _) => Err(None),
        }
    }

    fn wake(self: &Arc<Self>, woken: Vec<(oneshot::Sender<Seat>, Running)>) {
        for (waker, running) in woken {
            // Who has given up meanwhile drops the seat, which passes it on.
            let _ = waker.send(Seat { level: Arc::clone(self), running: Some(running) });
        }
    }

    fn show(&self, state: &State) {
        self.gauges.executing.set(state.queues.executing().into());
        self.gauges.waiting.set(state.queues.waiting().into());
        self.gauges.seats.set(state.queues.seats_in_use().into());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(mut state) = self.level.state() else {
            self.level.gauges.executing.add(-1);
            return;
        };
        let Some(running) = self.running.take() else { return };
        let woken = state.queues.finish(Instant::now(), &running);
        self.level.show(&state);
        drop(state);
        self.level.wake(woken);
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some(mut state) = self.level.state() {
            state.queues.leave(Instant::now(), &self.ticket);
            self.level.show(&state);
        }
    }
}
