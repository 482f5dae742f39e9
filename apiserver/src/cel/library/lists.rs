//! Lists made of lists: cel-go's own library of them in version 3, which Kubernetes has since 1.34.
//! <https://pkg.go.dev/github.com/google/cel-go/ext#Lists>.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Answer, failed, no_such_overload};
use crate::cel::EvaluationError;
use crate::cel::value::{List, Value};

/// The longest list that `lists.range` makes.
const MOST: i64 = 1_000_000;

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Answer<'a> {
    match (function, args) {
        ("slice", [Value::List(list), Value::Int(start), Value::Int(end)]) => Some(slice(list, *start, *end)),
        ("flatten", [Value::List(list)]) => Some(Ok(made(flat(list, 1)))),
        ("flatten", [Value::List(_), Value::Int(..0)]) => failed("level must be non-negative"),
        ("flatten", [Value::List(list), Value::Int(depth)]) => Some(Ok(made(flat(list, *depth)))),
        ("distinct", [Value::List(list)]) => Some(Ok(made(distinct(list)))),
        ("reverse", [Value::List(list)]) => {
            let mut items: Vec<Value<'a>> = list.iter().collect();
            items.reverse();
            Some(Ok(made(items)))
        }
        ("sort", [Value::List(list)]) => Some(sorted(list, list)),
        ("@sortByAssociatedKeys", [Value::List(list), Value::List(keys)]) => Some(sorted(list, keys)),
        ("lists.range", [Value::Int(end)]) if *end > MOST => failed(format!("range too large: {end}")),
        ("lists.range", [Value::Int(end)]) => Some(Ok(made((0..*end).map(Value::Int).collect()))),
        _ => None,
    }
}

fn made(items: Vec<Value<'_>>) -> Value<'_> {
    Value::List(List::Made(Arc::new(items)))
}

fn slice<'a>(list: &List<'a>, start: i64, end: i64) -> Result<Value<'a>, EvaluationError> {
    let wrong = |why: &str| Err(EvaluationError::new(format!("cannot slice({start}, {end}), {why}")));
    let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end)) else {
        return wrong("negative indexes not supported");
    };
    if from > to {
        return wrong("start index must be less than or equal to end index");
    }
    if to > list.len() {
        return wrong(&format!("list is length {}", list.len()));
    }
    Ok(made(list.iter().skip(from).take(to - from).collect()))
}

/// The items with those of lists among them, so many levels deep.
fn flat<'a>(list: &List<'a>, depth: i64) -> Vec<Value<'a>> {
    let mut items = Vec::new();
    for item in list.iter() {
        match item {
            Value::List(inner) if depth > 0 => items.extend(flat(&inner, depth - 1)),
            item => items.push(item),
        }
    }
    items
}

fn distinct<'a>(list: &List<'a>) -> Vec<Value<'a>> {
    let mut items: Vec<Value<'a>> = Vec::new();
    for item in list.iter() {
        if !items.iter().any(|known| known.equals(&item)) {
            items.push(item);
        }
    }
    items
}

/// The items in the order of their keys; equal ones stay as they are.
fn sorted<'a>(list: &List<'a>, keys: &List<'a>) -> Result<Value<'a>, EvaluationError> {
    let mut pairs: Vec<(Value<'a>, Value<'a>)> = keys.iter().zip(list.iter()).collect();
    let mut comparable = true;
    pairs.sort_by(|(one, _), (other, _)| {
        one.compare(other).unwrap_or_else(|| {
            comparable = false;
            Ordering::Equal
        })
    });
    if !comparable {
        return Err(no_such_overload());
    }
    Ok(made(pairs.into_iter().map(|(_, item)| item).collect()))
}
