//! Who may use the kubelet's server.
//!
//! Entry: [`authorize`], around every route. Invariant: a client that is not the API server or an administrator is let
//! in only if the API server says so (SubjectAccessReview on `nodes/…`).

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Refusal;
use crate::shared::Shared;

const API_SERVER: &str = "kube-apiserver-kubelet-client";

/// A client, by its certificate.
#[derive(Clone, Debug)]
pub(super) struct User {
    name: String,
    groups: Vec<String>,
}

impl User {
    /// The common name is the user, the organizations are the groups.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let subject = parsed.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups = subject.iter_organization().filter_map(|group| group.as_str().ok().map(str::to_owned)).collect();
        Some(Self { name, groups })
    }
}

/// Lets a request through, or answers 403.
pub(super) async fn authorize(
    State(shared): State<Arc<Shared>>,
    Extension(user): Extension<User>,
    request: Request,
    next: Next,
) -> Response {
    let trusted = user.name == API_SERVER || user.groups.iter().any(|group| group == "system:masters");
    if trusted {
        return next.run(request).await;
    }
    let (verb, subresource) = attributes(request.method(), request.uri().path());
    match review(&shared, &user, verb, subresource).await {
        Ok(true) => next.run(request).await,
        Ok(false) => {
            let node = &shared.config.node_name;
            let text = format!(
                "Forbidden (user={}, verb={verb}, resource=nodes, subresource={subresource}) on node {node}",
                user.name
            );
            Refusal(StatusCode::FORBIDDEN, text).into_response()
        }
        Err(error) => {
            let text = format!("Authorization error (user={}): {error}", user.name);
            Refusal(StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

/// The verb and the subresource of `nodes` that a request stands for.
fn attributes(method: &Method, path: &str) -> (&'static str, &'static str) {
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    };
    let subresource = match path.split('/').nth(1).unwrap_or_default() {
        "stats" => "stats",
        "metrics" => "metrics",
        "healthz" => "healthz",
        "pods" => "pods",
        _ => "proxy",
    };
    (verb, subresource)
}

async fn review(shared: &Shared, user: &User, verb: &str, subresource: &str) -> Result<bool, kube::Error> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            groups: Some(user.groups.clone()),
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                resource: Some("nodes".into()),
                subresource: Some(subresource.to_owned()),
                name: Some(shared.config.node_name.clone()),
                version: Some("v1".into()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api = Api::<SubjectAccessReview>::all(shared.client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
