//! Documents of OpenAPI version 3: one for each group and version. Entry points: [`keys`], [`write`].

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::definitions::{Definitions, reference};
use super::descriptions::Descriptions;
use super::operation::{Answer, Body, Gvk, Operation, PathItem};
use super::operations;
use super::parameters::{Parameter, Place};
use super::{Each, plain, subresources};
use crate::resources::{Served, Strategy};

/// The documents that there are, by name: `api/v1`, `apis/apps/v1`, `apis/apps`, `version`, ….
pub fn keys(served: &Served) -> BTreeSet<String> {
    let mut keys: BTreeSet<String> = plain::of_server().into_iter().map(|(key, _)| key.to_owned()).collect();
    keys.insert("api".to_owned());
    for row in served.rows() {
        keys.insert(key(row.as_ref()));
        if !row.info().group.is_empty() {
            keys.insert(format!("apis/{}", row.info().group));
        }
    }
    keys
}

/// The document that a row is part of.
pub fn key(row: &dyn Strategy) -> String {
    let info = row.info();
    if info.group.is_empty() {
        format!("api/{}", info.version)
    } else {
        format!("apis/{}/{}", info.group, info.version)
    }
}

/// Writes the document of this name, made of the rows that belong to it.
pub fn write(key: &str, rows: &[&dyn Strategy]) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Components<S> {
        schemas: S,
        #[serde(rename = "securitySchemes")]
        security_schemes: Value,
    }
    #[derive(Serialize)]
    struct Document<P, S> {
        components: Components<S>,
        info: Value,
        openapi: &'static str,
        paths: P,
    }
    let (items, definitions) = contents(key, rows);
    let bearer = json!({"BearerToken": {"description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey"}});
    let schemas = Each(|| definitions.names().map(|name| (name.to_owned(), definitions.schema(name))));
    let document = Document {
        components: Components { schemas, security_schemes: bearer },
        info: json!({"title": "Kubernetes", "version": "unversioned"}),
        openapi: "3.0.0",
        paths: Each(|| items.iter().map(|item| (item.path.clone(), path_item(item)))),
    };
    serde_json::to_vec(&document)
}

fn contents(key: &str, rows: &[&dyn Strategy]) -> (Vec<PathItem>, Definitions) {
    let mut definitions = Definitions::default();
    let server = plain::of_server().into_iter().find(|(name, _)| *name == key);
    let mut items = match (rows.first(), server) {
        (Some(row), _) => {
            let info = row.info();
            definitions.add_machinery();
            definitions.mark(super::definitions::DELETE_OPTIONS, Gvk::new(&info.group, &info.version, "DeleteOptions"));
            definitions.mark(super::definitions::WATCH_EVENT, Gvk::new(&info.group, &info.version, "WatchEvent"));
            vec![plain::of_group_version(&info.group, &info.version)]
        }
        (None, Some((_, item))) => vec![item],
        (None, None) => vec![plain::of_group(key.strip_prefix("apis/").unwrap_or_default())],
    };
    for row in rows {
        add_kinds(&mut definitions, *row);
        items.extend(operations::of_resource(*row));
    }
    definitions.describe(Descriptions::of(rows));
    if rows.is_empty() {
        add_plain(&mut definitions, &items);
    }
    items.sort_by(|a, b| a.path.cmp(&b.path));
    (items, definitions)
}

/// Adds the schemas that the operations of a row need.
pub fn add_kinds(definitions: &mut Definitions, row: &dyn Strategy) {
    let info = row.info();
    let name = operations::definition(row);
    match row.custom_schema() {
        Some(schema) => definitions.add_custom(&name, &schema),
        None => definitions.add_named(&format!("{}.{}", info.api_version(), info.kind)),
    }
    definitions.mark(&name, Gvk::new(&info.group, &info.version, &info.kind));
    if info.stored || row.computed() {
        let list = format!("{name}List");
        definitions.add_list(&list, &name, &info.kind);
        definitions.mark(&list, Gvk::new(&info.group, &info.version, &info.list_kind));
    }
    for kind in info.subresources.iter().filter_map(|subresource| subresources::foreign(*subresource)) {
        let type_name = subresources::type_name(kind);
        definitions.add_named(&type_name);
        definitions.mark(&super::definitions::name_of(&type_name), Gvk::new(kind.0, kind.1, kind.2));
    }
}

/// Adds what the documents of paths that are no resources need.
pub fn add_plain(definitions: &mut Definitions, items: &[PathItem]) {
    for operation in items.iter().flat_map(|item| &item.operations) {
        let Answer::Object(name) = &operation.answer else { continue };
        let kind = name.rsplit('.').next().unwrap_or(name);
        if name == super::definitions::VERSION_INFO {
            definitions.write(name, super::definitions::scalar(name));
        } else {
            definitions.add_named(&format!("meta/v1.{kind}"));
            definitions.mark(name, Gvk::new("", "v1", kind));
        }
    }
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
    let mut object = json!({
        "description": operation.description,
        "operationId": operation.id,
        "responses": responses(operation),
        "tags": [operation.tag],
    });
    let own: Vec<Value> = item.own_parameters(operation).into_iter().map(parameter).collect();
    if !own.is_empty() {
        object["parameters"] = own.into();
    }
    if let Some(body) = body(&operation.body) {
        object["requestBody"] = body;
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
    let mut object = json!({
        "description": parameter.description,
        "name": parameter.name,
        "schema": {"type": parameter.kind, "uniqueItems": true},
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

fn content(types: &[&str], schema: &Value) -> Value {
    types.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect::<Map<_, _>>().into()
}

fn body(body: &Body) -> Option<Value> {
    let schema = reference(body.definition()?);
    let (types, required): (&[&str], bool) = match body {
        Body::None => return None,
        Body::Optional(_) => (&["*/*"], false),
        Body::Required(_) => (&["*/*"], true),
        Body::Patch(types) => (types, true),
    };
    let mut object = json!({"content": content(types, &schema)});
    if required {
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
        let object = json!({"content": content(operation.produces, &schema), "description": phrase(*code)});
        responses.insert(code.to_string(), object);
    }
    responses.insert("401".to_owned(), json!({"description": phrase(401)}));
    responses.into()
}

/// What a status code means.
pub fn phrase(code: u16) -> &'static str {
    match code {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        _ => "Unauthorized",
    }
}
