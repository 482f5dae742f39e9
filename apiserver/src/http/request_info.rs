//! What a request is about, read from its method, path and query. Entry point: [`RequestInfo::parse`].
//!
//! The rules are upstream's RequestInfoFactory: authorization, audit and routing all decide on this one reading.

use axum::http::Method;

use super::query::{Query, percent_decode};
use crate::authz::Target;

/// The parts of a request that name what is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    /// The decoded path.
    pub path: String,
    /// Upstream's verb: get, list, watch, create, update, patch, delete, deletecollection; the lower-case method for plain paths;
    /// empty for methods that mean nothing on resources.
    pub verb: &'static str,
    /// The resource parts; none for plain paths.
    pub resource: Option<ResourcePath>,
}

/// The parts of a resource path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourcePath {
    /// API group; empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Empty for cluster-scoped requests.
    pub namespace: String,
    /// Plural.
    pub resource: String,
    /// Object name; for lists the name that the field selector asks for.
    pub name: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// What follows the subresource (proxy paths).
    pub rest: Vec<String>,
    /// The path has the deprecated `/watch/` step.
    pub watch_path: bool,
    /// The path itself names an object.
    pub named: bool,
}

impl RequestInfo {
    /// Reads method, raw path and query.
    pub fn parse(method: &Method, raw_path: &str, query: &Query) -> Self {
        let path = percent_decode(raw_path, false);
        match resource_path(&path) {
            Some(mut resource) => {
                let verb = resource_verb(method, &mut resource, query);
                Self { path, verb, resource: Some(resource) }
            }
            None => Self { path, verb: plain_verb(method), resource: None },
        }
    }

    /// What the authorizers decide on.
    pub fn target(&self) -> Target {
        match &self.resource {
            Some(at) => Target::Resource {
                group: at.group.clone(),
                version: at.version.clone(),
                resource: at.resource.clone(),
                subresource: at.subresource.clone(),
                namespace: at.namespace.clone(),
                name: at.name.clone(),
            },
            None => Target::Path(self.path.clone()),
        }
    }
}

fn resource_path(path: &str) -> Option<ResourcePath> {
    let trimmed = path.strip_prefix('/')?;
    let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
    let mut parts = trimmed.split('/');
    let mut at = ResourcePath::default();
    match parts.next()? {
        "api" => {}
        "apis" => at.group = parts.next()?.to_owned(),
        _ => return None,
    }
    at.version = parts.next()?.to_owned();
    let mut parts: Vec<&str> = parts.collect();
    if parts.is_empty() {
        return None;
    }
    if parts[0] == "watch" {
        at.watch_path = true;
        parts.remove(0);
    }
    if let ["namespaces", namespace, ..] = parts.as_slice() {
        at.namespace = (*namespace).to_owned();
        let of_namespace = matches!(parts.get(2), None | Some(&("status" | "finalize")));
        if !of_namespace {
            parts.drain(..2);
        }
    }
    let part = |i: usize| parts.get(i).map(|part| (*part).to_owned()).unwrap_or_default();
    at.resource = part(0);
    at.name = part(1);
    at.subresource = part(2);
    at.named = parts.len() > 1;
    at.rest = parts.iter().skip(3).map(|part| (*part).to_owned()).collect();
    Some(at)
}

fn resource_verb(method: &Method, at: &mut ResourcePath, query: &Query) -> &'static str {
    let by_method = match method.as_str() {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    };
    match by_method {
        "get" if at.watch_path => "watch",
        "get" if !at.named => {
            if let Some(name) = selected_name(query) {
                at.name = name;
            }
            if query.boolean("watch") { "watch" } else { "list" }
        }
        "delete" if !at.named => "deletecollection",
        verb => verb,
    }
}

/// The name that `fieldSelector=metadata.name=x` asks for: such lists and watches are authorized for that name.
fn selected_name(query: &Query) -> Option<String> {
    let selector = api::selector::FieldSelector::parse(query.first("fieldSelector")?).ok()?;
    selector.exact("metadata.name").map(str::to_owned).filter(|name| api::names::path_segment(name).is_empty())
}

fn plain_verb(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        "TRACE" => "trace",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, path: &str, query: &str) -> RequestInfo {
        RequestInfo::parse(&method.parse().unwrap(), path, &Query::parse(query))
    }

    #[test]
    fn paths_are_read_as_upstream_reads_them() {
        let table = [
            ("GET", "/api/v1/pods", "", "list", "v1||pods||"),
            ("GET", "/api/v1/pods", "watch=1", "watch", "v1||pods||"),
            ("GET", "/api/v1/pods", "fieldSelector=metadata.name%3Da", "list", "v1||pods|a|"),
            ("GET", "/api/v1/namespaces/n/pods/p", "watch=1", "get", "v1|n|pods|p|"),
            ("GET", "/api/v1/namespaces/n", "", "get", "v1|n|namespaces|n|"),
            ("PUT", "/api/v1/namespaces/n/finalize", "", "update", "v1|n|namespaces|n|finalize"),
            ("GET", "/api/v1/namespaces/n/pods/", "", "list", "v1|n|pods||"),
            ("POST", "/api/v1/namespaces/n/pods/p/binding", "", "create", "v1|n|pods|p|binding"),
            ("DELETE", "/apis/apps/v1/namespaces/n/deployments", "", "deletecollection", "v1|n|deployments||"),
            ("GET", "/api/v1/watch/namespaces/n/pods", "", "watch", "v1|n|pods||"),
            ("PATCH", "/api/v1/nodes/a%20b/status", "", "patch", "v1||nodes|a b|status"),
            ("BREW", "/api/v1/nodes/a", "", "", "v1||nodes|a|"),
        ];
        for (method, path, query, verb, parts) in table {
            let info = parse(method, path, query);
            let at = info.resource.expect(path);
            assert_eq!(info.verb, verb, "{path}");
            assert_eq!(
                format!("{}|{}|{}|{}|{}", at.version, at.namespace, at.resource, at.name, at.subresource),
                parts,
                "{path}"
            );
        }
    }

    #[test]
    fn other_paths_are_plain() {
        for path in ["/", "/api", "/api/v1", "/apis/apps/v1", "/healthz", "/version", "/API/v1/pods"] {
            assert_eq!(parse("GET", path, "").resource, None, "{path}");
        }
        assert_eq!(parse("POST", "/healthz", "").verb, "post");
    }
}
