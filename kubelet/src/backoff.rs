//! How long to wait before something that keeps failing is tried again: 10 s, doubled each time up to 300 s,
//! forgotten after 10 quiet minutes. For crashing containers and for images that cannot be pulled.
//!
//! Entry: [`Backoffs`]. Invariant: pure; time is an argument.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

const INITIAL: SignedDuration = SignedDuration::from_secs(10);
const MAXIMUM: SignedDuration = SignedDuration::from_secs(300);

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    delay: SignedDuration,
    updated_at: Timestamp,
}

/// The delays of several keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backoffs(BTreeMap<String, Entry>);

impl Backoffs {
    /// When the key may be tried again after an event (the end of a run) at `since`, with the delay; `None`: at once.
    pub fn waits_until(&self, key: &str, since: Timestamp, now: Timestamp) -> Option<(Timestamp, SignedDuration)> {
        let entry = self.0.get(key)?;
        if since.duration_since(entry.updated_at) > MAXIMUM * 2 {
            return None;
        }
        let until = since.checked_add(entry.delay).ok()?;
        (now < until).then_some((until, entry.delay))
    }

    /// Records one more attempt: the delay that holds for the next one grows.
    pub fn advance(&mut self, key: &str, since: Timestamp, now: Timestamp) {
        let delay = match self.0.get(key) {
            Some(entry) if since.duration_since(entry.updated_at) <= MAXIMUM * 2 => (entry.delay * 2).min(MAXIMUM),
            Some(_) | None => INITIAL,
        };
        self.0.insert(key.to_owned(), Entry { delay, updated_at: now });
    }

    /// When the key was last tried.
    pub fn updated_at(&self, key: &str) -> Option<Timestamp> {
        self.0.get(key).map(|entry| entry.updated_at)
    }

    /// Forgets a key, after a success.
    pub fn reset(&mut self, key: &str) {
        self.0.remove(key);
    }
}

/// A delay as Go prints it: `10s`, `1m20s`, `5m0s`.
pub fn go_duration(delay: SignedDuration) -> String {
    let seconds = delay.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small number")
    }

    #[test]
    fn doubles_up_to_the_maximum_and_forgets() {
        let mut backoffs = Backoffs::default();
        assert_eq!(backoffs.waits_until("c", at(0), at(0)), None);
        let mut seen = Vec::new();
        let mut time = 0;
        for _ in 0..7 {
            backoffs.advance("c", at(time), at(time));
            let (until, delay) = backoffs.waits_until("c", at(time), at(time)).expect("it waits");
            seen.push(go_duration(delay));
            time = until.as_second();
            assert_eq!(backoffs.waits_until("c", at(time - 1), at(time + 299)), None);
        }
        assert_eq!(seen, ["10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]);
        assert_eq!(backoffs.waits_until("c", at(time + 2000), at(time + 2000)), None);
        backoffs.advance("c", at(time + 2000), at(time + 2000));
        assert_eq!(backoffs.waits_until("c", at(time + 2000), at(time + 2000)).map(|(_, d)| d), Some(INITIAL));
    }
}
