//! The one source of chance: seeded in a simulation, from the machine's entropy otherwise.
//!
//! Clones share the sequence, so the order of draws in one thread decides every name, uid and jitter of a run.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng};

/// Upstream's alphabet of generated names: no vowels and no digits that make words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Random values.
#[derive(Clone, Debug)]
pub struct Rng {
    source: Arc<Mutex<SmallRng>>,
}

impl Rng {
    /// Different in every process.
    pub fn from_entropy() -> Self {
        Self::of(SmallRng::from_os_rng())
    }

    /// The same sequence for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self::of(SmallRng::seed_from_u64(seed))
    }

    fn of(source: SmallRng) -> Self {
        Self { source: Arc::new(Mutex::new(source)) }
    }

    /// A generator of its own, seeded from this one: its sequence does not depend on who else draws here.
    pub fn fork(&self) -> Self {
        Self::seeded(self.draw(|r| r.random()))
    }

    /// A version 4 UUID in its usual text form.
    pub fn uuid(&self) -> String {
        let bytes: [u8; 16] = self.draw(|r| r.random());
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// The random end of a generated name.
    pub fn suffix(&self, length: usize) -> String {
        self.draw(|r| (0..length).map(|_| char::from(ALPHABET[r.random_range(0..ALPHABET.len())])).collect())
    }

    /// A number in the range; the start of an empty one.
    pub fn range(&self, range: Range<u64>) -> u64 {
        if range.is_empty() { range.start } else { self.draw(|r| r.random_range(range)) }
    }

    /// The duration made longer by up to `factor` of itself.
    pub fn jitter(&self, duration: Duration, factor: f64) -> Duration {
        let share: f64 = self.draw(|r| r.random());
        duration.mul_f64(1.0 + share * factor.max(0.0))
    }

    /// So many random bytes (tokens, keys of continue tokens; not for cryptographic keys).
    pub fn bytes(&self, length: usize) -> Vec<u8> {
        self.draw(|r| (0..length).map(|_| r.random()).collect())
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut SmallRng) -> T) -> T {
        draw(&mut self.source.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_one_sequence() {
        let draw = |rng: Rng| (rng.uuid(), rng.suffix(5), rng.range(0..1000), rng.jitter(Duration::from_secs(10), 0.5));
        assert_eq!(draw(Rng::seeded(7)), draw(Rng::seeded(7)));
        assert_ne!(draw(Rng::seeded(7)).0, draw(Rng::seeded(8)).0);
        let suffix = Rng::from_entropy().suffix(5);
        assert!(suffix.len() == 5 && suffix.bytes().all(|b| ALPHABET.contains(&b)));
        let long = Rng::seeded(1).jitter(Duration::from_secs(10), 0.5);
        assert!((Duration::from_secs(10)..Duration::from_secs(15)).contains(&long));
    }
}
