//! The one source of wall-clock time: an epoch plus tokio's clock.
//!
//! Invariant: time read here moves exactly as tokio's timers do, so under paused time a test that sleeps an hour sees
//! an hour pass, and the clock never runs backwards.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Wall-clock time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Timestamp,
    started: Instant,
}

impl Clock {
    /// The machine's time, read once; after that it follows the monotonic clock.
    pub fn system() -> Self {
        Self::starting_at(Timestamp::now())
    }

    /// A clock that shows this time now.
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self { epoch, started: Instant::now() }
    }

    /// The time now, to the microsecond (the finest the API keeps).
    pub fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.started.elapsed()).unwrap_or(SignedDuration::MAX);
        let now = self.epoch.saturating_add(passed).unwrap_or(Timestamp::MAX);
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    /// The time now, without fractions of a second: what `metav1.Time` can hold.
    pub fn now_seconds(&self) -> Timestamp {
        let now = self.now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn time_follows_tokio() {
        let epoch = Timestamp::from_second(1_700_000_000).expect("in range");
        let clock = Clock::starting_at(epoch);
        assert_eq!(clock.now(), epoch);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(clock.now().as_millisecond(), 1_700_000_001_500);
        assert_eq!(clock.now_seconds().as_millisecond(), 1_700_000_001_000);
    }
}
