//! Which fields a client must give. Entry point: [`of`].
//!
//! `required.txt` holds facts of Kubernetes' published OpenAPI document: a line for each type that has such fields, its name first.

use std::collections::BTreeMap;
use std::sync::OnceLock;

const TEXT: &str = include_str!("required.txt");

/// The fields of this type, for example of `v1.Container`, that must be given; by name.
pub fn of(name: &str) -> &'static [&'static str] {
    static TYPES: OnceLock<BTreeMap<&'static str, Vec<&'static str>>> = OnceLock::new();
    let types = TYPES.get_or_init(|| {
        let fields = |line: &'static str| {
            let mut words = line.split(' ');
            words.next().map(|name| (name, words.collect()))
        };
        TEXT.lines().filter_map(fields).collect()
    });
    types.get(name).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::schema;

    #[test]
    fn fields_exist() {
        for line in TEXT.lines() {
            let (name, fields) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?} names no field"));
            let ty = schema::named(name).unwrap_or_else(|| panic!("{name} is no type"));
            for field in fields.split(' ') {
                assert!(ty.field(field).is_some(), "{name} has no field {field}");
            }
        }
        assert_eq!(of("v1.Container"), ["name"]);
        assert!(of("v1.Pod").is_empty());
    }
}
