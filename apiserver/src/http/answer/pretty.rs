//! JSON for people: indented, with the fields in the order in which Kubernetes documents and prints them. Entry point: [`write`].

use serde_json::{Map, Value};

use crate::http::field_numbers::field_order;
use crate::resources::schema::{self, Shape, Type};

/// What the schema knows about a place.
#[derive(Clone, Copy)]
pub enum At {
    /// Nothing.
    Unknown,
    /// An object of this type.
    Type(&'static Type),
    /// A list or map of such values.
    Inner(&'static Shape),
}

impl At {
    /// The place of a whole object.
    pub fn of_type(ty: Option<&'static Type>) -> Self {
        ty.map_or(Self::Unknown, Self::Type)
    }

    fn of(shape: &'static Shape) -> Self {
        match shape {
            Shape::Struct(at) => Self::Type(schema::at(*at)),
            Shape::List(inner) | Shape::Map(inner) => Self::Inner(inner),
            _ => Self::Unknown,
        }
    }

    /// The place of a field, an entry or an item.
    pub fn child(self, name: &str) -> Self {
        match self {
            Self::Type(ty) => ty.field(name).map_or(Self::Unknown, |field| Self::of(&field.shape)),
            Self::Inner(shape) => Self::of(shape),
            Self::Unknown => Self::Unknown,
        }
    }

    /// The place of a field among the others.
    pub fn rank(self, name: &str) -> usize {
        let declared = match self {
            Self::Type(ty) => field_order(ty).and_then(|order| order.get(name)),
            Self::Unknown | Self::Inner(_) => None,
        };
        match (self, declared, name) {
            (_, Some(at), _) => at + 2,
            (Self::Type(_) | Self::Unknown, None, "kind") => 0,
            (Self::Type(_) | Self::Unknown, None, "apiVersion") => 1,
            (Self::Type(_) | Self::Unknown | Self::Inner(_), None, _) => usize::MAX,
        }
    }
}

/// An object, or a list of objects, whose items have the given type.
pub fn write(ty: Option<&'static Type>, value: &Value) -> Vec<u8> {
    let mut text = String::new();
    let at = match value.get("items") {
        Some(Value::Array(items)) => return list(ty, value, items),
        _ => At::of_type(ty),
    };
    put(at, value, 0, &mut text);
    text.into_bytes()
}

fn list(ty: Option<&'static Type>, value: &Value, items: &[Value]) -> Vec<u8> {
    let mut text = String::from("{");
    for name in ["kind", "apiVersion", "metadata"] {
        if let Some(value) = value.get(name) {
            text.push_str(&format!("\n  \"{name}\": "));
            put(At::Unknown, value, 1, &mut text);
            text.push(',');
        }
    }
    text.push_str("\n  \"items\": ");
    sequence(At::of_type(ty), items, 1, &mut text);
    text.push_str("\n}");
    text.into_bytes()
}

fn put(at: At, value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Array(items) => sequence(at.child(""), items, depth, out),
        Value::Object(fields) => object(at, fields, depth, out),
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn sequence(item: At, items: &[Value], depth: usize, out: &mut String) {
    if items.is_empty() {
        return out.push_str("[]");
    }
    for (i, value) in items.iter().enumerate() {
        out.push(if i == 0 { '[' } else { ',' });
        line(depth + 1, out);
        put(item, value, depth + 1, out);
    }
    line(depth, out);
    out.push(']');
}

fn object(at: At, fields: &Map<String, Value>, depth: usize, out: &mut String) {
    if fields.is_empty() {
        return out.push_str("{}");
    }
    let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
    sorted.sort_by(|a, b| at.rank(a.0).cmp(&at.rank(b.0)).then_with(|| a.0.cmp(b.0)));
    for (i, (name, value)) in sorted.into_iter().enumerate() {
        out.push(if i == 0 { '{' } else { ',' });
        line(depth + 1, out);
        out.push_str(&format!("{}: ", Value::from(name.as_str())));
        put(at.child(name), value, depth + 1, out);
    }
    line(depth, out);
    out.push('}');
}

fn line(depth: usize, out: &mut String) {
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_stand_as_kubernetes_prints_them() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {}, "namespace": "n", "name": "a", "resourceVersion": "1", "uid": "u"},
            "spec": {"containers": [{"image": "i", "name": "c"}]}});
        let text = String::from_utf8(write(schema::of("v1", "Pod"), &pod)).unwrap();
        let expected = "{\n  \"kind\": \"Pod\",\n  \"apiVersion\": \"v1\",\n  \"metadata\": {\n    \"name\": \"a\",\n    \"namespace\": \"n\",\n    \"uid\": \"u\",\n    \"resourceVersion\": \"1\",\n    \"labels\": {}\n  },\n  \"spec\": {\n    \"containers\": [\n      {\n        \"name\": \"c\",\n        \"image\": \"i\"\n      }\n    ]\n  }\n}";
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), pod);
    }
}
