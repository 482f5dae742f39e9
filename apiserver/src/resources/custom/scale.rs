//! Where a kind that was defined at run time keeps its replicas: [`ScalePaths`], from `subresources.scale` of its definition.

use api::field::{FieldError, FieldErrors, FieldPath};
use serde_json::{Map, Value};

/// See the module.
#[derive(Clone, Debug)]
pub struct ScalePaths {
    /// The wanted number.
    pub spec: Vec<String>,
    /// The number that there is.
    pub status: Vec<String>,
    /// The selector in query form, if the kind shows one.
    pub selector: Option<Vec<String>>,
}

impl ScalePaths {
    /// From paths such as `.spec.replicas`.
    pub fn new(spec: &str, status: &str, selector: Option<&str>) -> Self {
        let steps = |path: &str| path.strip_prefix('.').unwrap_or(path).split('.').map(str::to_owned).collect();
        Self { spec: steps(spec), status: steps(status), selector: selector.filter(|path| !path.is_empty()).map(steps) }
    }

    /// What is wrong with the wanted number.
    pub fn check_spec(&self, object: &Value) -> FieldErrors {
        check(object, &self.spec)
    }

    /// What is wrong with the number that there is, and with the selector.
    pub fn check_status(&self, object: &Value) -> FieldErrors {
        let mut errors = check(object, &self.status);
        if let Some(steps) = &self.selector
            && let Err(why) = text_at(object, steps)
        {
            errors.push(FieldError::invalid(&FieldPath::root(&shown(steps)), "", why));
        }
        errors
    }
}

fn check(object: &Value, steps: &[String]) -> FieldErrors {
    let path = FieldPath::root(&shown(steps));
    let error = match number_at(object, steps) {
        Err(why) => FieldError::invalid(&path, 0, why),
        Ok(Some(number)) if number < 0 => FieldError::invalid(&path, number, "should be a non-negative integer"),
        Ok(Some(number)) if number > i64::from(i32::MAX) => {
            FieldError::invalid(&path, number, format!("should be less than or equal to {}", i32::MAX))
        }
        Ok(_) => return FieldErrors::new(),
    };
    error.into()
}

fn shown(steps: &[String]) -> String {
    format!(".{}", steps.join("."))
}

/// The whole number at a path; the error is the text of upstream's accessor.
pub fn number_at(object: &Value, steps: &[String]) -> Result<Option<i64>, String> {
    let Some(value) = value_at(object, steps)? else { return Ok(None) };
    value.as_i64().map(Some).ok_or_else(|| wrong(steps, value, "int64"))
}

/// The text at a path.
pub fn text_at(object: &Value, steps: &[String]) -> Result<Option<String>, String> {
    let Some(value) = value_at(object, steps)? else { return Ok(None) };
    value.as_str().map(|text| Some(text.to_owned())).ok_or_else(|| wrong(steps, value, "string"))
}

fn value_at<'a>(object: &'a Value, steps: &[String]) -> Result<Option<&'a Value>, String> {
    let mut value = object;
    for (i, step) in steps.iter().enumerate() {
        match value {
            Value::Null => return Ok(None),
            Value::Object(fields) => match fields.get(step) {
                Some(found) => value = found,
                None => return Ok(None),
            },
            other => return Err(wrong(&steps[..i], other, "map[string]interface {}")),
        }
    }
    Ok(Some(value))
}

/// Puts a number at a path; objects on the way are made.
pub fn set_number(object: &mut Value, steps: &[String], number: i32) {
    let mut value = object;
    for step in steps {
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        let Value::Object(fields) = value else { return };
        value = fields.entry(step.as_str()).or_insert(Value::Null);
    }
    *value = Value::from(number);
}

fn wrong(steps: &[String], value: &Value, wanted: &str) -> String {
    let go_type = match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    format!("{} accessor error: {} is of the type {go_type}, expected {wanted}", shown(steps), go_value(value))
}

/// A value as Go's `%v` prints it.
pub fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(set) => set.to_string(),
        Value::Number(number) if number.is_i64() => number.to_string(),
        Value::Number(number) => super::check::go_float(number.as_f64().unwrap_or_default()),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let entries = fields.iter().map(|(name, value)| format!("{name}:{}", go_value(value)));
            format!("map[{}]", entries.collect::<Vec<_>>().join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn replicas_are_numbers() {
        let paths = ScalePaths::new(".spec.size", ".status.have", Some(".status.selector"));
        let table = [
            (json!({"spec": {"size": 3}}), "[]"),
            (
                json!({"spec": {"size": "big"}}),
                ".spec.size: Invalid value: 0: .spec.size accessor error: big is of the type string, expected int64",
            ),
            (json!({"spec": {"size": -1}}), ".spec.size: Invalid value: -1: should be a non-negative integer"),
            (
                json!({"spec": [1]}),
                ".spec.size: Invalid value: 0: .spec accessor error: [1] is of the type []interface {}, expected map[string]interface {}",
            ),
            (
                json!({"status": {"have": 3_000_000_000_i64}}),
                ".status.have: Invalid value: 3000000000: should be less than or equal to 2147483647",
            ),
            (
                json!({"status": {"selector": {"a": 1}}}),
                ".status.selector: Invalid value: \"\": .status.selector accessor error: map[a:1] is of the type map[string]interface {}, expected string",
            ),
        ];
        for (object, expected) in table {
            let mut errors = paths.check_spec(&object);
            errors.extend(paths.check_status(&object));
            assert_eq!(errors.to_string(), expected);
        }
        let mut object = json!({});
        set_number(&mut object, &paths.spec, 4);
        assert_eq!(object, json!({"spec": {"size": 4}}));
    }
}
