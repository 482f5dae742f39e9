//! `audit.k8s.io/v1` Event: one line of the log, its fields in upstream's order.

use std::collections::BTreeMap;

use axum::http::header::USER_AGENT;
use axum::http::request::Parts;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{Level, Stage};
use crate::authn::User;
use crate::http::request_info::RequestInfo;
use crate::server::Peer;

const MAX_USER_AGENT: usize = 1024;

/// See the module.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    kind: &'static str,
    api_version: &'static str,
    level: Level,
    #[serde(rename = "auditID")]
    pub(super) id: String,
    stage: Stage,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: &'static str,
    user: Person,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) impersonated_user: Option<Person>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    source_ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) object_ref: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_object: Option<Value>,
    request_received_timestamp: MicroTime,
    stage_timestamp: MicroTime,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// A user as events show one.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Person {
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, Vec<String>>,
}

/// What a request is about.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reference {
    #[serde(skip_serializing_if = "String::is_empty")]
    resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
}

impl From<&User> for Person {
    fn from(user: &User) -> Self {
        let User { name, uid, groups, extra } = user.clone();
        Self { username: name, uid, groups, extra }
    }
}

impl Reference {
    /// What the sent object says and the path does not.
    pub(super) fn complete(&mut self, sent: &Value) {
        let own = [
            (&mut self.namespace, "namespace"),
            (&mut self.name, "name"),
            (&mut self.uid, "uid"),
            (&mut self.resource_version, "resourceVersion"),
        ];
        for (field, name) in own.into_iter().filter(|(field, _)| field.is_empty()) {
            *field = sent["metadata"][name].as_str().unwrap_or_default().to_owned();
        }
    }
}

impl Event {
    pub(super) fn of(
        parts: &Parts,
        info: &RequestInfo,
        user: &User,
        level: Level,
        id: String,
        received: Timestamp,
    ) -> Self {
        let reference = info.resource.as_ref().map(|at| Reference {
            resource: at.resource.clone(),
            namespace: at.namespace.clone(),
            name: at.name.clone(),
            api_group: at.group.clone(),
            api_version: at.version.clone(),
            subresource: at.subresource.clone(),
            ..Reference::default()
        });
        Self {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level,
            id,
            stage: Stage::RequestReceived,
            request_uri: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            verb: info.verb,
            user: user.into(),
            impersonated_user: None,
            source_ips: source_ips(parts),
            user_agent: user_agent(parts),
            object_ref: reference,
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: MicroTime(received),
            stage_timestamp: MicroTime(received),
            annotations: BTreeMap::new(),
        }
    }

    /// The event of a stage.
    pub(super) fn at(&self, stage: Stage, now: Timestamp, annotations: BTreeMap<String, String>) -> Self {
        Self { stage, stage_timestamp: MicroTime(now), annotations, ..self.clone() }
    }
}

fn user_agent(parts: &Parts) -> String {
    let text = parts.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match text.get(..MAX_USER_AGENT) {
        Some(start) if text.len() > MAX_USER_AGENT => format!("{start}...TRUNCATED"),
        _ => text.to_owned(),
    }
}

/// Whom the request came through, the last of them to us.
fn source_ips(parts: &Parts) -> Vec<String> {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_ip = |text: &&str| text.parse::<std::net::IpAddr>().is_ok();
    let mut ips: Vec<String> =
        header("x-forwarded-for").split(',').map(str::trim).filter(is_ip).map(str::to_owned).collect();
    let real = Some(header("x-real-ip").trim()).filter(is_ip).map(str::to_owned);
    if let Some(real) = real.filter(|real| !ips.contains(real)) {
        ips.push(real);
    }
    let peer = parts.extensions.get::<Peer>().map(|peer| peer.0.ip().to_canonical().to_string());
    if let Some(peer) = peer.filter(|peer| ips.last() != Some(peer)) {
        ips.push(peer);
    }
    ips
}
