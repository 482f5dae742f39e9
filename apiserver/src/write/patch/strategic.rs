//! Strategic merge patch: a merge patch that knows which lists are sets or maps. Entry point: [`merge`].
//!
//! Merge keys and strategies come from the schema of the kind. Directives: `$patch` (replace, delete, merge), `$retainKeys`,
//! `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`.

use serde_json::{Map, Value};

use crate::resources::schema::{self, Field, Shape, Type};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

/// Merges a patch into an object; the error is upstream's text.
pub fn merge(
    ty: Option<&'static Type>,
    target: &mut Map<String, Value>,
    patch: Map<String, Value>,
) -> Result<(), String> {
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

    fn child(self, name: &str) -> Self {
        match self {
            Self::Type(ty) => ty.field(name).map_or(Self::Unknown, |field| Self::of_shape(&field.shape)),
            Self::Map(inner) => Self::of_shape(inner),
            Self::Unknown => Self::Unknown,
        }
    }
}

fn merge_map(at: At, target: &mut Map<String, Value>, mut patch: Map<String, Value>) -> Result<(), String> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                *target = patch;
                Ok(())
            }
            Some("delete") => {
                target.clear();
                Ok(())
            }
            Some("merge") => merge_map(at, target, patch),
            _ => Err(format!("Unknown directive value: {}", show(&directive))),
        };
    }
    retain_keys(target, &mut patch)?;
    set_orders(at, target, &mut patch)?;
    for (name, value) in patch {
        merge_field(at, target, &name, value)?;
    }
    Ok(())
}

fn merge_field(at: At, target: &mut Map<String, Value>, name: &str, value: Value) -> Result<(), String> {
    if let Some(list) = name.strip_prefix(DELETE_FROM) {
        if let (Some(Value::Array(items)), Value::Array(gone)) = (target.get_mut(list), &value) {
            items.retain(|item| !gone.contains(item));
        }
        return Ok(());
    }
    if value.is_null() {
        target.remove(name);
        return Ok(());
    }
    match (target.get_mut(name), value) {
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
            if let Some(value) = without_directives(value) {
                target.insert(name.to_owned(), value);
            }
            Ok(())
        }
    }
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
fn retain_keys(target: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), String> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = keys else {
        return Err("invalid patch format of retainKeys".to_owned());
    };
    let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
    if let Some(name) =
        patch.iter().find(|(name, value)| !value.is_null() && !keys.contains(&name.as_str())).map(|(name, _)| name)
    {
        return Err(format!("{name} is not in retainKeys list {keys:?}"));
    }
    target.retain(|name, _| keys.contains(&name.as_str()));
    Ok(())
}

fn set_orders(at: At, target: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), String> {
    let orders: Vec<String> = patch.keys().filter_map(|name| name.strip_prefix(SET_ORDER)).map(str::to_owned).collect();
    for name in orders {
        let Some(Value::Array(order)) = patch.remove(&format!("{SET_ORDER}{name}")) else { continue };
        let key = at.field(&name).and_then(|field| field.merge_key).unwrap_or_default();
        let changes = match patch.remove(&name) {
            Some(Value::Array(changes)) => Some(changes),
            Some(other) => {
                patch.insert(name, other);
                continue;
            }
            None => None,
        };
        check_order(changes.as_deref().unwrap_or_default(), &order, key)?;
        let original = match target.get(&name) {
            Some(Value::Array(items)) => items.clone(),
            _ => Vec::new(),
        };
        let merged = match changes {
            None if original.is_empty() => continue,
            None => original.clone(),
            Some(changes) => merge_list(at.child(&name), original.clone(), changes, key)?,
        };
        target.insert(name, Value::Array(ordered(merged, &order, &original, key)));
    }
    Ok(())
}

/// The items of the patch must stand in the order list, in its order.
fn check_order(changes: &[Value], order: &[Value], key: &str) -> Result<(), String> {
    let changed: Vec<&Value> = changes.iter().filter(|item| item.get(DIRECTIVE).is_none()).collect();
    let mut places = order.iter();
    let fits = changed.iter().all(|item| places.by_ref().any(|place| same(place, item, key)));
    if fits {
        return Ok(());
    }
    let changes: Vec<Value> = changed.into_iter().cloned().collect();
    Err(format!(
        "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
        show(&Value::Array(changes)),
        show(&Value::Array(order.to_vec()))
    ))
}

fn merge_list(at: At, original: Vec<Value>, changes: Vec<Value>, key: &str) -> Result<Vec<Value>, String> {
    if key.is_empty() {
        let mut merged = original.clone();
        for item in &changes {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return Ok(ordered(merged, &changes, &original, key));
    }
    let mut kept = original;
    let mut plain = Vec::new();
    let mut replace = false;
    for item in changes {
        match item.get(DIRECTIVE).and_then(Value::as_str) {
            Some("delete") => {
                key_of(&item, key)?;
                kept.retain(|other| !same(other, &item, key));
            }
            Some("replace") => replace = true,
            Some("merge") => return Err("merging list cannot yet be specified in the patch".to_owned()),
            Some(other) => return Err(format!("Unknown directive value: {other}")),
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

fn key_of<'a>(item: &'a Value, key: &str) -> Result<&'a Value, String> {
    item.get(key).ok_or_else(|| format!("map: {} does not contain declared merge key: {key}", show(item)))
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

    fn patched(patch: Value) -> Result<Value, String> {
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
        let error = patched(json!({"spec": {"containers": [{"image": "x"}]}})).unwrap_err();
        assert_eq!(error, "map: map[image:x] does not contain declared merge key: name");
        let error = patched(json!({"spec": {"$setElementOrder/containers": [{"name": "zz"}], "containers": [{"name": "b", "image": "x"}]}})).unwrap_err();
        assert_eq!(
            error,
            "The order in patch list:\n[map[image:x name:b]]\n doesn't match $setElementOrder list:\n[map[name:zz]]\n"
        );
    }
}
