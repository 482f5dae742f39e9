//! Conflicts: fields that others own and that an apply would change.

use std::collections::BTreeMap;
use std::fmt;

use api::ApiError;
use api::field::go_quote;

use crate::write::managed_fields::element;
use crate::write::managed_fields::{Entry, Fields};

const REASON: &str = "FieldManagerConflict";

/// One field that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The owner, as messages name it.
    owner: String,
    /// The elements of the field's path.
    path: Vec<String>,
}

impl Conflict {
    /// A conflict for each of these fields of an owner.
    pub(super) fn all_of(owner: &Entry, fields: &Fields) -> Vec<Self> {
        let paths = fields.paths();
        let owner = shown(owner);
        paths
            .iter()
            .map(|path| Self { owner: owner.clone(), path: path.iter().map(|element| (*element).to_owned()).collect() })
            .collect()
    }

    fn field(&self) -> String {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        element::show_path(&path)
    }

    /// Whether a set has the field.
    pub(super) fn is_in(&self, fields: &Fields) -> bool {
        let found = self.path.iter().try_fold(fields, |at, element| at.child(element));
        found.is_some_and(Fields::is_member)
    }
}

/// An owner as messages name it.
fn shown(entry: &Entry) -> String {
    let manager = &entry.manager;
    let mut text = go_quote(&manager.name);
    if !manager.subresource.is_empty() {
        text.push_str(&format!(" with subresource {}", go_quote(&manager.subresource)));
    }
    if !manager.applies {
        text.push_str(&format!(" using {}", entry.version));
    }
    text
}

/// All conflicts of an apply, never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflicts(pub Vec<Conflict>);

impl Conflicts {
    /// Orders them by owner; the fields of an owner keep their order.
    pub(super) fn sorted(mut conflicts: Vec<Conflict>) -> Self {
        conflicts.sort_by(|a, b| a.owner.cmp(&b.owner));
        Self(conflicts)
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return write!(f, "Apply failed with 1 conflict: conflict with {}: {}", only.owner, only.field());
        }
        let mut fields_of: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for conflict in &self.0 {
            fields_of.entry(&conflict.owner).or_default().push(conflict.field());
        }
        let mut lines = Vec::new();
        for (owner, fields) in fields_of {
            lines.push(format!("conflicts with {owner}:"));
            lines.extend(fields.into_iter().map(|field| format!("- {field}")));
        }
        write!(f, "Apply failed with {} conflicts: {}", self.0.len(), lines.join("\n"))
    }
}

impl std::error::Error for Conflicts {}

impl From<Conflicts> for ApiError {
    fn from(conflicts: Conflicts) -> Self {
        let error = ApiError {
            code: 409,
            reason: "Conflict".to_owned(),
            message: conflicts.to_string(),
            details: Some(Box::default()),
        };
        conflicts.0.iter().fold(error, |error, conflict| {
            error.with_cause(REASON, &format!("conflict with {}", conflict.owner), &conflict.field())
        })
    }
}
