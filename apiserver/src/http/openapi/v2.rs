//! The document of OpenAPI version 2: everything that is served in one. Entry point: [`write`].

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::definitions::{self, Definitions, REFERENCE};
use super::descriptions::Descriptions;
use super::operation::{Answer, Body, Gvk, Operation, PathItem};
use super::operations;
use super::parameters::{Parameter, Place};
use super::v3::{add_kinds, add_plain, phrase};
use super::{Each, plain};
use crate::resources::Strategy;

/// Writes the document.
pub fn write(rows: &[&dyn Strategy]) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Document<P, D, Q> {
        definitions: D,
        info: Value,
        parameters: Q,
        paths: P,
        security: Value,
        #[serde(rename = "securityDefinitions")]
        security_definitions: Value,
        swagger: &'static str,
    }
    let (items, definitions) = contents(rows);
    let shared = shared(&items);
    let document = Document {
        definitions: Each(|| definitions.names().map(|name| (name.to_owned(), schema(definitions.schema(name))))),
        info: json!({"title": "Kubernetes", "version": "v1.36.2"}),
        parameters: Each(|| shared.iter().map(|(key, parameter)| ((*key).to_owned(), inline(parameter)))),
        paths: Each(|| items.iter().map(|item| (item.path.clone(), path_item(item)))),
        security: json!([{"BearerToken": []}]),
        security_definitions: json!({"BearerToken": {"description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey"}}),
        swagger: "2.0",
    };
    serde_json::to_vec(&document)
}

fn contents(rows: &[&dyn Strategy]) -> (Vec<PathItem>, Definitions) {
    let mut definitions = Definitions::default();
    definitions.add_machinery();
    let mut items: Vec<PathItem> = plain::of_server().into_iter().map(|(_, item)| item).collect();
    items.push(plain::of_group(""));
    let mut seen = BTreeMap::new();
    for row in rows {
        let info = row.info();
        if seen.insert((info.group.as_str(), ""), ()).is_none() && !info.group.is_empty() {
            items.push(plain::of_group(&info.group));
        }
        if seen.insert((info.group.as_str(), info.version.as_str()), ()).is_none() {
            items.push(plain::of_group_version(&info.group, &info.version));
            definitions.mark(definitions::DELETE_OPTIONS, Gvk::new(&info.group, &info.version, "DeleteOptions"));
            definitions.mark(definitions::WATCH_EVENT, Gvk::new(&info.group, &info.version, "WatchEvent"));
        }
    }
    add_plain(&mut definitions, &items);
    for row in rows {
        add_kinds(&mut definitions, *row);
        items.extend(operations::of_resource(*row));
    }
    definitions.describe(Descriptions::of(rows));
    items.sort_by(|a, b| a.path.cmp(&b.path));
    (items, definitions)
}

/// The parameters that stand once in the document.
fn shared(items: &[PathItem]) -> BTreeMap<&'static str, &Parameter> {
    let all = items.iter().flat_map(|item| &item.operations).flat_map(|operation| &operation.parameters);
    all.filter(|parameter| !parameter.shared.is_empty()).map(|parameter| (parameter.shared, parameter)).collect()
}

fn path_item(item: &PathItem) -> Value {
    let mut object = Map::new();
    for one in &item.operations {
        object.insert(one.method.to_owned(), operation(item, one));
    }
    let shared: Vec<Value> = item.shared_parameters().into_iter().map(parameter).collect();
    if !shared.is_empty() {
        object.insert("parameters".to_owned(), shared.into());
    }
    object.into()
}

fn operation(item: &PathItem, operation: &Operation) -> Value {
    let consumes = match (&operation.body, &operation.kind) {
        (Body::Patch(types), _) => *types,
        (_, None) => operation.produces,
        (Body::None | Body::Optional(_) | Body::Required(_), Some(_)) => &["*/*"],
    };
    let mut object = json!({
        "consumes": consumes,
        "description": operation.description,
        "operationId": operation.id,
        "produces": operation.produces,
        "responses": responses(operation),
        "schemes": ["https"],
        "tags": [operation.tag],
    });
    let mut own: Vec<Value> = body(&operation.body).into_iter().collect();
    own.extend(item.own_parameters(operation).into_iter().map(parameter));
    if !own.is_empty() {
        object["parameters"] = own.into();
    }
    if !operation.action.is_empty() {
        object["x-kubernetes-action"] = operation.action.into();
    }
    if let Some(kind) = &operation.kind {
        object["x-kubernetes-group-version-kind"] = kind.to_value();
    }
    object
}

fn parameter(parameter: &Parameter) -> Value {
    if parameter.shared.is_empty() {
        inline(parameter)
    } else {
        json!({"$ref": format!("#/parameters/{}", parameter.shared)})
    }
}

fn inline(parameter: &Parameter) -> Value {
    let mut object = json!({
        "description": parameter.description,
        "name": parameter.name,
        "type": parameter.kind,
        "uniqueItems": true,
    });
    match parameter.place {
        Place::Query => object["in"] = "query".into(),
        Place::Path => {
            object["in"] = "path".into();
            object["required"] = true.into();
        }
    }
    object
}

fn body(body: &Body) -> Option<Value> {
    let mut object = json!({"in": "body", "name": "body", "schema": reference(body.definition()?)});
    if !matches!(body, Body::Optional(_)) {
        object["required"] = true.into();
    }
    Some(object)
}

fn responses(operation: &Operation) -> Value {
    let schema = match &operation.answer {
        Answer::Object(name) => reference(name),
        Answer::Text => json!({"type": "string"}),
    };
    let mut responses = Map::new();
    for code in operation.codes {
        responses.insert(code.to_string(), json!({"description": phrase(*code), "schema": schema}));
    }
    responses.insert("401".to_owned(), json!({"description": phrase(401)}));
    responses.into()
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/definitions/{name}")})
}

/// A schema of version 3 in the words of version 2, which knows no alternatives and no null.
pub fn schema(value: Value) -> Value {
    match value {
        Value::Object(object) => schema_object(object),
        Value::Array(items) => items.into_iter().map(schema).collect(),
        other => other,
    }
}

fn schema_object(mut object: Map<String, Value>) -> Value {
    if object.contains_key("oneOf") && !object.contains_key("type") && !object.contains_key("properties") {
        object.insert("type".to_owned(), "string".into());
        object.remove("x-kubernetes-int-or-string");
    }
    // As upstream, a field that may be null has no type: clients that check types would refuse the null.
    if object.get("nullable") == Some(&Value::Bool(true)) {
        for word in ["type", "items", "properties"] {
            object.remove(word);
        }
    }
    if let Some([single]) = object.get("allOf").and_then(Value::as_array).map(Vec::as_slice)
        && let Some(target) = single.get("$ref").cloned()
    {
        object.insert("$ref".to_owned(), target);
    }
    for word in ["allOf", "anyOf", "default", "not", "nullable", "oneOf", "x-kubernetes-validations"] {
        object.remove(word);
    }
    let rewrite = |(name, value): (String, Value)| {
        let value = match (name.as_str(), value) {
            ("$ref", Value::String(target)) => target.replace(REFERENCE, "#/definitions/").into(),
            ("properties", Value::Object(properties)) => {
                properties.into_iter().map(|(name, value)| (name, schema(value))).collect::<Map<_, _>>().into()
            }
            ("items" | "additionalProperties", value) => schema(value),
            (_, value) => value,
        };
        (name, value)
    };
    object.into_iter().map(rewrite).collect::<Map<_, _>>().into()
}
