//! Requests that something on a node answers: logs, exec, attach, port-forward from the pod's kubelet; `/proxy` of nodes, pods
//! and services. Entry point: [`serve`].
//!
//! First it is found out where the request goes ([`target`]: data in, data out), then the two ends are connected
//! ([`connection`]). Invariants: what identifies the caller to us (tokens, impersonation) never leaves us; kubelets are only
//! spoken to over TLS, as ourselves; no byte of a stream is looked at.

mod connection;
mod log_options;
mod target;

use api::ApiError;
use api::names::GroupResource;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use serde::de::DeserializeOwned;

use self::connection::Forward;
use self::target::{Location, Named};
use super::query::Query;
use super::request_info::ResourcePath;
use crate::ApiServer;
use crate::read;

/// How much of a kubelet's error becomes a message.
const ERROR_BYTES: usize = 2048;

/// Answers a request for `pods/{log,exec,attach,portforward,proxy}`, `nodes/proxy` or `services/proxy`.
pub async fn serve(
    server: &ApiServer,
    at: &ResourcePath,
    query: &Query,
    parts: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    match (at.resource.as_str(), at.subresource.as_str()) {
        ("pods", "log") => log(server, at, query).await,
        ("pods", "exec" | "attach") => {
            let pod: Pod = find(server, "pods", &at.namespace, &at.name).await?;
            let container = target::container(&pod, query.text("container"))?;
            let path = format!("/{}/{}/{}/{container}", at.subresource, at.namespace, at.name);
            upgrade(server, &pod, path, &target::stream_query(query), parts).await
        }
        ("pods", "portforward") => {
            let pod: Pod = find(server, "pods", &at.namespace, &at.name).await?;
            upgrade(
                server,
                &pod,
                format!("/portForward/{}/{}", at.namespace, at.name),
                &target::port_query(query),
                parts,
            )
            .await
        }
        (_, "proxy") => proxy(server, at, parts, body).await,
        _ => Err(ApiError::path_not_found()),
    }
}

/// The log of a container, as the kubelet streams it.
async fn log(server: &ApiServer, at: &ResourcePath, query: &Query) -> Result<Response, ApiError> {
    let options = log_options::read(query, &at.name)?;
    let pod: Pod = find(server, "pods", &at.namespace, &at.name).await?;
    let container = target::container(&pod, query.text("container"))?;
    if target::node_name(&pod).is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let path = format!("/containerLogs/{}/{}/{container}", at.namespace, at.name);
    let location = kubelet(server, &pod, path, options).await?;
    let forward = Forward { method: Method::GET, headers: HeaderMap::new(), body: Body::empty() };
    let answer = connection::request(server, &location, forward)
        .await
        .map_err(|error| ApiError::unclassified(error.of_get(&location)))?;
    if !(200..=206).contains(&answer.status().as_u16()) {
        return Err(refusal(answer, &at.name).await);
    }
    let mut response = Response::new(answer.into_body());
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// A kubelet's error in our own words' form.
async fn refusal(answer: Response, name: &str) -> ApiError {
    let code = answer.status().as_u16();
    let text = connection::text(answer.into_body(), ERROR_BYTES).await;
    match code {
        500 => ApiError::internal(text),
        400 => ApiError::bad_request(text),
        404 => {
            let mut error = ApiError::not_found(&GroupResource::new("", "pods/log"), name);
            error.message = format!("the server could not find the requested resource ( pods/log {name})");
            error.with_cause("UnexpectedServerResponse", &text, "")
        }
        _ => ApiError::unclassified(text),
    }
}

/// exec, attach and port-forward: the connection becomes the kubelet's.
async fn upgrade(
    server: &ApiServer,
    pod: &Pod,
    path: String,
    query: &str,
    parts: &Parts,
) -> Result<Response, ApiError> {
    if target::node_name(pod).is_empty() {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        return Err(ApiError::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let location = kubelet(server, pod, path, query.to_owned()).await?;
    if !connection::wants_upgrade(&parts.headers) {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let forward = Forward { method: parts.method.clone(), headers: parts.headers.clone(), body: Body::empty() };
    let connected = connection::upgrade(server, &location, forward, parts).await;
    connected.map_err(|error| ApiError::unclassified(format!("error dialing backend: {error}")))
}

/// Where the kubelet of a pod is.
async fn kubelet(server: &ApiServer, pod: &Pod, path: String, query: String) -> Result<Location, ApiError> {
    let node: Node = find(server, "nodes", "", target::node_name(pod)).await?;
    Ok(Location { path, query, ..target::kubelet(&node)? })
}

/// `…/proxy` of a page: without the slash its links would lead elsewhere.
fn redirect(at: &ResourcePath, parts: &Parts) -> Option<Response> {
    let plain =
        at.rest.is_empty() && !parts.uri.path().ends_with('/') && matches!(parts.method, Method::GET | Method::HEAD);
    if !plain || connection::wants_upgrade(&parts.headers) {
        return None;
    }
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let to = format!("{}/{query}", parts.uri.path());
    Some((StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, to)]).into_response())
}

async fn proxy(server: &ApiServer, at: &ResourcePath, parts: &Parts, body: Body) -> Result<Response, ApiError> {
    let named = Named::parse(&at.name).ok_or_else(|| {
        let kind = at.resource.trim_end_matches('s');
        ApiError::bad_request(format!("invalid {kind} request {}", api::field::go_quote(&at.name)))
    })?;
    let found = match at.resource.as_str() {
        "nodes" => target::of_node(&find::<Node>(server, "nodes", "", named.name).await?, &named)?,
        "pods" => target::of_pod(&find::<Pod>(server, "pods", &at.namespace, named.name).await?, &named)?,
        _ => {
            let service: Service = find(server, "services", &at.namespace, named.name).await?;
            let endpoints: Endpoints = find(server, "endpoints", &at.namespace, named.name)
                .await
                .map_err(|error| no_endpoints(error, &named))?;
            target::of_service(&service, &endpoints, &named, |count| server.rng.range(0..count))?
        }
    };
    if let Some(redirect) = redirect(at, parts) {
        return Ok(redirect);
    }
    let location = Location {
        path: target::rest_of(parts.uri.path(), at),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        ..found
    };
    let forward = Forward { method: parts.method.clone(), headers: parts.headers.clone(), body };
    let answered = if connection::wants_upgrade(&parts.headers) {
        connection::upgrade(server, &location, forward, parts).await
    } else {
        connection::request(server, &location, forward).await
    };
    answered.map_err(|error| ApiError::service_unavailable(format!("error trying to reach service: {error}")))
}

/// A service that nobody ever looked for endpoints of counts as none.
fn no_endpoints(error: ApiError, named: &Named<'_>) -> ApiError {
    if error.is_not_found() { ApiError::not_found(&GroupResource::new("", "services"), named.name) } else { error }
}

/// One object of the core group, as new as the caller can know it.
async fn find<T: DeserializeOwned>(
    server: &ApiServer,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Result<T, ApiError> {
    let strategy = server.resources.find("", "v1", plural).ok_or_else(ApiError::path_not_found)?;
    let entry = read::get(server, strategy.info(), &strategy.info().key(namespace, name), name, "").await?;
    serde_json::from_slice(&entry.json()).map_err(ApiError::internal)
}
