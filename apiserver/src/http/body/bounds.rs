//! How deep documents may be nested, and how much of them may be copies of other parts. Entry points: [`is_too_deep`],
//! [`Budget::spend`].
//!
//! Everything that walks a document walks it by recursion, on a small stack; and what is stored must be readable by clients whose
//! JSON readers stop at 128 levels, inside of a list. Upstream allows 10,000 levels.

use serde_json::Value;

/// The deepest document.
pub const MAX_DEPTH: usize = 100;
/// What encoding/json says of a document that is too deep.
pub const TOO_DEEP: &str = "exceeded max depth";
/// How much memory copies may take: aliases and anchors of YAML, the `copy` of JSON patch.
const MAX_COPIES: usize = 8 * 1024 * 1024;
/// What a value takes besides its text.
const VALUE_SIZE: usize = 64;

/// Whether a document has more levels than that; looks no deeper.
pub fn is_too_deep(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| is_too_deep(item, levels - 1)),
        Value::Object(fields) => levels == 0 || fields.values().any(|field| is_too_deep(field, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// What is left for copies.
#[derive(Debug)]
pub struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(MAX_COPIES)
    }
}

impl Budget {
    /// Pays for a copy of the value; false if that is too much.
    pub fn spend(&mut self, value: &Value) -> bool {
        self.take(value).is_some()
    }

    fn take(&mut self, value: &Value) -> Option<()> {
        self.0 = self.0.checked_sub(VALUE_SIZE)?;
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.take(item)),
            Value::Object(fields) => fields.iter().try_for_each(|(name, field)| {
                self.0 = self.0.checked_sub(name.len())?;
                self.take(field)
            }),
            Value::String(text) => {
                self.0 = self.0.checked_sub(text.len())?;
                Some(())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Some(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn depth_is_counted_in_levels() {
        let value = json!({"a": [{"b": 1}]});
        for (levels, deep) in [(0, true), (2, true), (3, false)] {
            assert_eq!(is_too_deep(&value, levels), deep, "{levels}");
        }
        assert!(!is_too_deep(&json!(1), 0));
    }

    #[test]
    fn copies_cost_their_size() {
        let mut budget = Budget::default();
        let big = json!({"text": "x".repeat(MAX_COPIES / 2 - 1000)});
        assert!(budget.spend(&big) && budget.spend(&big) && !budget.spend(&big));
    }
}
