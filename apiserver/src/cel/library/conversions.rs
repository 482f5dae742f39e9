//! Conversions between types: `int("7")`, `string(true)`, `type(x)`, `dyn(x)`.

use super::opaque::Opaque;
use super::{Answer, failed, time};
use crate::cel::EvaluationError;
use crate::cel::value::Value;

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Answer<'a> {
    let [value] = args else { return None };
    match function {
        "dyn" => Some(Ok(value.clone())),
        "type" => Some(Ok(Value::Type(value.type_name().into()))),
        "string" => Some(string(value)),
        "int" => Some(int(value)),
        "uint" => Some(uint(value)),
        "double" => Some(double(value)),
        "bool" => match value {
            Value::Bool(_) => Some(Ok(value.clone())),
            Value::String(text) => match boolean(text) {
                Some(read) => Some(Ok(Value::Bool(read))),
                None => failed(mismatch(value, "bool")),
            },
            _ => failed(mismatch(value, "bool")),
        },
        "bytes" => match value {
            Value::Bytes(_) => Some(Ok(value.clone())),
            Value::String(text) => Some(Ok(Value::Bytes(text.as_bytes().into()))),
            _ => failed(mismatch(value, "bytes")),
        },
        _ => None,
    }
}

/// What cel-go says of a value that does not become one of another type, whatever the reason.
pub(super) fn mismatch(value: &Value<'_>, wanted: &str) -> String {
    format!("type conversion error from '{}' to '{wanted}'", value.type_name())
}

fn string<'a>(value: &Value<'a>) -> Result<Value<'a>, EvaluationError> {
    let text = match value {
        Value::String(_) => return Ok(value.clone()),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => return Err(EvaluationError::new("invalid UTF-8 in bytes, cannot convert to string")),
        },
        Value::Timestamp(at) => at.to_string(),
        Value::Duration(length) => time::print_duration(*length),
        Value::Opaque(opaque) => match &**opaque {
            Opaque::Ip(address) => address.to_string(),
            Opaque::Cidr(address, bits) => format!("{address}/{bits}"),
            _ => return Err(EvaluationError::new(mismatch(value, "string"))),
        },
        Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) => value.to_string(),
        _ => return Err(EvaluationError::new(mismatch(value, "string"))),
    };
    Ok(Value::text(text))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "checked to be in range")]
fn int<'a>(value: &Value<'a>) -> Result<Value<'a>, EvaluationError> {
    let overflow = || EvaluationError::new("integer overflow");
    match value {
        Value::Int(_) => Ok(value.clone()),
        Value::Uint(value) => i64::try_from(*value).map(Value::Int).map_err(|_| overflow()),
        Value::Double(value) if *value > i64::MIN as f64 && *value < i64::MAX as f64 => Ok(Value::Int(*value as i64)),
        Value::Double(_) => Err(overflow()),
        Value::Timestamp(at) => Ok(Value::Int(at.as_second())),
        Value::Duration(length) => Ok(Value::Int(i64::try_from(length.as_nanos()).unwrap_or(i64::MAX))),
        Value::String(text) => text.parse().map(Value::Int).map_err(|_| EvaluationError::new(mismatch(value, "int"))),
        _ => Err(EvaluationError::new(mismatch(value, "int"))),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "checked to be in range"
)]
fn uint<'a>(value: &Value<'a>) -> Result<Value<'a>, EvaluationError> {
    let overflow = || EvaluationError::new("unsigned integer overflow");
    match value {
        Value::Uint(_) => Ok(value.clone()),
        Value::Int(value) => u64::try_from(*value).map(Value::Uint).map_err(|_| overflow()),
        Value::Double(value) if *value >= 0.0 && *value < u64::MAX as f64 => Ok(Value::Uint(*value as u64)),
        Value::Double(_) => Err(overflow()),
        Value::String(text) if !text.starts_with('+') => {
            text.parse().map(Value::Uint).map_err(|_| EvaluationError::new(mismatch(value, "uint")))
        }
        _ => Err(EvaluationError::new(mismatch(value, "uint"))),
    }
}

#[expect(clippy::cast_precision_loss, reason = "that is what the conversion means")]
fn double<'a>(value: &Value<'a>) -> Result<Value<'a>, EvaluationError> {
    match value {
        Value::Double(_) => Ok(value.clone()),
        Value::Int(value) => Ok(Value::Double(*value as f64)),
        Value::Uint(value) => Ok(Value::Double(*value as f64)),
        Value::String(text) => {
            text.parse().map(Value::Double).map_err(|_| EvaluationError::new(mismatch(value, "double")))
        }
        _ => Err(EvaluationError::new(mismatch(value, "double"))),
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
