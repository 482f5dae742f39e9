//! Whether a definition gets the names that it asks for. Entry point: [`accept`], a pure function of all definitions.
//!
//! Names are given to whoever asks first and stay theirs until they are given up; a kind is established once all of its names are
//! accepted, and stays established.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::resources::definition::{condition, is_true, set_condition};

/// What has been given to others of the group.
#[derive(Default)]
struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

/// The definition with the names that it gets and what its status says about them; none if its status says so already.
pub fn accept(
    name: &str,
    all: &BTreeMap<String, Arc<CustomResourceDefinition>>,
    now: &Time,
) -> Option<CustomResourceDefinition> {
    let definition = all.get(name)?;
    let mut next = definition.as_ref().clone();
    let taken = taken(definition, all);
    let wanted = &definition.spec.names;
    let status = definition.status.clone().unwrap_or_default();
    let (names, conflict) = decide(wanted, &status.accepted_names.unwrap_or_default(), &taken);
    next.status.get_or_insert_default().accepted_names = Some(names);
    match &conflict {
        Some((reason, message)) => set_condition(&mut next, "NamesAccepted", "False", reason, message),
        None => set_condition(&mut next, "NamesAccepted", "True", "NoConflicts", "no conflicts found"),
    }
    if !is_true(definition, "Established") {
        match conflict {
            None => set_condition(
                &mut next,
                "Established",
                "True",
                "InitialNamesAccepted",
                "the initial names have been accepted",
            ),
            Some(_) if condition(definition, "Established").is_none() => {
                set_condition(&mut next, "Established", "False", "NotAccepted", "not all names are accepted");
            }
            Some(_) => {}
        }
    }
    date(&mut next, now);
    (next.status != definition.status).then_some(next)
}

/// Conditions that changed do so now.
pub fn date(definition: &mut CustomResourceDefinition, now: &Time) {
    let conditions = definition.status.as_mut().and_then(|status| status.conditions.as_mut());
    for condition in conditions.into_iter().flatten() {
        condition.last_transition_time.get_or_insert_with(|| now.clone());
    }
}

fn taken(definition: &CustomResourceDefinition, all: &BTreeMap<String, Arc<CustomResourceDefinition>>) -> Taken {
    let mut taken = Taken::default();
    for other in all.values().filter(|other| other.spec.group == definition.spec.group) {
        let Some(names) = other.status.as_ref().and_then(|status| status.accepted_names.as_ref()) else { continue };
        let resources = [&names.plural].into_iter().chain(&names.singular).chain(names.short_names.iter().flatten());
        taken.resources.extend(resources.cloned());
        taken.kinds.extend([&names.kind].into_iter().chain(&names.list_kind).cloned());
    }
    taken
}

type Conflict = (&'static str, String);

/// The names that are given, and the last conflict that was found.
fn decide(
    wanted: &CustomResourceDefinitionNames,
    held: &CustomResourceDefinitionNames,
    taken: &Taken,
) -> (CustomResourceDefinitionNames, Option<Conflict>) {
    let mut names = held.clone();
    let mut conflict = None;
    let mut claim = |wanted: &str, held: &str, used: &BTreeSet<String>, reason: &'static str| {
        let free = wanted == held || !used.contains(wanted);
        if !free {
            conflict = Some((reason, in_use(wanted)));
        }
        free
    };
    let text = |name: &Option<String>| name.clone().unwrap_or_default();
    if claim(&wanted.plural, &held.plural, &taken.resources, "PluralConflict") {
        names.plural.clone_from(&wanted.plural);
    }
    if claim(&text(&wanted.singular), &text(&held.singular), &taken.resources, "SingularConflict") {
        names.singular.clone_from(&wanted.singular);
    }
    let short_names = short_names(wanted, held, taken);
    if claim(&wanted.kind, &held.kind, &taken.kinds, "KindConflict") {
        names.kind.clone_from(&wanted.kind);
    }
    if claim(&text(&wanted.list_kind), &text(&held.list_kind), &taken.kinds, "ListKindConflict") {
        names.list_kind.clone_from(&wanted.list_kind);
    }
    names.categories.clone_from(&wanted.categories);
    match short_names {
        Ok(()) => names.short_names.clone_from(&wanted.short_names),
        Err(message) => conflict = conflict.or(Some(("ShortNamesConflict", message))),
    }
    (names, conflict)
}

/// All short names together are given or not.
fn short_names(
    wanted: &CustomResourceDefinitionNames,
    held: &CustomResourceDefinitionNames,
    taken: &Taken,
) -> Result<(), String> {
    let held = held.short_names.as_deref().unwrap_or_default();
    let used = |name: &&String| !held.contains(name) && taken.resources.contains(*name);
    let used: Vec<String> = wanted.short_names.iter().flatten().filter(used).map(|name| in_use(name)).collect();
    match used.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

fn in_use(name: &str) -> String {
    format!("{} is already in use", api::field::go_quote(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn definition(plural: &str, kind: &str, short: &[&str]) -> Arc<CustomResourceDefinition> {
        let value = json!({"metadata": {"name": format!("{plural}.g.io")}, "spec": {"group": "g.io", "scope": "Cluster",
            "names": {"plural": plural, "kind": kind, "singular": kind.to_lowercase(), "listKind": format!("{kind}List"), "shortNames": short},
            "versions": []}});
        Arc::new(serde_json::from_value(value).expect("a definition"))
    }

    fn conditions(definition: &CustomResourceDefinition) -> Value {
        let conditions = definition.status.as_ref().unwrap().conditions.iter().flatten();
        conditions.map(|c| json!([c.type_, c.status, c.reason, c.message])).collect()
    }

    #[test]
    fn names_go_to_whoever_asks_first() {
        let now = Time("2026-01-01T00:00:00Z".parse().unwrap());
        let (first, second) = (definition("widgets", "Widget", &["w"]), definition("wheels", "Widget", &["w", "v"]));
        let mut all = BTreeMap::from([("widgets.g.io".to_owned(), first), ("wheels.g.io".to_owned(), second)]);
        let accepted = accept("widgets.g.io", &all, &now).unwrap();
        assert_eq!(
            conditions(&accepted),
            json!([
                ["NamesAccepted", "True", "NoConflicts", "no conflicts found"],
                ["Established", "True", "InitialNamesAccepted", "the initial names have been accepted"]
            ])
        );
        all.insert("widgets.g.io".to_owned(), Arc::new(accepted));
        assert_eq!(accept("widgets.g.io", &all, &now), None, "nothing more to say");
        let refused = accept("wheels.g.io", &all, &now).unwrap();
        assert_eq!(
            conditions(&refused),
            json!([
                ["NamesAccepted", "False", "ListKindConflict", "\"WidgetList\" is already in use"],
                ["Established", "False", "NotAccepted", "not all names are accepted"]
            ])
        );
        let names = refused.status.as_ref().unwrap().accepted_names.clone().unwrap();
        assert_eq!((names.plural.as_str(), names.kind.as_str(), names.short_names), ("wheels", "", None));
        all.insert("wheels.g.io".to_owned(), Arc::new(refused));
        all.remove("widgets.g.io");
        let freed = accept("wheels.g.io", &all, &now).unwrap();
        assert!(is_true(&freed, "Established") && is_true(&freed, "NamesAccepted"));
    }
}
