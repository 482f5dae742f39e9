//! What will happen to the containers of a simulated node, and when. Pure: the time is an argument.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// Something that happens to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Which container ends.
    pub container_id: String,
    /// With which code.
    pub code: i32,
    /// Whether for lack of memory.
    pub out_of_memory: bool,
}

/// All that is still to come, in order of time and then of entry.
#[derive(Debug, Default)]
pub struct Timetable {
    entries: BTreeMap<(Instant, u64), Ending>,
    entered: u64,
}

impl Timetable {
    /// Adds an entry. A container that ended before is not ended again.
    pub fn enter(&mut self, at: Instant, ending: Ending) {
        self.entered += 1;
        self.entries.insert((at, self.entered), ending);
    }

    /// When the next thing happens.
    pub fn next(&self) -> Option<Instant> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes one entry that is due.
    pub fn take_due(&mut self, now: Instant) -> Option<Ending> {
        if self.next()? > now {
            return None;
        }
        self.entries.pop_first().map(|(_, ending)| ending)
    }

    /// Forgets what was planned for a container.
    pub fn forget(&mut self, container_id: &str) {
        self.entries.retain(|_, ending| ending.container_id != container_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn in_order_of_time_then_entry() {
        let now = Instant::now();
        let ending = |id: &str| Ending { container_id: id.to_owned(), code: 0, out_of_memory: false };
        let mut table = Timetable::default();
        table.enter(now + Duration::from_secs(2), ending("late"));
        table.enter(now, ending("a"));
        table.enter(now, ending("b"));
        table.enter(now, ending("gone"));
        table.forget("gone");
        let due: Vec<_> = std::iter::from_fn(|| table.take_due(now)).map(|e| e.container_id).collect();
        assert_eq!(due, ["a", "b"]);
        assert_eq!(table.next(), Some(now + Duration::from_secs(2)));
    }
}
