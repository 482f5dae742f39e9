//! `fieldsV1` as text, changed without being read whole: entries that a change does not concern are copied as they stand. Entry
//! points: [`subtract`], [`includes`], [`union`], [`write`].
//!
//! Nearly every write touches a few of the many fields that its object has. Invariant: the outcome is the text of what [`Fields`]
//! would become.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Error;
use serde_json::value::RawValue;

use super::fields::{Fields, SELF};

/// The element of an entry, borrowed from the text unless something in it is escaped.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Element<'a>(#[serde(borrow)] Cow<'a, str>);

type Entries<'a> = BTreeMap<Element<'a>, &'a RawValue>;

fn read(text: &str) -> Result<Entries<'_>, Error> {
    serde_json::from_str(text)
}

/// Takes fields away; see [`Fields::subtract`].
pub(super) fn subtract(text: &str, taken: &Fields) -> Result<String, Error> {
    let mut out = String::with_capacity(text.len());
    subtract_below(&mut out, read(text)?, taken, false)?;
    Ok(out)
}

/// Writes what is left; false if that is nothing.
fn subtract_below(out: &mut String, entries: Entries<'_>, taken: &Fields, member: bool) -> Result<bool, Error> {
    let start = out.len();
    open(out, member);
    let mut left = false;
    for (element, child) in entries {
        let Some(taken) = taken.child(&element.0) else {
            left = true;
            begin(out, &element.0)?;
            out.push_str(child.get());
            continue;
        };
        let before = out.len();
        begin(out, &element.0)?;
        let (child, was_member) = member_of(child.get())?;
        if subtract_below(out, child, taken, was_member && !taken.is_member())? {
            left = true;
        } else {
            out.truncate(before);
        }
    }
    if left {
        out.push('}');
    } else {
        out.truncate(start);
        out.push_str("{}");
    }
    Ok(left || member)
}

/// Whether these fields are all there, so that [`union`] would change nothing. The root is in neither set.
pub(super) fn includes(text: &str, fields: &Fields) -> Result<bool, Error> {
    includes_below(&read(text)?, fields)
}

fn includes_below(entries: &Entries<'_>, fields: &Fields) -> Result<bool, Error> {
    for (element, wanted) in fields.children() {
        let Some(there) = entries.get(&Element(Cow::Borrowed(element))) else { return Ok(false) };
        // What stands alone is itself in the set, and has nothing below.
        if there.get() == "{}" && wanted.is_member() && wanted.children().next().is_none() {
            continue;
        }
        let (there, was_member) = member_of(there.get())?;
        if (wanted.is_member() && !was_member) || !includes_below(&there, wanted)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Adds fields; see [`Fields::union`]. The root is in neither set.
pub(super) fn union(text: &str, added: &Fields) -> Result<String, Error> {
    let mut out = String::with_capacity(text.len() + 64);
    union_below(&mut out, &read(text)?, added, false)?;
    Ok(out)
}

fn union_below(out: &mut String, entries: &Entries<'_>, added: &Fields, member: bool) -> Result<(), Error> {
    let elements = entries.keys().map(|element| element.0.as_ref()).chain(added.children().map(|(element, _)| element));
    let elements: BTreeSet<&str> = elements.collect();
    open(out, member && !elements.is_empty());
    for element in elements {
        begin(out, element)?;
        match (entries.get(&Element(Cow::Borrowed(element))), added.child(element)) {
            (Some(there), Some(added)) => {
                let (there, was_member) = member_of(there.get())?;
                union_below(out, &there, added, was_member || added.is_member())?;
            }
            (Some(there), None) => out.push_str(there.get()),
            (None, added) => added.into_iter().try_for_each(|added| write_below(out, added, added.is_member()))?,
        }
    }
    out.push('}');
    Ok(())
}

/// A set as `fieldsV1`.
pub(super) fn write(set: &Fields) -> String {
    let mut out = String::new();
    write_below(&mut out, set, false).expect("writing to memory succeeds");
    out
}

fn write_below(out: &mut String, set: &Fields, member: bool) -> Result<(), Error> {
    open(out, member && set.children().next().is_some());
    for (element, child) in set.children() {
        begin(out, element)?;
        write_below(out, child, child.is_member())?;
    }
    out.push('}');
    Ok(())
}

/// The entries below a field without the one for itself, and whether it is in the set.
fn member_of(text: &str) -> Result<(Entries<'_>, bool), Error> {
    let mut entries = read(text)?;
    let member = entries.is_empty() || entries.remove(&Element(Cow::Borrowed(SELF))).is_some();
    Ok((entries, member))
}

/// Begins a set; the entry of the field itself sorts before all others.
fn open(out: &mut String, member: bool) {
    out.push_str(if member { "{\".\":{}" } else { "{" });
}

/// Begins an entry.
fn begin(out: &mut String, element: &str) -> Result<(), Error> {
    if !out.ends_with('{') {
        out.push(',');
    }
    // Most elements have nothing to escape.
    if element.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.extend(["\"", element, "\":"]);
    } else {
        out.push_str(&serde_json::to_string(element)?);
        out.push(':');
    }
    Ok(())
}
