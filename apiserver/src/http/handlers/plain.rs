//! Paths that are no resources: discovery, version, health, metrics, the keys of tokens.

use api::ApiError;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use axum::response::Response;
use serde_json::{Value, json};

use super::Call;
use crate::aggregation::is_remote;
use crate::http::answer;
use crate::http::discovery;
use crate::http::health;
use crate::http::media::{Accepted, Format, OBJECT_TYPES, check_accept};
use crate::http::openapi;
use crate::tokens;

const KEY_SET_TYPE: &str = "application/jwk-set+json";
const JSON_TYPE: &[&str] = &["application/json"];

impl Call {
    pub(super) fn plain(&self, form: Accepted) -> Response {
        match self.plain_answer() {
            Ok(response) => response,
            Err(error) => answer::error(&error, form, None),
        }
    }

    fn plain_answer(&self) -> Result<Response, ApiError> {
        let path = self.info.path.strip_prefix('/').unwrap_or_default();
        let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
        // Upstream has two muxes: one takes paths as they are, the other does not mind a slash at the end.
        let exact = path.is_empty() || !path.ends_with('/');
        match parts.as_slice() {
            [""] | ["healthz" | "livez" | "readyz" | "metrics", ..] if !exact => Ok(answer::page_not_found()),
            [""] => Ok(self.document(&json!({"paths": self.paths()}))),
            ["version"] => {
                self.only_get()?;
                check_accept(&self.parts.headers, JSON_TYPE)?;
                Ok(self.document(&health::version()))
            }
            [endpoint @ ("healthz" | "livez" | "readyz"), check @ ..] => {
                let check = (!check.is_empty()).then(|| check.join("/"));
                Ok(self.server.checks.answer(endpoint, check.as_deref(), self.query.pairs()))
            }
            ["metrics"] => Ok(metrics(crate::metrics::scrape(&self.server))),
            ["metrics", "slis"] => Ok(metrics(self.server.checks.results())),
            ["api" | "apis", ..] => self.discovery(&parts),
            ["version", ..] | [".well-known", "openid-configuration", _, ..] | ["openid", "v1", "jwks", _, ..] => {
                Err(ApiError::path_not_found())
            }
            [".well-known", "openid-configuration"] => {
                self.only_get()?;
                check_accept(&self.parts.headers, JSON_TYPE)?;
                let server = format!("https://{}", self.server.advertised());
                let document = tokens::discovery::configuration(&self.server.tokens, &server);
                Ok(answer::value(200, Accepted::JSON, &document))
            }
            ["openid", "v1", "jwks"] => self.key_set(),
            ["openapi", "v2"] | ["openapi"] if !exact => Ok(answer::page_not_found()),
            ["openapi", "v3", ..] if !exact => Ok(answer::only_code(404)),
            ["openapi", path @ ..] => self.openapi(path),
            _ => Ok(answer::page_not_found()),
        }
    }

    /// Documents that only GET reads. Upstream's others do not look at the method.
    fn only_get(&self) -> Result<(), ApiError> {
        if self.info.verb == "get" { Ok(()) } else { Err(ApiError::method_not_allowed()) }
    }

    /// A document that is JSON for people, whatever the client accepts.
    fn document(&self, value: &Value) -> Response {
        answer::value(200, Accepted { format: Format::PrettyJson, ..Accepted::JSON }, value)
    }

    fn discovery(&self, parts: &[&str]) -> Result<Response, ApiError> {
        let (served, remotes) = (self.server.resources.served(), self.server.remotes());
        if let (["api"] | ["apis"], Some(format)) = (parts, Accepted::aggregated(&self.parts.headers, &self.query)) {
            return Ok(self.aggregated(format, &discovery::aggregated(&served, &remotes, parts == ["api"])));
        }
        let found = match parts {
            ["api"] => Some(discovery::legacy_versions(&self.server.advertised())),
            ["apis"] => Some(discovery::group_list(&served, &remotes)),
            ["api", version] => discovery::resource_list(&served, "", version),
            ["apis", group] => discovery::group(&served, &remotes, group),
            ["apis", group, version] => discovery::resource_list(&served, group, version),
            _ => None,
        };
        let known = |group: &str| served.rows().iter().any(|row| row.info().group == group);
        let Some(found) = found else {
            return match parts {
                ["apis", group, version] if is_remote(&remotes, group, version) => Ok(answer::unavailable()),
                ["api", _] => Err(ApiError::path_not_found()),
                ["apis", group, _] if known(group) => Err(ApiError::path_not_found()),
                _ => Ok(answer::page_not_found()),
            };
        };
        // Upstream's lists of groups, groups and versions of defined kinds do not pass through its router.
        let custom = |group: &str| served.rows().iter().any(|row| row.info().custom && row.info().group == group);
        let is_routed = match parts {
            ["apis"] | ["apis", _] => false,
            ["apis", group, _] => !custom(group),
            _ => true,
        };
        if is_routed {
            self.only_get()?;
            check_accept(&self.parts.headers, OBJECT_TYPES)?;
        }
        Ok(answer::value(200, Accepted::document(&self.parts.headers, &self.query)?, &found))
    }

    fn aggregated(&self, format: Format, document: &Value) -> Response {
        let etag = format!("\"{}\"", discovery::etag(document));
        let headers = &self.parts.headers;
        let mut response = if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
            answer::not_modified()
        } else {
            let mut response = match format {
                Format::Protobuf => answer::text(200, answer::protobuf::encode_discovery(document)),
                _ => answer::value(200, Accepted { format, ..Accepted::JSON }, document),
            };
            let content_type = match format {
                Format::Yaml => discovery::AGGREGATED_YAML,
                Format::Protobuf => discovery::AGGREGATED_PROTOBUF,
                Format::Json | Format::PrettyJson => discovery::AGGREGATED,
            };
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            response
        };
        if let Ok(etag) = HeaderValue::from_str(&etag) {
            response.headers_mut().insert(ETAG, etag);
        }
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        response
    }

    fn key_set(&self) -> Result<Response, ApiError> {
        self.only_get()?;
        check_accept(&self.parts.headers, &[KEY_SET_TYPE])?;
        let mut response = answer::value(200, Accepted::JSON, &tokens::discovery::key_set(&self.server.tokens));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(KEY_SET_TYPE));
        Ok(response)
    }

    fn openapi(&self, path: &[&str]) -> Result<Response, ApiError> {
        let (hash, now) = (self.query.first("hash"), self.server.clock.now());
        let asked = openapi::Asked { path, hash, headers: &self.parts.headers, now };
        openapi::answer(&self.server.documents, &self.server.resources.served(), &asked)
    }

    /// Where discovery can go on.
    fn paths(&self) -> Vec<String> {
        let served = self.server.resources.served();
        let mut paths: Vec<String> = [
            "/.well-known/openid-configuration",
            "/api",
            "/api/v1",
            "/apis",
            "/healthz",
            "/livez",
            "/metrics",
            "/metrics/slis",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/version",
        ]
        .map(str::to_owned)
        .to_vec();
        for row in served.rows() {
            let info = row.info();
            if !info.group.is_empty() {
                paths.push(format!("/apis/{}", info.group));
                paths.push(format!("/apis/{}/{}", info.group, info.version));
            }
        }
        paths.extend(self.server.checks.paths());
        paths.sort();
        paths.dedup();
        paths
    }
}

/// Figures in Prometheus' text format.
fn metrics(text: String) -> Response {
    let mut response = answer::text(200, text);
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
