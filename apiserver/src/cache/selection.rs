//! What a list or a watch asks for, and which index or group of watchers serves it best.

use api::selector::{FieldSelector, LabelSelector, Operator};

use super::entry::Entry;
use super::labels::Marks;

/// The field that has an index: one list and watch per kubelet depend on it.
pub(super) const INDEXED: &str = "spec.nodeName";

/// Namespace and selectors of a request.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    namespace: Option<Box<str>>,
    labels: LabelSelector,
    /// Of the labels that every match has.
    marks: Marks,
    fields: FieldSelector,
}

/// The narrowest group that holds everything that a selection can match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    /// Objects of this name.
    Named(Box<str>),
    /// The indexed field has this value.
    Indexed(Box<str>),
    /// One namespace.
    Namespace(Box<str>),
    /// Everything.
    All,
}

impl Selection {
    /// Objects of a namespace (none: of all, or cluster-scoped ones) that match both selectors.
    pub fn new(namespace: Option<&str>, labels: LabelSelector, fields: FieldSelector) -> Self {
        let mut marks = Marks::default();
        for requirement in labels.requirements() {
            let is_one_of = matches!(requirement.operator, Operator::In | Operator::Equals | Operator::DoubleEquals);
            if let (true, Some(value), 1) = (is_one_of, requirement.values.first(), requirement.values.len()) {
                marks.add(&requirement.key, value);
            }
        }
        Self { namespace: namespace.filter(|namespace| !namespace.is_empty()).map(Into::into), labels, marks, fields }
    }

    /// Every object of the resource.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Whether every object of its namespace is selected: only then can be told how many remain after a page.
    pub fn has_selectors(&self) -> bool {
        !self.labels.is_everything() || !self.fields.is_everything()
    }

    /// Whether the object is selected.
    pub fn matches(&self, entry: &Entry) -> bool {
        entry.labels.may_have(self.marks)
            && self.namespace.as_deref().is_none_or(|namespace| entry.namespace() == namespace)
            && self
                .fields
                .requirements()
                .iter()
                .all(|wanted| (entry.field(&wanted.field).unwrap_or_default() == wanted.value) == wanted.equal)
            && self.labels.matches_by(|key| entry.labels.get(key))
    }

    /// The namespace that the request's path names.
    pub fn requested_namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The only namespace that can match, if there is one.
    pub(super) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref().or_else(|| self.fields.exact("metadata.namespace"))
    }

    /// See [`Group`].
    pub(super) fn group(&self) -> Group {
        if let Some(name) = self.fields.exact("metadata.name") {
            return Group::Named(name.into());
        }
        if let Some(value) = self.fields.exact(INDEXED) {
            return Group::Indexed(value.into());
        }
        match self.namespace() {
            Some(namespace) => Group::Namespace(namespace.into()),
            None => Group::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_group_serves() {
        let table = [
            (None, "", Group::All),
            (Some("ns"), "", Group::Namespace("ns".into())),
            (None, "metadata.namespace=ns", Group::Namespace("ns".into())),
            (Some("ns"), "metadata.name=a", Group::Named("a".into())),
            (None, "metadata.name=a,metadata.namespace=ns", Group::Named("a".into())),
            (None, "spec.nodeName=n", Group::Indexed("n".into())),
            (None, "spec.nodeName!=n", Group::All),
            (Some("ns"), "spec.nodeName=n,status.phase!=Failed", Group::Indexed("n".into())),
        ];
        for (namespace, fields, expected) in table {
            let selection =
                Selection::new(namespace, LabelSelector::everything(), FieldSelector::parse(fields).expect(fields));
            assert_eq!(selection.group(), expected, "{namespace:?} {fields}");
        }
    }
}
