//! Kinds whose objects are made when they are read.

use api::{ApiError, GroupResource};
use axum::response::Response;
use bytes::Bytes;

use super::{Failure, On};
use crate::component_statuses;
use crate::http::answer::{self, ListMeta};
use crate::http::options::ListOptions;
use crate::object::Object;

impl On<'_> {
    pub(super) async fn get_computed(&self) -> Result<Response, Failure> {
        let form = self.form()?;
        let name = self.at.name.as_str();
        let all = component_statuses::all(&self.call.server).await;
        let found = all.iter().find(|object| object.metadata.name.as_deref() == Some(name));
        let found = found.ok_or_else(|| ApiError::not_found(&GroupResource::new("", &self.info().singular), name))?;
        Ok(answer::object(form, 200, Bytes::from(found.to_bytes()))?)
    }

    pub(super) async fn list_computed(&self) -> Result<Response, Failure> {
        let form = self.form()?;
        let options = ListOptions::parse(&self.call.query, false, self.strategy.as_ref())?;
        let all = component_statuses::all(&self.call.server).await;
        let selected = all.iter().filter(|object| {
            let field = |field: &str| object.metadata.name.clone().filter(|_| field == "metadata.name");
            options.labels.matches_option(object.metadata.labels.as_ref()) && options.fields.matches(field)
        });
        let objects: Vec<Bytes> = selected.map(|object| Bytes::from(object.to_bytes())).collect();
        let meta = ListMeta { resource_version: String::new(), page: String::new(), remaining: None };
        Ok(answer::list_of(form, &meta, &objects)?)
    }
}
