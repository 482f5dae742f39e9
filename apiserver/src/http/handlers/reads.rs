//! GET: one object, a list, a watch.

use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, FieldSelector, LabelSelector};
use axum::response::Response;

use super::{Failure, On};
use crate::cache::{Entry, Selection};
use crate::http::answer::{self, Form, ListMeta};
use crate::http::media::{Accepted, Offers};
use crate::http::options::ListOptions;
use crate::http::watch_socket;
use crate::http::watch_stream::{self, WatchForm};
use crate::read;
use crate::resources::custom;

/// A watch without a time limit lasts between this and twice as long.
const WATCH_LASTS: Duration = Duration::from_secs(1800);

impl On<'_> {
    pub(super) async fn get(&self) -> Result<Response, Failure> {
        let form = self.form()?;
        let key = self.info().key(self.namespace, &self.at.name);
        let version = self.call.query.text("resourceVersion");
        let entry = read::get(&self.call.server, self.info(), &key, &self.at.name, version).await?;
        let objects = custom::served(self.strategy.as_ref(), vec![entry.json()]).await?;
        Ok(answer::object(form, 200, objects.into_iter().next().unwrap_or_default())?)
    }

    pub(super) async fn list(&self) -> Result<Response, Failure> {
        let form = self.form()?;
        let options = ListOptions::parse(&self.call.query, false, self.strategy.as_ref())?;
        let page = read::list(&self.call.server, self.info(), &self.selection(&options), &options).await?;
        let meta = ListMeta { resource_version: page.revision.to_string(), page: page.next, remaining: page.remaining };
        Ok(self.answer_list(form, &meta, page.entries).await?)
    }

    /// A list in the version of the request.
    pub(super) async fn answer_list(
        &self,
        form: Form<'_>,
        meta: &ListMeta,
        entries: Vec<Arc<Entry>>,
    ) -> Result<Response, ApiError> {
        if !self.strategy.converts_reads() {
            return answer::list(form, meta, entries);
        }
        let objects = entries.iter().map(|entry| entry.json()).collect();
        answer::list_of(form, meta, &custom::served(self.strategy.as_ref(), objects).await?)
    }

    pub(super) async fn watch(&self) -> Result<Response, Failure> {
        let call = self.call;
        let offers = Offers::of(self.strategy.as_ref()).streamed();
        let accepted = Accepted::negotiate(&call.parts.headers, &call.query, offers)?;
        let mut options = ListOptions::parse(&call.query, true, self.strategy.as_ref())?;
        if self.at.named {
            let selector = FieldSelector::parse(&format!("metadata.name={}", self.at.name));
            options.fields = selector.map_err(|error| ApiError::bad_request(error.to_string()))?;
        }
        let started = read::watch(&call.server, self.info(), self.selection(&options), &options).await?;
        let lasts = match options.timeout_seconds {
            Some(seconds) => Duration::from_secs(seconds),
            None => WATCH_LASTS + call.server.rng.jitter(WATCH_LASTS, 1.0).saturating_sub(WATCH_LASTS),
        };
        let form = WatchForm {
            strategy: std::sync::Arc::clone(self.strategy),
            accepted,
            include: self.form_as(accepted)?.include,
            clock: call.server.clock,
            bookmarks: options.bookmarks,
            lasts,
            draining: call.server.draining.clone(),
        };
        if watch_socket::is_asked_for(&call.parts.headers) {
            return Ok(watch_stream::socket(started, form, &call.parts).await?);
        }
        Ok(watch_stream::response(started, form))
    }

    pub(super) fn selection(&self, options: &ListOptions) -> Selection {
        let (labels, fields): (LabelSelector, FieldSelector) = (options.labels.clone(), options.fields.clone());
        Selection::new(Some(self.namespace), labels, fields)
    }
}
