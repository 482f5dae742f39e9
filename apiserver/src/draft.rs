//! Memory in which text is put together before its size is known, kept for the next text. Entry point: [`with`].
//!
//! Invariant: no text outlives the work on it; what is kept is bounded.

use std::cell::RefCell;

/// A larger draft is not kept …
const LARGEST: usize = 256 * 1024;
/// … and no more of them than work inside other work needs.
const MOST: usize = 4;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Does some work with an empty buffer, which has room already most of the time.
pub fn with<R>(work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut draft = KEPT.with_borrow_mut(Vec::pop).unwrap_or_default();
    draft.clear();
    let result = work(&mut draft);
    if draft.capacity() <= LARGEST {
        KEPT.with_borrow_mut(|kept| {
            if kept.len() < MOST {
                kept.push(draft);
            }
        });
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_are_empty_and_kept_within_bounds() {
        let inside = with(|outer| {
            outer.extend_from_slice(b"outer");
            with(|inner| {
                assert!(inner.is_empty());
                inner.extend_from_slice(b"inner");
            });
            outer.clone()
        });
        assert_eq!(inside, b"outer");
        with(|draft| assert!(draft.is_empty() && draft.capacity() >= 5));
        with(|draft| draft.reserve(LARGEST + 1));
        with(|draft| assert!(draft.capacity() <= LARGEST));
    }
}
