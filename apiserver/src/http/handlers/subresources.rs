//! What hangs below an object: scale, binding, eviction, tokens, finalizers, and the streams that kubelets serve.

use api::ApiError;
use axum::body::Body;
use axum::http::Method;
use axum::response::Response;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::policy::v1::Eviction;
use serde_json::{Value, json};

use super::{Call, Failure, On, ResourcePath};
use crate::admission::{Operation, Other};
use crate::aggregation::is_remote;
use crate::http::answer;
use crate::http::body;
use crate::http::media::{Accepted, OBJECT_TYPES, Offers, check_accept};
use crate::http::node_proxy;
use crate::http::options::{DeleteOptions, WriteOptions};
use crate::object::Object;
use crate::read;
use crate::resources::{Subresource, custom};
use crate::tokens::request;
use crate::write::scale::{self, NewScale};
use crate::write::{Place, binding, eviction, metadata, tracking};

impl On<'_> {
    pub(super) async fn subresource(&self, subresource: Subresource, body: Body) -> Result<Response, Failure> {
        match subresource {
            Subresource::Log
            | Subresource::Exec
            | Subresource::Attach
            | Subresource::PortForward
            | Subresource::Proxy => {
                self.admit_connection(subresource).await?;
                return self.call.to_node(self.at, body).await;
            }
            Subresource::Status
            | Subresource::Scale
            | Subresource::Binding
            | Subresource::Eviction
            | Subresource::Token
            | Subresource::Finalize
            | Subresource::EphemeralContainers
            | Subresource::Resize
            | Subresource::Approval => self.call.check_media(self.at, self.info())?,
        }
        match subresource {
            Subresource::Scale => self.scale(body).await,
            Subresource::Binding => self.bind(body).await,
            Subresource::Eviction => self.evict(body).await,
            Subresource::Token => self.token(body).await,
            _ => match self.call.parts.method.as_str() {
                "GET" => self.get().await,
                "PUT" => self.replace(body).await,
                _ => self.patch(body).await,
            },
        }
    }

    async fn scale(&self, body: Body) -> Result<Response, Failure> {
        let accepted = self.plain_form()?;
        if self.call.parts.method == Method::GET {
            let key = self.info().key(self.namespace, &self.at.name);
            let version = self.call.query.text("resourceVersion");
            let entry = read::get(&self.call.server, self.info(), &key, &self.at.name, version).await?;
            let mut object = custom::from_store(self.strategy.as_ref(), entry.stored()).await?;
            object.metadata_mut().resource_version = Some(entry.revision.to_string());
            let scale = scale::read(self.strategy.as_ref(), object.as_ref())?;
            return Ok(answer::value(200, accepted, &scale::to_value(&scale)));
        }
        let (options, new) = if self.call.parts.method == Method::PATCH {
            let options = self.write_options("PatchOptions")?;
            let new = match self.is_apply() {
                true => NewScale::Apply(self.read_apply(body, &options).await?),
                false => NewScale::Patch(self.read_patch(body, &options).await?),
            };
            (options, new)
        } else {
            let options = self.write_options("UpdateOptions")?;
            let scale = self.read_other(body, &options, "autoscaling/v1", "Scale").await?;
            (options, NewScale::Object(scale))
        };
        let scaled = scale::update(&self.place_for(&options), new).await?;
        Ok(answer::value(200, accepted, &scale::to_value(&scaled)))
    }

    async fn bind(&self, body: Body) -> Result<Response, Failure> {
        let accepted = self.plain_form()?;
        let options = self.write_options("CreateOptions")?;
        let value = self.read_other(body, &options, "v1", "Binding").await?;
        binding::bind(&self.place_for(&options), value).await?;
        Ok(answer::value(201, accepted, &binding::done()))
    }

    async fn evict(&self, body: Body) -> Result<Response, Failure> {
        let accepted = self.plain_form()?;
        let options = self.write_options("CreateOptions")?;
        let mut value = self.read_other(body, &options, "policy/v1", "Eviction").await?;
        if let Value::Object(fields) = &mut value {
            fields.insert("apiVersion".to_owned(), Value::from("policy/v1"));
        }
        let mut eviction: Eviction = serde_json::from_value(value).map_err(|error| {
            ApiError::bad_request(format!("Eviction in version \"v1\" cannot be handled as a Eviction: json: {error}"))
        })?;
        metadata::match_namespace(&mut eviction.metadata, self.info(), self.namespace)?;
        if eviction.metadata.name.as_deref().unwrap_or_default() != self.at.name {
            return Err(ApiError::bad_request("name in URL does not match name in Eviction object").into());
        }
        let mut other = Other::of(&eviction);
        self.place_for(&options).mutate_other(Operation::Create, &mut eviction, &mut other).await?;
        let delete = DeleteOptions::of_eviction(eviction.delete_options, self.call.query.all("dryRun"))?;
        let place = Place { dry_run: delete.dry_run, ..self.place_for(&options) };
        eviction::evict(&place, &delete, &other).await?;
        Ok(answer::value(201, accepted, &binding::done()))
    }

    async fn token(&self, body: Body) -> Result<Response, Failure> {
        let accepted = self.plain_form()?;
        let options: WriteOptions = self.write_options("CreateOptions")?;
        let value = self.read_other(body, &options, "authentication.k8s.io/v1", "TokenRequest").await?;
        let place = self.place_for(&options);
        let server = &self.call.server;
        let (now, lookup) = (server.clock.now(), server.lookup.as_ref());
        let mut request: TokenRequest = serde_json::from_value(value).map_err(|error| {
            ApiError::bad_request(format!(
                "TokenRequest in version \"v1\" cannot be handled as a TokenRequest: json: {error}"
            ))
        })?;
        request.spec.get_or_insert_default().expiration_seconds.get_or_insert(request::DEFAULT_SECONDS);
        tracking::track_other(&place, "authentication.k8s.io/v1", "TokenRequest", &mut request);
        let mut request = request::prepare(request, &server.tokens, self.namespace, &self.at.name, now, lookup).await?;
        let other = Other::of(&request);
        place.admit_other(Operation::Create, &mut request, other).await?;
        server.tokens.ready().await;
        let issued = request::issue(request, &server.tokens, &server.rng, now, lookup).await?;
        Ok(answer::value(201, accepted, &issued.to_value()))
    }

    /// The form of an answer that has no Table.
    fn plain_form(&self) -> Result<Accepted, ApiError> {
        check_accept(&self.call.parts.headers, OBJECT_TYPES)?;
        Accepted::negotiate(&self.call.parts.headers, &self.call.query, Offers::OTHER)
    }

    async fn read_other(
        &self,
        body: Body,
        options: &WriteOptions,
        api_version: &str,
        kind: &str,
    ) -> Result<Value, ApiError> {
        let bytes = self.read(body).await?;
        let (headers, validation) = (&self.call.parts.headers, options.field_validation);
        let mut value = body::decode_other(headers, &bytes, api_version, kind, validation, &self.call.warnings)?;
        if value.is_null() {
            value = json!({});
        }
        self.call.sent(|| value.clone());
        Ok(value)
    }
}

impl Call {
    /// Passes the request on to the kubelet, pod or service behind it.
    async fn to_node(&self, at: &ResourcePath, body: Body) -> Result<Response, Failure> {
        Ok(node_proxy::serve(&self.server, at, &self.query, &self.parts, body).await?)
    }

    /// Paths whose resource has no row: groups and kinds that are not served.
    pub(super) async fn unserved(&self, at: &ResourcePath) -> Result<Response, Failure> {
        let served = self.server.resources.served();
        let known = served.rows().iter().any(|row| row.info().group == at.group);
        if is_remote(&self.server.remotes(), &at.group, &at.version) {
            return Ok(answer::unavailable());
        }
        if !known {
            return Ok(answer::page_not_found());
        }
        Err(ApiError::path_not_found().into())
    }
}
