//! The fair queues of one priority level, as data: who runs now, who waits, who is next. Entry points: [`Queues::arrive`],
//! [`Queues::finish`].
//!
//! Fair queuing as KEP-1040 describes it: a meter `r` counts the seat-seconds that each busy queue has had a right to; the queue
//! whose oldest request would be done first by that meter is served next. A flow that fills its queues therefore waits for
//! itself, and a flow with one request finds a short queue in its hand. Invariant: seats in use exceed the limit only where the
//! limit was lowered, or where one request alone is wider than the limit.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::shuffle;

/// How long a request is expected to take, in seconds, until it has ended.
const EXPECTED_SECONDS: f64 = 0.003;

/// How many queues there are, and how many requests they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// None means that what can't run at once is refused.
    pub queues: usize,
    /// How many of them a flow may use.
    pub hand: usize,
    /// How many requests wait in each.
    pub length: usize,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Arrival {
    /// It runs.
    Run(Running),
    /// It waits.
    Wait(Ticket),
    /// There is no seat, and no place to wait for one.
    Full,
}

/// A request that runs, to be given to [`Queues::finish`].
#[derive(Debug)]
pub struct Running {
    queue: Option<usize>,
    seats: u32,
    started: Instant,
}

/// A request that waits, to be given to [`Queues::leave`] if it gives up.
#[derive(Debug)]
pub struct Ticket {
    queue: usize,
    number: u64,
}

struct Queue<W> {
    /// Where the meter stands for the next request.
    start: f64,
    executing: u32,
    waiting: VecDeque<Waiting<W>>,
    waiting_seats: u32,
}

struct Waiting<W> {
    number: u64,
    seats: u32,
    arrived: f64,
    waker: W,
}

/// See the module. `W` is how a waiting request is told that it runs.
pub struct Queues<W> {
    settings: Settings,
    limit: u32,
    queues: Vec<Queue<W>>,
    seats_in_use: u32,
    executing: u32,
    waiting: u32,
    waiting_seats: u32,
    /// Queues with requests, waiting or not.
    busy: u32,
    r: f64,
    last: Instant,
    robin: usize,
    numbers: u64,
}

impl<W> Queue<W> {
    fn is_idle(&self) -> bool {
        self.executing == 0 && self.waiting.is_empty()
    }
}

impl<W> Queues<W> {
    /// Empty queues with so many seats.
    pub fn new(settings: Settings, limit: u32, now: Instant) -> Self {
        let queue = || Queue { start: 0.0, executing: 0, waiting: VecDeque::new(), waiting_seats: 0 };
        Self {
            settings,
            limit,
            queues: (0..settings.queues).map(|_| queue()).collect(),
            seats_in_use: 0,
            executing: 0,
            waiting: 0,
            waiting_seats: 0,
            busy: 0,
            r: 0.0,
            last: now,
            robin: 0,
            numbers: 0,
        }
    }

    /// Seats that are in use or waited for.
    pub fn demand(&self) -> u32 {
        self.seats_in_use + self.waiting_seats
    }

    /// Seats in use.
    pub fn seats_in_use(&self) -> u32 {
        self.seats_in_use
    }

    /// Requests that run.
    pub fn executing(&self) -> u32 {
        self.executing
    }

    /// Requests that wait.
    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Whether a request of this width would run at once.
    pub fn has_room(&self, seats: u32) -> bool {
        self.waiting == 0 && self.accommodates(seats)
    }

    /// Changes the number of seats; returns who may run now.
    pub fn set_limit(&mut self, limit: u32, now: Instant) -> Vec<(W, Running)> {
        self.sync(now);
        self.limit = limit;
        self.dispatch(now)
    }

    /// A request of the flow with this hash wants so many seats. It is told by `waker` if it has to wait; others may run because
    /// of it only by [`Self::finish`], never before it.
    pub fn arrive(&mut self, now: Instant, hash: u64, seats: u32, waker: impl FnOnce() -> W) -> Arrival {
        self.sync(now);
        if self.settings.queues == 0 {
            if !self.accommodates(seats) {
                return Arrival::Full;
            }
            self.executing += 1;
            self.seats_in_use += seats;
            return Arrival::Run(Running { queue: None, seats, started: now });
        }
        let chosen = self.choose(hash);
        if self.has_room(seats) {
            return Arrival::Run(self.start(chosen, seats, now));
        }
        if self.seats_in_use >= self.limit && self.queues[chosen].waiting.len() >= self.settings.length {
            return Arrival::Full;
        }
        let number = self.numbers;
        self.numbers += 1;
        self.wake_queue(chosen);
        let queue = &mut self.queues[chosen];
        queue.waiting.push_back(Waiting { number, seats, arrived: self.r, waker: waker() });
        queue.waiting_seats += seats;
        self.waiting += 1;
        self.waiting_seats += seats;
        self.bound(chosen);
        Arrival::Wait(Ticket { queue: chosen, number })
    }

    /// A request has ended; returns who runs in its place.
    pub fn finish(&mut self, now: Instant, running: &Running) -> Vec<(W, Running)> {
        self.sync(now);
        self.executing -= 1;
        self.seats_in_use -= running.seats;
        if let Some(at) = running.queue {
            let took = now.saturating_duration_since(running.started).as_secs_f64();
            let queue = &mut self.queues[at];
            queue.executing -= 1;
            // The queue was charged what a request usually takes.
            queue.start -= f64::from(running.seats) * (EXPECTED_SECONDS - took);
            if queue.is_idle() {
                self.busy -= 1;
            }
            self.bound(at);
        }
        self.dispatch(now)
    }

    /// A request stops waiting; false if it was not there any more.
    pub fn leave(&mut self, now: Instant, ticket: &Ticket) -> bool {
        self.sync(now);
        let queue = &mut self.queues[ticket.queue];
        let found = queue.waiting.binary_search_by_key(&ticket.number, |waiting| waiting.number);
        let Some(gone) = found.ok().and_then(|at| queue.waiting.remove(at)) else { return false };
        queue.waiting_seats -= gone.seats;
        self.waiting -= 1;
        self.waiting_seats -= gone.seats;
        if self.queues[ticket.queue].is_idle() {
            self.busy -= 1;
        }
        self.bound(ticket.queue);
        true
    }

    fn accommodates(&self, seats: u32) -> bool {
        if seats > self.limit {
            // Wider than all there is: alone.
            return self.executing == 0 && self.limit > 0;
        }
        self.seats_in_use + seats <= self.limit
    }

    /// Moves the meter on.
    fn sync(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
        if self.busy > 0 {
            self.r += f64::from(self.demand().min(self.limit)) / f64::from(self.busy) * seconds;
        }
    }

    /// The queue of the flow's hand with the least work in it; among equals another one each time.
    fn choose(&self, hash: u64) -> usize {
        let hand = shuffle::deal(hash, self.settings.queues, self.settings.hand);
        let cards = hand.cards();
        let first = (self.numbers as usize) % cards.len();
        let turned = (0..cards.len()).map(|i| cards[(first + i) % cards.len()]);
        turned.min_by_key(|at| self.queues[*at].waiting_seats).unwrap_or_default()
    }

    fn wake_queue(&mut self, at: usize) {
        let queue = &mut self.queues[at];
        if queue.is_idle() {
            queue.start = self.r;
            self.busy += 1;
        }
    }

    fn start(&mut self, at: usize, seats: u32, now: Instant) -> Running {
        self.wake_queue(at);
        let queue = &mut self.queues[at];
        queue.executing += 1;
        queue.start += f64::from(seats) * EXPECTED_SECONDS;
        self.executing += 1;
        self.seats_in_use += seats;
        Running { queue: Some(at), seats, started: now }
    }

    fn dispatch(&mut self, now: Instant) -> Vec<(W, Running)> {
        let mut dispatched = Vec::new();
        while self.waiting > 0 && self.seats_in_use < self.limit {
            let Some(at) = self.next() else { break };
            let queue = &mut self.queues[at];
            let Some(first) = queue.waiting.pop_front() else { break };
            queue.waiting_seats -= first.seats;
            queue.executing += 1;
            queue.start += f64::from(first.seats) * EXPECTED_SECONDS;
            self.waiting -= 1;
            self.waiting_seats -= first.seats;
            self.executing += 1;
            self.seats_in_use += first.seats;
            self.robin = at;
            self.bound(at);
            dispatched.push((first.waker, Running { queue: Some(at), seats: first.seats, started: now }));
        }
        dispatched
    }

    /// The queue whose oldest request would be done first; none if there is not enough room for that one yet.
    fn next(&self) -> Option<usize> {
        let count = self.queues.len();
        let mut best: Option<(usize, f64, u32)> = None;
        for at in (1..=count).map(|i| (self.robin + i) % count) {
            let queue = &self.queues[at];
            let Some(oldest) = queue.waiting.front() else { continue };
            let finish = queue.start + f64::from(oldest.seats) * EXPECTED_SECONDS;
            if best.is_none_or(|(_, least, _)| finish < least) {
                best = Some((at, finish, oldest.seats));
            }
        }
        best.filter(|(_, _, seats)| self.accommodates(*seats)).map(|(at, ..)| at)
    }

    /// Nobody is served by the meter before they came: time that a queue did not use is not saved up.
    fn bound(&mut self, at: usize) {
        let queue = &mut self.queues[at];
        if let Some(oldest) = queue.waiting.front() {
            queue.start = queue.start.max(oldest.arrived);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SETTINGS: Settings = Settings { queues: 8, hand: 2, length: 3 };

    struct Level {
        queues: Queues<&'static str>,
        now: Instant,
        running: Vec<(&'static str, Running)>,
        order: Vec<&'static str>,
    }

    impl Level {
        fn new(settings: Settings, limit: u32) -> Self {
            let now = Instant::now();
            Self { queues: Queues::new(settings, limit, now), now, running: Vec::new(), order: Vec::new() }
        }

        fn arrive(&mut self, flow: &'static str, seats: u32) -> &'static str {
            match self.queues.arrive(self.now, shuffle::flow_hash("s", flow), seats, || flow) {
                Arrival::Run(running) => {
                    self.running.push((flow, running));
                    "run"
                }
                Arrival::Wait(_) => "wait",
                Arrival::Full => "full",
            }
        }

        /// The request that has run longest ends after so many milliseconds.
        fn finish(&mut self, millis: u64) {
            self.now += Duration::from_millis(millis);
            let (_, running) = self.running.remove(0);
            for (flow, next) in self.queues.finish(self.now, &running) {
                self.order.push(flow);
                self.running.push((flow, next));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_seat_waits_and_what_finds_no_place_is_refused() {
        let mut level = Level::new(SETTINGS, 2);
        let seen: Vec<_> = (0..10).map(|_| level.arrive("a", 1)).collect();
        assert_eq!(seen[..2], ["run", "run"]);
        assert_eq!(seen[2..8], ["wait"; 6], "two queues of three");
        assert_eq!(seen[8..], ["full"; 2]);
        for _ in 0..8 {
            level.finish(3);
        }
        assert_eq!((level.queues.demand(), level.queues.executing(), level.queues.waiting()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_level_without_queues_refuses_at_once() {
        let mut level = Level::new(Settings::default(), 1);
        assert_eq!([level.arrive("a", 1), level.arrive("b", 1)], ["run", "full"]);
        level.finish(1);
        assert_eq!(level.arrive("b", 1), "run");
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_of_a_quiet_flow_does_not_wait_for_all_of_a_loud_one() {
        let settings = Settings { queues: 64, hand: 4, length: 50 };
        let mut level = Level::new(settings, 1);
        for _ in 0..100 {
            level.arrive("loud", 1);
        }
        assert_eq!(level.arrive("quiet", 1), "wait");
        while !level.order.contains(&"quiet") {
            level.finish(10);
        }
        assert!(level.order.len() <= 5, "{} before it", level.order.len());
    }

    #[tokio::test(start_paused = true)]
    async fn two_loud_flows_share_alike() {
        let mut level = Level::new(Settings { queues: 64, hand: 1, length: 100 }, 2);
        for _ in 0..60 {
            level.arrive("one", 1);
        }
        for _ in 0..60 {
            level.arrive("two", 1);
        }
        for _ in 0..60 {
            level.finish(5);
        }
        let ones = level.order.iter().filter(|flow| **flow == "one").count();
        assert!((26..=34).contains(&ones), "{ones} of 60");
    }

    #[tokio::test(start_paused = true)]
    async fn wide_requests_wait_for_room_and_the_widest_run_alone() {
        let mut level = Level::new(SETTINGS, 4);
        assert_eq!([level.arrive("a", 3), level.arrive("b", 2)], ["run", "wait"]);
        level.finish(1);
        assert_eq!(level.order, ["b"]);
        assert_eq!(level.arrive("c", 9), "wait");
        level.finish(1);
        assert_eq!(level.order, ["b", "c"]);
        assert_eq!(level.arrive("d", 1), "wait");
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_is_gone_and_more_seats_let_others_run() {
        let mut level = Level::new(SETTINGS, 1);
        level.arrive("a", 1);
        let hash = shuffle::flow_hash("s", "b");
        let Arrival::Wait(ticket) = level.queues.arrive(level.now, hash, 1, || "b") else { panic!("it waits") };
        level.arrive("c", 1);
        assert!(level.queues.leave(level.now, &ticket));
        assert!(!level.queues.leave(level.now, &ticket));
        let woken: Vec<_> = level.queues.set_limit(3, level.now).into_iter().map(|(flow, _)| flow).collect();
        assert_eq!(woken, ["c"]);
        assert_eq!(level.queues.demand(), 2);
    }
}
