//! Which fields of a body the kind does not have, and which stand twice. Entry point: [`findings`].

use serde_json::Value;

use super::json::Ordered;
use crate::resources::schema::{self, Shape, Type};

/// More findings are not told.
const MOST_FINDINGS: usize = 100;

/// `unknown field "spec.x"` and `duplicate field "data.a"`, in the order of the text.
pub fn findings(ty: Option<&'static Type>, document: &Ordered) -> Vec<String> {
    let mut found = Vec::new();
    let shape = ty.map_or(Cursor::Anything, Cursor::Type);
    walk(shape, document, "", &mut found);
    found
}

/// The same for a list of JSON patch operations.
pub fn findings_of_operations(document: &Ordered) -> Vec<String> {
    let mut found = Vec::new();
    let Ordered::List(operations) = document else { return found };
    for (i, operation) in operations.iter().enumerate() {
        walk(Cursor::Operation, operation, &format!("[{i}]"), &mut found);
    }
    found
}

/// Whether a type has all fields of a value: nearly all bodies need no closer look.
pub fn is_known(ty: &'static Type, value: &Value) -> bool {
    has_all(Cursor::Type(ty), value)
}

fn has_all(at: Cursor, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        Value::Array(items) => items.iter().all(|item| has_all(at.item(), item)),
        Value::Object(fields) => {
            fields.iter().all(|(name, value)| at.field(name).is_some_and(|field| has_all(field, value)))
        }
    }
}

#[derive(Clone, Copy)]
enum Cursor {
    Anything,
    Type(&'static Type),
    Shape(&'static Shape),
    /// Of a JSON patch.
    Operation,
}

impl Cursor {
    fn of(shape: &'static Shape) -> Self {
        match shape {
            Shape::Any => Self::Anything,
            Shape::Struct(at) => Self::Type(schema::at(*at)),
            _ => Self::Shape(shape),
        }
    }

    fn item(self) -> Self {
        match self {
            Self::Shape(Shape::List(inner) | Shape::Map(inner)) => Self::of(inner),
            _ => Self::Anything,
        }
    }

    /// None where the type has no such field.
    fn field(self, name: &str) -> Option<Self> {
        match self {
            Self::Type(ty) => ty.field(name).map(|field| Self::of(&field.shape)),
            Self::Operation => ["op", "path", "from", "value"].contains(&name).then_some(Self::Anything),
            Self::Anything | Self::Shape(_) => Some(self.item()),
        }
    }
}

/// Notes each finding once, and not more than upstream does.
fn note(found: &mut Vec<String>, finding: String) {
    if found.len() < MOST_FINDINGS && !found.contains(&finding) {
        found.push(finding);
    }
}

fn walk(at: Cursor, node: &Ordered, path: &str, found: &mut Vec<String>) {
    match node {
        Ordered::Scalar => {}
        Ordered::List(items) => {
            for (i, item) in items.iter().enumerate() {
                walk(at.item(), item, &format!("{path}[{i}]"), found);
            }
        }
        Ordered::Object(fields) => {
            for (i, (name, value)) in fields.iter().enumerate() {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match at.field(name) {
                    None => note(found, format!("unknown field \"{path}\"")),
                    Some(_) if fields[..i].iter().any(|(other, _)| other == name) => {
                        note(found, format!("duplicate field \"{path}\""));
                    }
                    Some(field) => walk(field, value, &path, found),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_told_once_and_not_all_of_very_many() {
        let document = Ordered::parse(br#"{"data":{"a":"1","a":"2","a":"3"}}"#).unwrap();
        assert_eq!(findings(schema::of("v1", "ConfigMap"), &document), ["duplicate field \"data.a\""]);
        let many: Vec<String> = (0..150).map(|i| format!("\"f{i}\":1")).collect();
        let document = Ordered::parse(format!("{{{}}}", many.join(",")).as_bytes()).unwrap();
        assert_eq!(findings(schema::of("v1", "ConfigMap"), &document).len(), 100);
    }

    #[test]
    fn operations_of_json_patches_have_four_fields() {
        let text = br#"[{"op":"add","path":"/a","value":{"b":1,"b":2},"much":1},{"op":"test","op":"add"}]"#;
        let document = Ordered::parse(text).unwrap();
        assert_eq!(
            findings_of_operations(&document),
            ["duplicate field \"[0].value.b\"", "unknown field \"[0].much\"", "duplicate field \"[1].op\""]
        );
    }

    #[test]
    fn findings_stand_in_the_order_of_the_text() {
        let text = br#"{"kind":"Pod","spec":{"containers":[{"name":"c","imagePullPolice":"x","env":[{"name":"A","valu":"b"}]}],"volums":[]},
            "metadata":{"name":"a","name":"b","labels":{"x":"1","x":"2"}}}"#;
        let document = Ordered::parse(text).unwrap();
        let pod = schema::of("v1", "Pod").unwrap();
        assert!(!is_known(pod, &serde_json::from_slice(text).unwrap()));
        assert!(is_known(
            pod,
            &serde_json::json!({"metadata": {"labels": {"x": "1"}}, "spec": {"containers": [{"name": "c"}]}})
        ));
        assert_eq!(
            findings(schema::of("v1", "Pod"), &document),
            [
                "unknown field \"spec.containers[0].imagePullPolice\"",
                "unknown field \"spec.containers[0].env[0].valu\"",
                "unknown field \"spec.volums\"",
                "duplicate field \"metadata.name\"",
                "duplicate field \"metadata.labels.x\"",
            ]
        );
    }
}
