//! Shuffle sharding: every flow is dealt the same small hand of queues each time, and two flows rarely the same one. Entry points:
//! [`flow_hash`], [`deal`].

use std::hash::{DefaultHasher, Hasher};

/// Bits of a flow's hash that may be used up by dealing.
pub const MAX_BITS: u32 = 60;
/// The largest hand that [`MAX_BITS`] can deal.
pub const MAX_HAND: usize = 20;

/// A hand of queues.
#[derive(Clone, Copy, Debug)]
pub struct Hand {
    cards: [usize; MAX_HAND],
    size: usize,
}

impl Hand {
    /// The queues.
    pub fn cards(&self) -> &[usize] {
        &self.cards[..self.size]
    }
}

/// What tells flows apart: the schema and what it distinguishes by. The hash has no key, so that a run can be repeated.
pub fn flow_hash(schema: &str, distinguisher: &str) -> u64 {
    let mut hash = DefaultHasher::new();
    hash.write_usize(schema.len());
    hash.write(schema.as_bytes());
    hash.write(distinguisher.as_bytes());
    hash.finish()
}

/// Deals `hand` different cards out of `deck`: each digit of the hash, in a base that shrinks with the deck, picks one of those left.
pub fn deal(mut hash: u64, deck: usize, hand: usize) -> Hand {
    let size = hand.min(deck).min(MAX_HAND);
    let mut dealt = Hand { cards: [0; MAX_HAND], size };
    // The cards dealt so far in ascending order, so that the n-th card that is left can be counted out.
    let mut sorted = [0; MAX_HAND];
    for i in 0..size {
        let left = (deck - i) as u64;
        let mut card = (hash % left) as usize;
        hash /= left;
        let at = sorted[..i].iter().take_while(|taken| {
            let passed = **taken <= card;
            card += usize::from(passed);
            passed
        });
        let at = at.count();
        sorted.copy_within(at..i, at + 1);
        sorted[at] = card;
        dealt.cards[i] = card;
    }
    dealt
}

/// How many bits of a hash dealing such a hand uses up.
pub fn required_bits(deck: usize, hand: usize) -> u32 {
    let bits: f64 = (0..hand.min(deck)).map(|i| ((deck - i) as f64).log2()).sum();
    bits.ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_hand_has_different_cards_of_the_deck() {
        for (deck, hand) in [(1, 1), (6, 6), (16, 4), (64, 8), (128, 6)] {
            let mut seen = BTreeSet::new();
            for i in 0..2_000u64 {
                let dealt = deal(flow_hash("schema", &i.to_string()), deck, hand);
                let cards: BTreeSet<usize> = dealt.cards().iter().copied().collect();
                assert_eq!(cards.len(), hand, "{deck} {hand}");
                assert!(cards.iter().all(|card| *card < deck));
                seen.extend(cards);
            }
            assert_eq!(seen.len(), deck, "every card is dealt to somebody");
        }
    }

    #[test]
    fn a_flow_is_always_dealt_the_same_hand() {
        let hand = |user: &str| deal(flow_hash("s", user), 128, 6).cards().to_vec();
        assert_eq!(hand("a"), hand("a"));
        assert_ne!(hand("a"), hand("b"));
        assert_ne!(flow_hash("ab", "c"), flow_hash("a", "bc"));
    }

    #[test]
    fn bits() {
        for (deck, hand, bits) in [(64, 8, 48), (128, 6, 42), (64, 9, 54), (512, 7, 63), (1, 1, 0)] {
            assert_eq!(required_bits(deck, hand), bits, "{deck} {hand}");
        }
    }
}
