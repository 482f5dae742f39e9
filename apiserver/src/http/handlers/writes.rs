//! POST, PUT, PATCH, DELETE of objects and collections.

use api::ApiError;
use axum::body::Body;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Failure, On};
use crate::http::answer::{self, Form, ListMeta};
use crate::http::body;
use crate::http::options::{DeleteOptions, ListOptions, WriteOptions};
use crate::object::Object;
use crate::read;
use crate::write::patch::{Patch, PatchType};
use crate::write::{self, Replacement, Wanted};

impl On<'_> {
    pub(super) async fn create(&self, body: Body) -> Result<Response, Failure> {
        let form = self.form()?;
        let options = self.write_options("CreateOptions")?;
        if let Some(refusal) = self.strategy.refuses_creation() {
            return Err(refusal.into());
        }
        let bytes = self.read(body).await?;
        let object = self.decode(&bytes, &options)?;
        if !self.info().stored {
            let answered = crate::reviews::create(&self.place_for(&options), object).await?;
            return Ok(answer::value(201, form.accepted, &answered));
        }
        let committed = write::create(&self.place_for(&options), object).await?;
        Ok(answer::committed(form, 201, committed.text())?)
    }

    pub(super) async fn replace(&self, body: Body) -> Result<Response, Failure> {
        let form = self.form()?;
        let options = self.write_options("UpdateOptions")?;
        let bytes = self.read(body).await?;
        let object = self.decode(&bytes, &options)?;
        let updated = write::update(&self.place_for(&options), Replacement::Object(object)).await?;
        Ok(answer::committed(form, if updated.created { 201 } else { 200 }, updated.text())?)
    }

    pub(super) async fn patch(&self, body: Body) -> Result<Response, Failure> {
        let form = self.form()?;
        let options = self.write_options("PatchOptions")?;
        let replacement = match self.is_apply() {
            true => Replacement::Apply(self.read_apply(body, &options).await?),
            false => Replacement::Patch(self.read_patch(body, &options).await?),
        };
        let updated = write::update(&self.place_for(&options), replacement).await?;
        Ok(answer::committed(form, if updated.created { 201 } else { 200 }, updated.text())?)
    }

    pub(super) async fn delete(&self, body: Body) -> Result<Response, Failure> {
        let form = self.form()?;
        let options = self.delete_options(body).await?;
        if let (None, Some(warning)) = (options.propagation, self.strategy.delete_warning()) {
            self.call.warnings.add(warning);
        }
        let place = self.place_of_delete(&options);
        if let Some(why) = self.strategy.refuses_deletion(place.name) {
            return Err(ApiError::forbidden(&self.info().group_resource(), place.name, why).into());
        }
        let deleted = write::delete(&place, &options).await?;
        if deleted.removed && !self.strategy.returns_deleted() {
            return Ok(answer::value(200, form.accepted, &self.success(deleted.object.as_ref())));
        }
        let code = if !deleted.removed && options.orphan_dependents_false { 202 } else { 200 };
        Ok(answer_object(form, code, deleted.object.as_ref())?)
    }

    pub(super) async fn delete_collection(&self, body: Body) -> Result<Response, Failure> {
        let form = self.form()?;
        let options = self.delete_options(body).await?;
        let list = ListOptions::parse(&self.call.query, false, self.strategy.as_ref())?;
        let page = read::list(&self.call.server, self.info(), &self.selection(&list), &list).await?;
        write::delete_collection(&self.place_of_delete(&options), &page.entries, &options).await?;
        let meta = ListMeta { resource_version: page.revision.to_string(), page: page.next, remaining: page.remaining };
        Ok(self.answer_list(form, &meta, page.entries).await?)
    }

    pub(super) fn write_options(&self, kind: &str) -> Result<WriteOptions, ApiError> {
        WriteOptions::parse(&self.call.query, kind, self.is_apply(), self.call.user_agent())
    }

    pub(super) fn is_apply(&self) -> bool {
        self.call.content_type().starts_with("application/apply-patch")
    }

    pub(super) async fn read_apply(&self, body: Body, options: &WriteOptions) -> Result<Wanted, ApiError> {
        if self.call.content_type() != "application/apply-patch+yaml" {
            return Err(ApiError::unsupported_media_type("415: Unsupported Media Type"));
        }
        let wanted = Wanted::read(&self.read(body).await?, options.force, options.field_validation)?;
        self.call.sent(|| wanted.value().clone());
        Ok(wanted)
    }

    async fn delete_options(&self, body: Body) -> Result<DeleteOptions, ApiError> {
        let bytes = self.read(body).await?;
        let given = self.options_of(&bytes, "DeleteOptions")?;
        if let Some(given) = &given {
            self.call.sent(|| given.clone());
        }
        DeleteOptions::parse(given, &self.call.query)
    }

    fn decode(&self, bytes: &[u8], options: &WriteOptions) -> Result<Box<dyn Object>, ApiError> {
        let call = self.call;
        let validation = options.field_validation;
        let (resources, headers) = (&call.server.resources, &call.parts.headers);
        let strategy = self.strategy.as_ref();
        let object = body::decode_object(strategy, resources, headers, bytes, validation, &call.warnings)?;
        call.sent(|| object.to_value());
        Ok(object)
    }

    pub(super) async fn read_patch(&self, body: Body, options: &WriteOptions) -> Result<Patch, ApiError> {
        let patch_type = match self.call.content_type() {
            "application/json-patch+json" => PatchType::Json,
            "application/merge-patch+json" => PatchType::Merge,
            "application/strategic-merge-patch+json" if !self.info().custom => PatchType::Strategic,
            _ if self.info().custom => {
                return Err(ApiError::unsupported_media_type(
                    "the body of the request was in an unknown format - accepted media types include: \
                     application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
                ));
            }
            _ => return Err(ApiError::unsupported_media_type("415: Unsupported Media Type")),
        };
        let text = self.read(body).await?;
        self.call.sent(|| serde_json::from_slice(&text).unwrap_or_default());
        Ok(Patch { patch_type, text, validation: options.field_validation })
    }

    /// The Status of a delete that is done.
    fn success(&self, object: &dyn Object) -> Value {
        let info = self.info();
        let mut details = json!({
            "name": object.metadata().name,
            "kind": info.plural,
            "uid": object.metadata().uid,
        });
        if !info.group.is_empty() {
            details["group"] = Value::from(info.group.as_str());
        }
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
    }
}

/// An object that a write left.
pub(super) fn answer_object(form: Form<'_>, code: u16, object: &dyn Object) -> Result<Response, ApiError> {
    answer::object(form, code, object.to_bytes().into())
}
