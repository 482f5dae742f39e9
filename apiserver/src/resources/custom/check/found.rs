//! What a check found. Entry points: [`Found::add`], [`Found::merge`], [`Found::into_errors`]. Invariant: nothing is told twice.

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath};
use serde_json::Value;

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) kind: FieldErrorKind,
    /// Where, below the value that is checked; none is nowhere in particular.
    pub(super) path: Option<String>,
    pub(super) value: Option<Value>,
    pub(super) text: String,
}

impl Problem {
    fn into_error(self, base: &FieldPath) -> FieldError {
        let below = self.path.as_deref().unwrap_or_default();
        let path = match below.strip_prefix('.').unwrap_or(below) {
            "" if base.as_str().is_empty() => FieldPath::nil(),
            "" => base.clone(),
            below => base.child(below),
        };
        FieldError { kind: self.kind, path, value: self.value, detail: self.text }
    }

    /// By what upstream tells errors apart.
    fn key(&self) -> (&Option<String>, &str, FieldErrorKind) {
        (&self.path, &self.text, self.kind)
    }
}

/// What a check found, and how much of the schema fitted: of several alternatives the errors of the best one are shown.
#[derive(Default)]
pub(super) struct Found {
    pub(super) problems: Vec<Problem>,
    pub(super) fits: usize,
}

impl Found {
    pub(super) fn is_valid(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn add(&mut self, problem: Problem) {
        if !self.problems.iter().any(|known| known.key() == problem.key()) {
            self.problems.push(problem);
        }
    }

    pub(super) fn merge(&mut self, other: Found) {
        self.fits += other.fits;
        other.problems.into_iter().for_each(|problem| self.add(problem));
    }

    pub(super) fn into_errors(self, base: &FieldPath) -> FieldErrors {
        FieldErrors(self.problems.into_iter().map(|problem| problem.into_error(base)).collect())
    }
}
