//! Strategic merge patch: a merge patch that knows which lists are sets or maps. Entry point: [`merge`].
//!
//! Merge keys and strategies come from the schema of the kind. Directives: `$patch` (replace, delete, merge), `$retainKeys`,
//! `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`.

use api::ApiError;
use api::field::go_quote;
use serde_json::{Map, Value};

use super::unprocessable;
use crate::resources::schema::{self, Field, Shape, Type};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";

/// Why a patch can't be merged, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// A directive is not written as it has to be.
    #[error("invalid patch format of {0}")]
    Format(&'static str),
    /// A list that is to be merged holds lists.
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// What upstream never classified.
    #[error("{0}")]
    Other(String),
}

impl MergeError {
    fn type_of(expected: &str, found: &Value) -> Self {
        Self::Other(format!("expected a {expected}, but received a {}", go_type(found)))
    }

    fn directive(directive: &Value, map: &Map<String, Value>) -> Self {
        let directive = match directive {
            Value::String(text) => text.clone(),
            Value::Null => "%!s(<nil>)".to_owned(),
            other => format!("%!s({}={})", go_type(other), show(other)),
        };
        Self::Other(format!("unknown patch type: {directive} in map: {}", show(&Value::Object(map.clone()))))
    }
}

impl From<MergeError> for ApiError {
    fn from(error: MergeError) -> Self {
        match error {
            MergeError::Format(_) => ApiError::bad_request(error.to_string()),
            MergeError::ListOfLists => unprocessable(),
            MergeError::Other(message) => ApiError::unclassified(message),
        }
    }
}

/// The Go type of a decoded JSON value.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => LIST,
        Value::Object(_) => MAP,
    }
}

const LIST: &str = "[]interface {}";
const MAP: &str = "map[string]interface {}";

/// Merges a patch into an object.
pub fn merge(
    ty: Option<&'static Type>,
    target: &mut Map<String, Value>,
    patch: Map<String, Value>,
) -> Result<(), MergeError> {
    merge_map(At::of_type(ty), target, patch)
}

/// What the schema knows about a place.
#[derive(Clone, Copy)]
enum At {
    Unknown,
    Type(&'static Type),
    Map(&'static Shape),
}

impl At {
    fn of_type(ty: Option<&'static Type>) -> Self {
        ty.map_or(Self::Unknown, Self::Type)
    }

    fn of_shape(shape: &'static Shape) -> Self {
        match shape {
            Shape::Struct(at) => Self::Type(schema::at(*at)),
            Shape::Map(inner) => Self::Map(inner),
            Shape::List(inner) => Self::of_shape(inner),
            _ => Self::Unknown,
        }
    }

    fn field(self, name: &str) -> Option<&'static Field> {
        match self {
            Self::Type(ty) => ty.field(name),
            Self::Unknown | Self::Map(_) => None,
        }
    }

    /// The merge key of the list that an order is given for; none if it is not merged.
    fn merged_list(self, name: &str) -> Result<Option<&'static str>, MergeError> {
        match (self, self.field(name)) {
            (Self::Type(ty), None) => Err(MergeError::Other(format!(
                "unable to find api field in struct {} for the json field {}",
                ty.short_name(),
                go_quote(name)
            ))),
            (_, field) => Ok(field.and_then(|field| field.merge_key)),
        }
    }

    fn child(self, name: &str) -> Self {
        match self {
            Self::Type(ty) => ty.field(name).map_or(Self::Unknown, |field| Self::of_shape(&field.shape)),
            Self::Map(inner) => Self::of_shape(inner),
            Self::Unknown => Self::Unknown,
        }
    }
}

fn merge_map(at: At, target: &mut Map<String, Value>, mut patch: Map<String, Value>) -> Result<(), MergeError> {
    match patch.get(DIRECTIVE).map(|directive| (directive, directive.as_str())) {
        None => {}
        Some((_, Some("replace"))) => {
            patch.remove(DIRECTIVE);
            *target = patch;
            return Ok(());
        }
        Some((_, Some("delete"))) => {
            target.clear();
            return Ok(());
        }
        Some((other, _)) => return Err(MergeError::directive(other, &patch)),
    }
    retain_keys(target, &mut patch)?;
    set_orders(at, target, &mut patch)?;
    for (name, value) in patch {
        match name.strip_prefix(DELETE_FROM) {
            None => merge_field(at, target, &name, value)?,
            Some(list) => {
                let list = list.strip_prefix('/').ok_or(MergeError::Format("primitive list"))?;
                delete_from(at, target, list, value)?;
            }
        }
    }
    Ok(())
}

fn merge_field(at: At, target: &mut Map<String, Value>, name: &str, value: Value) -> Result<(), MergeError> {
    if value.is_null() {
        target.remove(name);
        return Ok(());
    }
    let replaces = at.field(name).is_some_and(|field| field.replaces);
    match (target.get_mut(name), value) {
        (Some(Value::Object(fields)), Value::Object(changes)) if replaces => {
            *fields = changes;
            Ok(())
        }
        (Some(Value::Object(fields)), Value::Object(changes)) => merge_map(at.child(name), fields, changes),
        (Some(Value::Array(items)), Value::Array(changes)) => match at.field(name).and_then(|field| field.merge_key) {
            Some(key) => {
                *items = merge_list(at.child(name), std::mem::take(items), changes, key)?;
                Ok(())
            }
            None => {
                *items = changes;
                Ok(())
            }
        },
        (_, value) => {
            match without_directives(value) {
                Some(value) => drop(target.insert(name.to_owned(), value)),
                None => drop(target.remove(name)),
            }
            Ok(())
        }
    }
}

/// `$deleteFromPrimitiveList/name`: items of a list that is merged go; any other list becomes this one.
fn delete_from(at: At, target: &mut Map<String, Value>, name: &str, value: Value) -> Result<(), MergeError> {
    match (target.get_mut(name), value) {
        (_, Value::Null) => drop(target.remove(name)),
        (Some(Value::Array(items)), Value::Array(gone)) => match at.field(name).and_then(|field| field.merge_key) {
            None => *items = gone,
            Some(key) if element_type(&[items, &gone])? == Some(MAP) => {
                *items = merge_list(at.child(name), std::mem::take(items), gone, key)?;
            }
            Some(_) => items.retain(|item| !gone.contains(item)),
        },
        _ => {}
    }
    Ok(())
}

/// The one type that all elements have; none if there are no elements.
fn element_type(lists: &[&[Value]]) -> Result<Option<&'static str>, MergeError> {
    let mut found = None;
    for ty in lists.iter().flat_map(|list| list.iter()).map(go_type) {
        match found {
            None if ty == LIST => return Err(MergeError::ListOfLists),
            None => found = Some(ty),
            Some(known) if known != ty => {
                let lists: Vec<String> = lists.iter().map(|list| show(&Value::Array(list.to_vec()))).collect();
                let shown = format!("list element types are not identical: [{}]", lists.join(" "));
                return Err(MergeError::Other(shown));
            }
            Some(_) => {}
        }
    }
    Ok(found)
}

/// What a patch means where there was nothing: no directives, no nulls; none if the whole is a directive.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => {
            let plain =
                |name: &str| name != RETAIN_KEYS && !name.starts_with(SET_ORDER) && !name.starts_with(DELETE_FROM);
            let kept = fields.into_iter().filter(|(name, value)| plain(name) && !value.is_null());
            Some(Value::Object(kept.filter_map(|(name, value)| Some((name, without_directives(value)?))).collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        scalar => Some(scalar),
    }
}

/// `$retainKeys`: fields that it does not name go.
fn retain_keys(target: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), MergeError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let wrong = MergeError::Format("retainKeys");
    let Value::Array(keys) = keys else { return Err(wrong) };
    let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
    let is_directive = |name: &str| name.starts_with(DELETE_FROM) || name.starts_with(SET_ORDER);
    let mut set = patch.iter().filter(|(name, value)| !value.is_null() && !is_directive(name));
    if set.any(|(name, _)| !keys.contains(&name.as_str())) {
        return Err(wrong);
    }
    target.retain(|name, _| keys.contains(&name.as_str()));
    Ok(())
}

fn set_orders(at: At, target: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), MergeError> {
    let orders: Vec<String> = patch.keys().filter(|name| name.starts_with(SET_ORDER)).cloned().collect();
    for directive in orders {
        let order = patch.remove(&directive).unwrap_or_default();
        let Value::Array(order) = order else { return Err(MergeError::type_of(LIST, &order)) };
        let name = directive.strip_prefix(SET_ORDER).and_then(|name| name.strip_prefix('/'));
        let name = name.ok_or(MergeError::Format("setElementOrder list"))?;
        let original = match target.get(name) {
            None => None,
            Some(Value::Array(items)) => Some(items.clone()),
            Some(other) => return Err(MergeError::type_of(LIST, other)),
        };
        let changes = match patch.get(name) {
            None => None,
            Some(Value::Array(changes)) => Some(changes.clone()),
            Some(other) => return Err(MergeError::type_of(LIST, other)),
        };
        let key = at.merged_list(name)?;
        check_order(changes.as_deref().unwrap_or_default(), &order, key.unwrap_or_default())?;
        let merged = match (original.clone(), changes.clone()) {
            (None, None) => continue,
            (Some(original), None) => original,
            (None, Some(changes)) => changes,
            (Some(original), Some(changes)) => match key {
                Some(key) => merge_list(at.child(name), original, changes, key)?,
                None => changes,
            },
        };
        let original = original.unwrap_or_default();
        patch.remove(name);
        target.insert(name.to_owned(), Value::Array(ordered(merged, &order, &original, key.unwrap_or_default())));
    }
    Ok(())
}

/// The items of the patch must stand in the order list, in its order.
fn check_order(changes: &[Value], order: &[Value], key: &str) -> Result<(), MergeError> {
    if changes.is_empty() || order.is_empty() {
        return Ok(());
    }
    let deleted = |item: &&Value| item.get(DIRECTIVE).and_then(Value::as_str) == Some("delete");
    let mut stay = changes.iter().filter(|item| key.is_empty() || !deleted(item)).peekable();
    let mut places = order.iter().peekable();
    while let (Some(item), Some(place)) = (stay.peek(), places.peek()) {
        if item.get(DIRECTIVE).is_some() {
            stay.next();
            continue;
        }
        if !key.is_empty() {
            for one in [*item, *place] {
                key_of(one, key)?;
            }
        }
        if same(place, item, key) {
            stay.next();
        }
        places.next();
    }
    if stay.peek().is_none() {
        return Ok(());
    }
    Err(MergeError::Other(format!(
        "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
        show(&Value::Array(changes.to_vec())),
        show(&Value::Array(order.to_vec()))
    )))
}

fn merge_list(at: At, original: Vec<Value>, changes: Vec<Value>, key: &str) -> Result<Vec<Value>, MergeError> {
    let elements = element_type(&[&original, &changes])?;
    if elements != Some(MAP) {
        let mut merged: Vec<Value> = Vec::with_capacity(original.len() + changes.len());
        for item in original.iter().chain(&changes) {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        if let (Some(first), false) = (merged.first(), key.is_empty()) {
            return Err(MergeError::type_of(MAP, first));
        }
        return Ok(ordered(merged, &changes, &original, key));
    }
    if key.is_empty() {
        return Err(MergeError::Other("cannot merge lists without merge key for type string".to_owned()));
    }
    let mut kept = original;
    let mut plain = Vec::new();
    let mut replace = false;
    for item in changes {
        match item.get(DIRECTIVE).map(|directive| (directive, directive.as_str())) {
            Some((_, Some("delete"))) => {
                key_of(&item, key)?;
                kept.retain(|other| !same(other, &item, key));
            }
            Some((_, Some("replace"))) => replace = true,
            Some((_, Some("merge"))) => {
                return Err(MergeError::Other("merging lists cannot yet be specified in the patch".to_owned()));
            }
            Some((other, _)) => {
                return Err(MergeError::directive(other, item.as_object().unwrap_or(&Map::new())));
            }
            None => plain.push(item),
        }
    }
    if replace {
        return Ok(plain);
    }
    let mut merged = kept.clone();
    for item in &plain {
        key_of(item, key)?;
        match merged.iter_mut().find(|other| same(other, item, key)) {
            Some(Value::Object(fields)) => merge_map(at, fields, item.as_object().cloned().unwrap_or_default())?,
            Some(other) => *other = item.clone(),
            None => merged.extend(without_directives(item.clone())),
        }
    }
    Ok(ordered(merged, &plain, &kept, key))
}

fn key_of<'a>(item: &'a Value, key: &str) -> Result<&'a Value, MergeError> {
    let Value::Object(fields) = item else { return Err(MergeError::type_of(MAP, item)) };
    fields
        .get(key)
        .ok_or_else(|| MergeError::Other(format!("map: {} does not contain declared merge key: {key}", show(item))))
}

fn same(a: &Value, b: &Value, key: &str) -> bool {
    if key.is_empty() { a == b } else { a.get(key).is_some() && a.get(key) == b.get(key) }
}

/// Items of the patch in its order; the others keep their order among themselves and, as far as that goes, their place.
fn ordered(merged: Vec<Value>, order: &[Value], original: &[Value], key: &str) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item, key));
    let (mut patched, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(order, item).is_some());
    patched.sort_by_key(|item| place(order, item));
    others.sort_by_key(|item| place(original, item).unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(patched.len() + others.len());
    let (mut patched, mut others) = (patched.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(other), Some(item)) = (others.peek(), patched.peek()) {
        let other_first = matches!((place(original, other), place(original, item)), (Some(a), Some(b)) if a < b);
        result.extend(if other_first { others.next() } else { patched.next() });
    }
    result.extend(others);
    result.extend(patched);
    result
}

/// As Go's %v prints a decoded JSON value.
pub fn show(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(set) => set.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name}:{}", show(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patched(patch: Value) -> Result<Value, MergeError> {
        let mut pod = json!({"metadata": {"finalizers": ["x"]}, "spec": {
            "containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}], "args": ["o"]},
                {"name": "b", "image": "2"}],
            "volumes": [{"name": "v", "emptyDir": {}}]}});
        let Value::Object(patch) = patch else { panic!("a patch is an object") };
        let fields = pod.as_object_mut().expect("the pod is an object");
        merge(schema::of("v1", "Pod"), fields, patch).map(|()| pod)
    }

    fn names(value: &Value) -> Vec<&str> {
        value.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn lists_merge_by_key_and_keep_upstreams_order() {
        let pod = patched(json!({"spec": {"containers": [{"name": "b", "image": "3"}, {"name": "c", "image": "4"}]}}))
            .unwrap();
        assert_eq!(names(&pod["spec"]["containers"]), ["a", "b", "c"]);
        assert_eq!(pod["spec"]["containers"][1]["image"], "3");
        let pod = patched(json!({"spec": {"containers": [{"name": "a", "args": ["n"], "env": [{"name": "X", "value": "9"}, {"name": "Z"}]}]}})).unwrap();
        assert_eq!(names(&pod["spec"]["containers"][0]["env"]), ["X", "Z", "Y"]);
        assert_eq!(pod["spec"]["containers"][0]["args"], json!(["n"]));
        let pod = patched(json!({"metadata": {"finalizers": ["y"]}})).unwrap();
        assert_eq!(pod["metadata"]["finalizers"], json!(["y", "x"]));
    }

    #[test]
    fn the_selector_of_a_disruption_budget_is_replaced() {
        let mut budget = json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}});
        let Value::Object(patch) = json!({"spec": {"selector": {"matchLabels": {"c": "d"}}}}) else {
            panic!("a patch")
        };
        let fields = budget.as_object_mut().expect("an object");
        merge(schema::of("policy/v1", "PodDisruptionBudget"), fields, patch).expect("merged");
        assert_eq!(budget, json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"c": "d"}}}}));
    }

    #[test]
    fn directives() {
        let pod = patched(json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}})).unwrap();
        assert_eq!(names(&pod["spec"]["containers"]), ["b"]);
        let pod = patched(json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "n"}]}})).unwrap();
        assert_eq!(names(&pod["spec"]["containers"]), ["n"]);
        let pod = patched(json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}})).unwrap();
        assert_eq!(names(&pod["spec"]["containers"]), ["b", "a"]);
        let pod = patched(json!({"spec": {"volumes": [{"$retainKeys": ["name", "configMap"], "name": "v", "configMap": {"name": "c"}}]}})).unwrap();
        assert_eq!(pod["spec"]["volumes"], json!([{"name": "v", "configMap": {"name": "c"}}]));
        let pod = patched(json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"], "labels": {"$patch": "replace", "n": "1"}}})).unwrap();
        assert_eq!(pod["metadata"], json!({"finalizers": []}));
    }

    #[test]
    fn what_can_not_be_merged_is_refused_in_upstreams_words() {
        let spec = |spec: Value| patched(json!({"spec": spec})).unwrap_err();
        let table = [
            (
                json!({"containers": [{"image": "x"}]}),
                500,
                "map: map[image:x] does not contain declared merge key: name",
            ),
            (
                json!({"$setElementOrder/containers": [{"name": "zz"}],
                    "containers": [{"name": "b", "image": "x"}, {"$patch": "delete", "name": "a"}]}),
                500,
                "The order in patch list:\n[map[image:x name:b] map[$patch:delete name:a]]\n doesn't match $setElementOrder list:\n[map[name:zz]]\n",
            ),
            (json!({"$patch": "merge"}), 500, "unknown patch type: merge in map: map[$patch:merge]"),
            (json!({"$patch": 1, "a": true}), 500, "unknown patch type: %!s(int64=1) in map: map[$patch:1 a:true]"),
            (json!({"containers": [{"$patch": "x"}]}), 500, "unknown patch type: x in map: map[$patch:x]"),
            (json!({"containers": [{"$patch": "merge"}]}), 500, "merging lists cannot yet be specified in the patch"),
            (
                json!({"containers": ["a"]}),
                500,
                "list element types are not identical: [[map[args:[o] env:[map[name:X value:1] map[name:Y value:2]] image:1 name:a] map[image:2 name:b]] [a]]",
            ),
            (
                json!({"volumes": [{"name": "v", "$retainKeys": ["name"], "configMap": {}}]}),
                400,
                "invalid patch format of retainKeys",
            ),
            (json!({"volumes": [{"name": "v", "$retainKeys": "name"}]}), 400, "invalid patch format of retainKeys"),
            (json!({"$setElementOrder": []}), 400, "invalid patch format of setElementOrder list"),
            (json!({"$deleteFromPrimitiveList": []}), 400, "invalid patch format of primitive list"),
            (json!({"$setElementOrder/containers": "a"}), 500, "expected a []interface {}, but received a string"),
            (
                json!({"$setElementOrder/things": []}),
                500,
                "unable to find api field in struct PodSpec for the json field \"things\"",
            ),
        ];
        for (patch, code, message) in table {
            let error = ApiError::from(spec(patch.clone()));
            assert_eq!((error.code, error.message.as_str()), (code, message), "{patch}");
        }
    }
}
