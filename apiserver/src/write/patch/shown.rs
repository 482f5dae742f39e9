//! A patched object as errors show it: the text of the stored object, but sorted by name wherever the patch went through it (the
//! libraries that upstream patches with take apart only what they change). Entry point: [`after_merge`], [`after_operations`].

use std::collections::BTreeMap;

use serde_json::Value;

use crate::http::answer::pretty::At;
use crate::resources::schema::Type;

/// The places that a patch went through.
#[derive(Debug, Default)]
struct Touched(BTreeMap<String, Touched>);

impl Touched {
    fn by_merge(patch: &Value) -> Self {
        let children = patch.as_object().into_iter().flatten().filter(|(_, value)| value.is_object());
        Self(children.map(|(name, value)| (name.clone(), Self::by_merge(value))).collect())
    }

    fn by_operations(operations: &[Value]) -> Self {
        let mut all = Self::default();
        let pointers = operations.iter().flat_map(|operation| ["path", "from"].map(|name| operation.get(name)));
        for pointer in pointers.flatten().filter_map(Value::as_str) {
            let steps: Vec<&str> = pointer.split('/').skip(1).collect();
            let containers = steps.split_last().map(|(_, containers)| containers).unwrap_or_default();
            let mut at = &mut all;
            for step in containers {
                at = at.0.entry(step.replace("~1", "/").replace("~0", "~")).or_default();
            }
        }
        all
    }
}

/// The object after a merge patch.
pub fn after_merge(ty: Option<&'static Type>, object: &Value, patch: &Value) -> String {
    text(ty, object, &Touched::by_merge(patch))
}

/// The object after the operations of a JSON patch.
pub fn after_operations(ty: Option<&'static Type>, object: &Value, operations: &[Value]) -> String {
    text(ty, object, &Touched::by_operations(operations))
}

fn text(ty: Option<&'static Type>, object: &Value, touched: &Touched) -> String {
    let mut text = String::new();
    put(At::of_type(ty), object, Some(touched), &mut text);
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn put(at: At, value: &Value, touched: Option<&Touched>, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                put(at.child(""), item, touched.and_then(|touched| touched.0.get(&i.to_string())), out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            if touched.is_none() {
                names.sort_by(|a, b| at.rank(a).cmp(&at.rank(b)).then_with(|| a.cmp(b)));
            }
            out.push('{');
            for (i, name) in names.into_iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                out.push_str(&format!("{}:", Value::from(name.as_str())));
                put(at.child(name), &fields[name], touched.and_then(|touched| touched.0.get(name)), out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::schema;
    use serde_json::json;

    #[test]
    fn only_what_the_patch_went_through_is_sorted() {
        let ty = schema::of("v1", "ConfigMap");
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"b": "1", "a": "<"}, "extra": 1,
            "metadata": {"name": "n", "uid": "u", "labels": {"x": "y"}, "creationTimestamp": "t"}});
        let untouched = r#"{"apiVersion":"v1","data":{"a":"\u003c","b":"1"},"extra":1,"kind":"ConfigMap","metadata":{"name":"n","uid":"u","creationTimestamp":"t","labels":{"x":"y"}}}"#;
        assert_eq!(after_merge(ty, &object, &json!({"extra": 1})), untouched);
        let operations = [json!({"op": "add", "path": "/extra", "value": 1})];
        assert_eq!(after_operations(ty, &object, &operations), untouched);
        let touched = r#"{"apiVersion":"v1","data":{"a":"\u003c","b":"1"},"extra":1,"kind":"ConfigMap","metadata":{"creationTimestamp":"t","labels":{"x":"y"},"name":"n","uid":"u"}}"#;
        assert_eq!(after_merge(ty, &object, &json!({"metadata": {"labels": {"x": "y"}}})), touched);
        let operations = [json!({"op": "add", "path": "/metadata/labels", "value": {}})];
        assert_eq!(after_operations(ty, &object, &operations), touched);
    }
}
