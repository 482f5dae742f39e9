//! Notes of a request's way through the server, for the audit log. Invariant: a key has one value, the first.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::Level;

/// See the module.
#[derive(Debug, Default)]
pub struct Annotations(Mutex<BTreeMap<String, (Level, String)>>);

impl Annotations {
    /// Notes something for every level that records anything.
    pub fn add(&self, key: impl Into<String>, value: impl Into<String>) {
        self.add_at(Level::Metadata, key, value);
    }

    /// Notes something that only a level from this one on may show.
    pub fn add_at(&self, level: Level, key: impl Into<String>, value: impl Into<String>) {
        let (key, value) = (key.into(), value.into());
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.entry(key).or_insert((level, value));
    }

    /// What an event of this level shows.
    pub fn at(&self, level: Level) -> BTreeMap<String, String> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = noted.iter().filter(|(_, (least, _))| *least <= level);
        shown.map(|(key, (_, value))| (key.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_stays_and_bodies_need_their_level() {
        let annotations = Annotations::default();
        annotations.add("a", "1");
        annotations.add("a", "2");
        annotations.add_at(Level::Request, "patch", "[]");
        let shown = |level| annotations.at(level).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        let (metadata, request): (Vec<String>, Vec<String>) = (shown(Level::Metadata), shown(Level::Request));
        assert_eq!(metadata, ["a=1"]);
        assert_eq!(request, ["a=1", "patch=[]"]);
    }
}
