//! Optional values: <https://github.com/google/cel-spec/wiki/proposal-246>.

use super::{Answer, failed};
use crate::cel::value::Value;

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Answer<'a> {
    let answer = match (function, args) {
        ("optional.of", [value]) => Value::optional(Some(value.clone())),
        ("optional.ofNonZeroValue", [value]) => Value::optional(Some(value.clone()).filter(|value| !value.is_zero())),
        ("optional.none", []) => Value::Optional(None),
        ("hasValue", [Value::Optional(inner)]) => Value::Bool(inner.is_some()),
        ("value", [Value::Optional(Some(inner))]) => (**inner).clone(),
        ("value", [Value::Optional(None)]) => return failed("optional.none() dereference"),
        ("or", [one @ Value::Optional(inner), two]) => {
            if inner.is_some() {
                one.clone()
            } else {
                two.clone()
            }
        }
        ("orValue", [Value::Optional(inner), other]) => {
            inner.as_ref().map_or_else(|| other.clone(), |inner| (**inner).clone())
        }
        ("optional.unwrap" | "unwrapOpt", [Value::List(list)]) => Value::list(
            list.iter()
                .filter_map(|item| match item {
                    Value::Optional(inner) => inner.map(|inner| (*inner).clone()),
                    other => Some(other),
                })
                .collect(),
        ),
        _ => return None,
    };
    Some(Ok(answer))
}
