//! What the server says about its types: `/openapi/v3`, one document for each group and version.
//!
//! Entry points: [`Document::of`] and [`Document::kind`]. A [`Schema`] is a node of a document with its references resolved on demand.

use std::sync::Arc;

use serde_json::Value;

use crate::failure::Result;
use crate::resources::Resource;
use crate::session::Session;

/// The types of one group and version.
#[derive(Clone, Debug)]
pub struct Document(Arc<Value>);

/// A type, or a field's type as the field's owner writes it (description and patch rules are the field's own).
#[derive(Clone, Copy, Debug)]
pub struct Schema<'a> {
    document: &'a Value,
    /// The node as written.
    pub node: &'a Value,
}

impl Document {
    /// The document that describes a resource; None where the server has none.
    pub async fn of(session: &Session, resource: &Resource) -> Result<Option<Self>> {
        let prefix = if resource.group.is_empty() { "api" } else { "apis" };
        let name = format!("{prefix}/{}", resource.api_version());
        if let Some(document) = session.document(&name) {
            return Ok(Some(document));
        }
        let index = match session.get("/openapi/v3").await {
            Ok(index) => index,
            Err(failure) if failure.is_not_found() => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let Some(path) = index["paths"][&name]["serverRelativeURL"].as_str() else { return Ok(None) };
        let document = Self(Arc::new(session.get(path).await?));
        session.keep_document(name, document.clone());
        Ok(Some(document))
    }

    #[cfg(test)]
    pub fn from_value(value: Value) -> Self {
        Self(Arc::new(value))
    }

    /// The type of a resource's objects.
    pub fn kind(&self, resource: &Resource) -> Option<Schema<'_>> {
        let schemas = self.0["components"]["schemas"].as_object()?;
        let is = |kind: &Value| {
            kind["group"] == resource.group && kind["version"] == resource.version && kind["kind"] == resource.kind
        };
        let kinds = |schema: &Value| schema["x-kubernetes-group-version-kind"].as_array().cloned().unwrap_or_default();
        let node = schemas.values().find(|schema| kinds(schema).iter().any(is))?;
        Some(Schema { document: &self.0, node })
    }

    /// Whether the resource's objects may be patched in this format.
    pub fn patches_with(&self, resource: &Resource, content_type: &str) -> bool {
        let path = resource.object("{namespace}", "{name}");
        self.0["paths"][path]["patch"]["requestBody"]["content"].get(content_type).is_some()
    }
}

impl<'a> Schema<'a> {
    /// Another node of the same document.
    pub fn at(self, node: &'a Value) -> Self {
        Self { node, ..self }
    }

    /// The name behind `$ref`, if the node is one.
    pub fn reference(self) -> Option<&'a str> {
        self.node["$ref"].as_str()
    }

    /// What `$ref` names; the node itself if it is none.
    pub fn resolved(self) -> Self {
        let target = self.reference().and_then(|reference| self.document.pointer(reference.strip_prefix('#')?));
        self.at(target.unwrap_or(self.node))
    }

    /// A field of an object, through references and `allOf`.
    pub fn field(self, name: &str) -> Option<Self> {
        let resolved = self.resolved();
        let own = resolved.node["properties"].get(name).map(|node| self.at(node));
        own.or_else(|| resolved.alternatives().find_map(|part| part.field(name)))
    }

    /// The items of a list.
    pub fn items(self) -> Option<Self> {
        self.node.get("items").map(|node| self.at(node))
    }

    /// The values of a map.
    pub fn values(self) -> Option<Self> {
        self.node.get("additionalProperties").filter(|node| node.is_object()).map(|node| self.at(node))
    }

    /// The parts of an `allOf`.
    pub fn alternatives(self) -> impl Iterator<Item = Self> {
        self.node["allOf"].as_array().into_iter().flatten().map(move |node| self.at(node))
    }

    /// Whether strategic merge patches treat the field so: `merge`, `retainKeys`, `replace`.
    pub fn is_patched_by(self, strategy: &str) -> bool {
        self.node["x-kubernetes-patch-strategy"].as_str().is_some_and(|all| all.split(',').any(|one| one == strategy))
    }

    /// The field by which strategic merge patches tell a list's items apart.
    pub fn merge_key(self) -> Option<&'a str> {
        self.node["x-kubernetes-patch-merge-key"].as_str()
    }
}
