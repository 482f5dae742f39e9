//! The columns that a definition asks for, and their cells. Entry points: [`Printer::new`], [`Printer::cells`].

use api::jsonpath::Path;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::check::go_float;
use super::instance::Instance;
use crate::object::Object;
use crate::resources::Column;
use crate::resources::printing::{self, NAME};

/// What a column that names no description is described as.
const DESCRIPTION: &str = "Custom resource definition column (in JSONPath format): ";

/// Headings and where the cells come from.
#[derive(Debug)]
pub struct Printer {
    /// The name, then the definition's columns.
    pub columns: Vec<Column>,
    paths: Vec<Path>,
    /// Whether a column shows metadata.
    metadata: bool,
}

impl Printer {
    /// Reads `additionalPrinterColumns`; without any there is the age. A path that can't be read ends the columns, as upstream.
    pub fn new(columns: &Value) -> Self {
        let age = json!([{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": printing::AGE.description}]);
        let listed = columns.as_array().filter(|columns| !columns.is_empty());
        let listed = listed.or(age.as_array()).map(Vec::as_slice).unwrap_or_default();
        let mut printer = Self { columns: vec![NAME], paths: Vec::new(), metadata: false };
        for column in listed {
            let text = |name: &str| column.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let path = text("jsonPath");
            let Ok(parsed) = Path::parse(&path) else { break };
            let described = text("description");
            let description = if described.is_empty() { format!("{DESCRIPTION}{path}") } else { described };
            let priority = column.get("priority").and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
            printer.metadata |= !path.starts_with(".spec") && !path.starts_with(".status");
            printer.paths.push(parsed);
            printer.columns.push(Column {
                name: text("name").into(),
                kind: text("type").into(),
                format: text("format").into(),
                description: description.into(),
                priority: priority.unwrap_or(0),
            });
        }
        printer
    }

    /// The cells of an object.
    pub fn cells(&self, object: &Instance, now: Timestamp) -> Vec<Value> {
        let whole = self.metadata.then(|| object.to_value());
        let root = whole.as_ref().unwrap_or(&object.content);
        let mut cells = vec![printing::name(&object.meta)];
        for (path, column) in self.paths.iter().zip(self.columns.iter().skip(1)) {
            let found = path.find(root, root).first().copied();
            cells.push(found.map_or(Value::Null, |value| cell(&column.kind, value, now)));
        }
        cells
    }
}

fn cell(kind: &str, value: &Value, now: Timestamp) -> Value {
    match (kind, value) {
        ("string", value) => Value::from(text(value)),
        ("integer", Value::Number(number)) if number.is_i64() => value.clone(),
        #[expect(clippy::cast_possible_truncation, reason = "as upstream, which cuts fractions off")]
        ("integer", Value::Number(number)) => Value::from(number.as_f64().unwrap_or_default() as i64),
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => Value::from(age(text, now)),
        _ => Value::Null,
    }
}

/// A value as Go's templates print it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Number(number) if !number.is_i64() => go_float(number.as_f64().unwrap_or_default()),
        other => api::jsonpath::print(other),
    }
}

fn age(text: &str, now: Timestamp) -> String {
    match text {
        "" | "null" => "<unknown>".to_owned(),
        text => text.parse().map_or_else(|_| "<invalid>".to_owned(), |time| printing::since(Some(time), now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_typed() {
        let printer = Printer::new(&json!([
            {"name": "I", "type": "integer", "jsonPath": ".spec.i"},
            {"name": "S", "type": "string", "jsonPath": ".spec.i", "priority": 1, "description": "d"},
            {"name": "O", "type": "string", "jsonPath": ".spec.o"},
            {"name": "B", "type": "boolean", "jsonPath": ".spec.i"},
            {"name": "N", "type": "number", "jsonPath": ".spec.n"},
            {"name": "R", "type": "string", "jsonPath": ".status.c[?(@.type=='Ready')].status"},
            {"name": "M", "type": "string", "jsonPath": ".spec.missing"},
            {"name": "L", "type": "string", "jsonPath": ".metadata.labels.a\\.b/c"},
            {"name": "A", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
            {"name": "W", "type": "date", "jsonPath": ".spec.o.x"},
        ]));
        let object = Instance::new(
            json!({"metadata": {"name": "n", "labels": {"a.b/c": "l"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"i": 3, "n": 1.5, "o": {"x": "y"}}, "status": {"c": [{"type": "Ready", "status": "True"}]}}),
        )
        .unwrap();
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        assert_eq!(
            Value::from(printer.cells(&object, now)),
            json!(["n", 3, "3", "{\"x\":\"y\"}", null, 1.5, "True", null, "l", "60s", "<invalid>"])
        );
        assert_eq!(printer.columns[2].description, "d");
        assert_eq!(printer.columns[1].description, format!("{DESCRIPTION}.spec.i"));
        let default = Printer::new(&Value::Null);
        assert_eq!(Value::from(default.cells(&object, now)), json!(["n", "60s"]));
    }
}
