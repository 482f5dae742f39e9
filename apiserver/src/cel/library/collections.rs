//! Lists, maps and sets: <https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-list-library>.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Answer, no_such_overload, numbers};
use crate::cel::EvaluationError;
use crate::cel::value::{Key, List, Map, Value};

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Answer<'a> {
    match (function, args) {
        ("_[_]", [of, at]) => Some(index(of, at)),
        ("@in", [value, Value::List(list)]) => Some(Ok(Value::Bool(list.contains(value)))),
        ("@in", [value, map @ Value::Map(_)]) => {
            let found = value.key().map_or(Ok(None), |key| lookup(map, &key));
            Some(found.map(|found| Value::Bool(found.is_some())))
        }
        ("size", [value]) => value.size().map(|size| Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))),
        ("isSorted", [Value::List(list)]) => Some(is_sorted(list)),
        ("sum", [Value::List(list)]) => Some(sum(list)),
        ("min" | "max", [Value::List(list)]) => Some(extreme(function, list)),
        ("indexOf", [Value::List(list), value]) => Some(Ok(position(list.iter().position(|item| item.equals(value))))),
        ("lastIndexOf", [Value::List(list), value]) => {
            let items: Vec<Value<'a>> = list.iter().collect();
            Some(Ok(position(items.iter().rposition(|item| item.equals(value)))))
        }
        ("first", [Value::List(list)]) => Some(Ok(Value::optional(list.get(0)))),
        ("last", [Value::List(list)]) => {
            Some(Ok(Value::optional(list.len().checked_sub(1).and_then(|at| list.get(at)))))
        }
        ("sets.contains", [Value::List(one), Value::List(two)]) => Some(Ok(Value::Bool(covers(one, two)))),
        ("sets.equivalent", [Value::List(one), Value::List(two)]) => {
            Some(Ok(Value::Bool(covers(one, two) && covers(two, one))))
        }
        ("sets.intersects", [Value::List(one), Value::List(two)]) => {
            Some(Ok(Value::Bool(two.iter().any(|item| one.contains(&item)))))
        }
        ("cel.@mapInsert", [Value::Map(map), key, value]) => Some(insert(map, [(key.clone(), value.clone())])),
        ("cel.@mapInsert", [Value::Map(map), Value::Map(more)]) => {
            Some(insert(map, more.entries().into_iter().map(|(key, value)| (key.value(), value))))
        }
        _ => None,
    }
}

fn lookup<'a>(map: &Value<'a>, key: &Key) -> Result<Option<Value<'a>>, EvaluationError> {
    match (map, key) {
        (Value::Map(map), key) => map.get(key),
        (other, Key::String(name)) => other.field(name),
        _ => Ok(None),
    }
}

/// `of[at]`
pub(in crate::cel) fn index<'a>(of: &Value<'a>, at: &Value<'a>) -> Result<Value<'a>, EvaluationError> {
    if let Value::Optional(inner) = of {
        let Some(inner) = inner else { return Ok(Value::Optional(None)) };
        return find(inner, at).map(Value::optional);
    }
    match find(of, at)? {
        Some(value) => Ok(value),
        None if matches!(of, Value::List(_)) => Err(EvaluationError::new(format!("index out of bounds: {at}"))),
        None => Err(EvaluationError::new(format!("no such key: {at}"))),
    }
}

/// `of[?at]`: none where nothing is there.
pub(in crate::cel) fn find<'a>(of: &Value<'a>, at: &Value<'a>) -> Result<Option<Value<'a>>, EvaluationError> {
    match of {
        Value::Optional(Some(inner)) => find(inner, at),
        Value::Optional(None) => Ok(None),
        Value::List(list) => match at.key() {
            Some(Key::Int(at)) => Ok(usize::try_from(at).ok().and_then(|at| list.get(at))),
            _ => Err(EvaluationError::new(format!("unsupported index type '{}' in list", at.type_name()))),
        },
        Value::Map(_) | Value::Object(..) | Value::Struct(_) => match at.key() {
            Some(key) => lookup(of, &key),
            None => Err(EvaluationError::new(format!("unsupported key type: {}", at.type_name()))),
        },
        _ => Err(no_such_overload()),
    }
}

fn position<'a>(at: Option<usize>) -> Value<'a> {
    Value::Int(at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))
}

fn is_sorted<'a>(list: &List<'a>) -> Result<Value<'a>, EvaluationError> {
    let items: Vec<Value<'a>> = list.iter().collect();
    for pair in items.windows(2) {
        if pair[0].compare(&pair[1]).ok_or_else(no_such_overload)? == Ordering::Greater {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(list: &List<'a>) -> Result<Value<'a>, EvaluationError> {
    let mut items = list.iter();
    let Some(first) = items.next() else { return Ok(Value::Int(0)) };
    items.try_fold(first, |sum, item| numbers::sum(&sum, &item))
}

fn extreme<'a>(function: &str, list: &List<'a>) -> Result<Value<'a>, EvaluationError> {
    let mut items = list.iter();
    let first = items.next().ok_or_else(|| EvaluationError::new(format!("{function} called on empty list")))?;
    let wanted = if function == "min" { Ordering::Less } else { Ordering::Greater };
    items.try_fold(first, |best, item| {
        Ok(if item.compare(&best).ok_or_else(no_such_overload)? == wanted { item } else { best })
    })
}

fn covers<'a>(list: &List<'a>, part: &List<'a>) -> bool {
    part.iter().all(|item| list.contains(&item))
}

fn insert<'a>(
    map: &Map<'a>,
    entries: impl IntoIterator<Item = (Value<'a>, Value<'a>)>,
) -> Result<Value<'a>, EvaluationError> {
    let mut all: BTreeMap<Key, Value<'a>> = match map {
        Map::Made(entries) => (**entries).clone(),
        other => other.entries().into_iter().collect(),
    };
    for (key, value) in entries {
        let name = key.to_string();
        let key = key.key().ok_or_else(|| EvaluationError::new("unsupported key type"))?;
        if all.insert(key, value).is_some() {
            return Err(EvaluationError::new(format!("insert failed: key {name} already exists")));
        }
    }
    Ok(Value::Map(Map::Made(Arc::new(all))))
}
