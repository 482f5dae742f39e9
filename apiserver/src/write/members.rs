//! An object's text taken apart into its members, which stay text: most of what a write does needs to read only a few of them.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// Members of an object by name.
pub type Members<'a> = BTreeMap<&'a str, &'a RawValue>;

/// The members of an object; none if the text is no object, or if a name is not written plainly.
pub fn of(text: &[u8]) -> Option<Members<'_>> {
    serde_json::from_slice(text).ok()
}

/// The members of a member.
pub fn below(member: &RawValue) -> Option<Members<'_>> {
    serde_json::from_str(member.get()).ok()
}

/// Whether the member is an object.
pub fn is_object(member: &RawValue) -> bool {
    member.get().starts_with('{')
}
