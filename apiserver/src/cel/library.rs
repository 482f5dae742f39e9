//! The functions of CEL and of Kubernetes' libraries, by name and by what they are called with.
//!
//! Entry point: [`call`]. One file per library; a function that fits none of the values is `no such overload`.

mod address;
mod authorization;
mod collections;
mod conversions;
mod formats;
mod lists;
mod numbers;
pub mod opaque;
mod optionals;
mod quantities;
mod strings;
pub(crate) mod time;
mod url;
mod versions;

use super::EvaluationError;
use super::value::Value;

pub use self::authorization::{Authorize, Check, ResourceCheck, Verdict};
pub(super) use self::authorization::{authorizer, request_resource};
pub(super) use self::collections::{find, index};

/// What a library says to a call: a result, or that it is not its function.
type Answer<'a> = Option<Result<Value<'a>, EvaluationError>>;

/// The libraries, the most used first.
const LIBRARIES: [for<'a> fn(&str, &[Value<'a>]) -> Answer<'a>; 12] = [
    numbers::call,
    strings::call,
    collections::call,
    lists::call,
    conversions::call,
    optionals::call,
    time::call,
    quantities::call,
    address::call,
    url::call,
    versions::call,
    formats::call,
];

/// Calls a function; the value it is called on, if any, is the first of the arguments.
pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Result<Value<'a>, EvaluationError> {
    let answered = LIBRARIES.iter().find_map(|library| library(function, args));
    answered.or_else(|| authorization::call(function, args)).unwrap_or_else(|| Err(no_such_overload()))
}

/// Whether a constant argument can work at all.
pub(super) fn accepts_constant(function: &str, text: &str) -> bool {
    match function {
        "duration" => time::parse_duration(text).is_some(),
        "timestamp" => time::parse_timestamp(text).is_some(),
        "matches" => regex::Regex::new(text).is_ok(),
        _ => true,
    }
}

fn no_such_overload() -> EvaluationError {
    EvaluationError::new("no such overload")
}

fn failed<'a>(message: impl Into<String>) -> Answer<'a> {
    Some(Err(EvaluationError::new(message)))
}
