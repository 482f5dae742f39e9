//! A request on its way into the log. [`Record`] is what handlers note; [`Recording`] turns it into events.
//!
//! Invariant: every recording that was begun ends with one last event, whether the request is answered, given up by the client,
//! or makes the server panic.

use std::sync::{Arc, Mutex, PoisonError};

use api::ApiError;
use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use http_body_util::BodyExt;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::event::Event;
use super::policy::Rule;
use super::{Annotations, Audit, Level, Stage};
use crate::authn::User;
use crate::http::body::protobuf;

/// What is noted while a request is answered.
pub struct Record {
    /// Notes of authorization and admission.
    pub annotations: Annotations,
    level: Level,
    omit_managed_fields: bool,
    event: Mutex<Event>,
}

/// How a request was answered.
pub enum Answered {
    /// At once.
    Whole(Response),
    /// By a stream that lasts.
    Stream(Response),
}

/// See the module.
pub struct Recording {
    audit: Arc<Audit>,
    omit: Vec<Stage>,
    /// What handlers note.
    pub record: Arc<Record>,
    ended: bool,
}

impl Record {
    /// The object, patch or options that were sent.
    pub fn sent(&self, object: impl FnOnce() -> Value) {
        let mut object = object();
        let mut event = self.event.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reference) = &mut event.object_ref {
            reference.complete(&object);
        }
        if self.level >= Level::Request {
            self.strip(&mut object);
            event.request_object = Some(object);
        }
    }

    /// Who the user acts as.
    pub fn impersonated(&self, user: &User) {
        self.event.lock().unwrap_or_else(PoisonError::into_inner).impersonated_user = Some(user.into());
    }

    /// Why the request failed.
    pub fn failed(&self, error: &ApiError) {
        let mut status = serde_json::to_value(error.to_status()).unwrap_or_default();
        status["metadata"] = json!({});
        if let Some(fields) = status.as_object_mut() {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        self.event.lock().unwrap_or_else(PoisonError::into_inner).response_status = Some(status);
    }

    /// The log may be meant to show objects without their owners.
    fn strip(&self, object: &mut Value) {
        if !self.omit_managed_fields {
            return;
        }
        let items = ["items", "rows"].into_iter().filter(|name| object[*name].is_array()).collect::<Vec<_>>();
        for name in items {
            for item in object[name].as_array_mut().into_iter().flatten() {
                let item = if name == "rows" { &mut item["object"] } else { item };
                without_owners(item);
            }
        }
        without_owners(object);
    }

    /// The code, and what a Status says of it.
    fn answered(&self, code: u16, body: Option<&Value>) {
        let mut event = self.event.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = body.filter(|body| body["kind"] == "Status" && body["apiVersion"] == "v1") {
            let mut shown = json!({"metadata": {}});
            for name in ["status", "message", "reason", "details"] {
                if let Some(value) = status.get(name) {
                    shown[name] = value.clone();
                }
            }
            event.response_status = Some(shown);
        }
        event.response_status.get_or_insert_with(|| json!({"metadata": {}}))["code"] = code.into();
        if let Some(body) = body.filter(|_| self.level == Level::RequestResponse) {
            let mut body = body.clone();
            self.strip(&mut body);
            event.response_object = Some(body);
        }
    }

    fn at(&self, stage: Stage, now: Timestamp) -> Event {
        let annotations = self.annotations.at(self.level);
        self.event.lock().unwrap_or_else(PoisonError::into_inner).at(stage, now, annotations)
    }
}

fn without_owners(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

impl Recording {
    pub(super) fn new(audit: &Arc<Audit>, rule: &Rule, event: Event) -> Self {
        let record = Record {
            annotations: Annotations::default(),
            level: rule.level,
            omit_managed_fields: rule.omit_managed_fields,
            event: Mutex::new(event),
        };
        Self { audit: Arc::clone(audit), omit: rule.omit_stages.clone(), record: Arc::new(record), ended: false }
    }

    pub(super) async fn note(&self, stage: Stage, now: Timestamp) {
        if !self.omit.contains(&stage) {
            self.audit.writer.write(self.record.at(stage, now)).await;
        }
    }

    fn note_now(&self, stage: Stage) {
        if !self.omit.contains(&stage) {
            self.audit.writer.write_now(self.record.at(stage, self.audit.now()));
        }
    }

    /// Notes the answer; a stream is followed to its end. The answer carries the request's id.
    pub async fn end(mut self, answered: Answered) -> Response {
        let id = self.record.event.lock().unwrap_or_else(PoisonError::into_inner).id.clone();
        let mut response = match answered {
            Answered::Whole(response) => {
                let (response, body) = self.look_at(response).await;
                self.record.answered(response.status().as_u16(), body.as_ref());
                self.ended = true;
                self.note(Stage::ResponseComplete, self.audit.now()).await;
                response
            }
            Answered::Stream(response) => {
                self.record.answered(response.status().as_u16(), None);
                self.note(Stage::ResponseStarted, self.audit.now()).await;
                response.map(|body| follow(body, self))
            }
        };
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert("audit-id", id);
        }
        response
    }

    /// The answer and, where the log shows it or it may be a Status, its document.
    async fn look_at(&self, response: Response) -> (Response, Option<Value>) {
        let level = self.record.level;
        let about_resource = self.record.event.lock().unwrap_or_else(PoisonError::into_inner).object_ref.is_some();
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is = |media_type: &str| content_type.is_some_and(|content_type| content_type.starts_with(media_type));
        let (is_json, is_protobuf) = (is("application/json"), is("application/vnd.kubernetes.protobuf"));
        let small = http_body::Body::size_hint(response.body()).exact().is_some_and(|size| size < STATUS_LIMIT);
        let wanted = about_resource && (is_json || is_protobuf) && (level == Level::RequestResponse || small);
        if !wanted {
            return (response, None);
        }
        let (head, body) = response.into_parts();
        let Ok(collected) = body.collect().await else {
            return (Response::from_parts(head, Body::empty()), None);
        };
        let bytes = collected.to_bytes();
        let value = if is_json { serde_json::from_slice(&bytes).ok() } else { protobuf::parse(&bytes, "", "").ok() };
        (Response::from_parts(head, Body::from(bytes)), value)
    }
}

/// A Status is not larger than this.
const STATUS_LIMIT: u64 = 64 * 1024;

/// The body, which takes the recording along.
fn follow(body: Body, recording: Recording) -> Body {
    Body::new(body.map_frame(move |frame| {
        // The last event is written when the body goes.
        let _ = &recording;
        frame
    }))
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if std::thread::panicking() {
            self.record.failed(&ApiError::internal("APIServer panic'd"));
            self.note_now(Stage::Panic);
            return;
        }
        let mut event = self.record.event.lock().unwrap_or_else(PoisonError::into_inner);
        event.response_status.get_or_insert_with(|| {
            json!({"metadata": {}, "status": "Failure", "reason": "Timeout", "code": 504,
                "message": "the request was given up before it was answered"})
        });
        drop(event);
        self.note_now(Stage::ResponseComplete);
    }
}
