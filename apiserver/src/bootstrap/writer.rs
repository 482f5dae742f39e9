//! [`Writer`]: how the server writes objects of its own: as `system:apiserver`, through the write path.

use std::sync::Arc;

use api::error::ApiError;
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ApiServer;
use crate::audit::Annotations;
use crate::authn::User;
use crate::http::options::{DeleteOptions, FieldValidation, Options};
use crate::read::storage_error;
use crate::resources::{Strategy, Subresource};
use crate::view::prefix;
use crate::write::{self, Place, Replacement, Warnings};

/// Who owns the fields that the server writes.
const MANAGER: &str = "kube-apiserver";

/// What nobody reads of the server's own writes.
#[derive(Default)]
struct Notes {
    warnings: Warnings,
    annotations: Annotations,
}

/// See the module.
pub(super) struct Writer {
    /// The server.
    pub server: Arc<ApiServer>,
    user: User,
    manager: &'static str,
}

/// What can be written: a built-in type.
pub(super) trait Kept:
    k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Send + Sync + 'static
{
}

impl<T> Kept for T where
    T: k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Send + Sync + 'static
{
}

impl Writer {
    pub(super) fn new(server: &Arc<ApiServer>) -> Self {
        Self::named(server, MANAGER)
    }

    /// A writer that owns what it writes under another name.
    pub(super) fn named(server: &Arc<ApiServer>, manager: &'static str) -> Self {
        Self { server: Arc::clone(server), user: User::apiserver(), manager }
    }

    /// The object as the cache has it, with its resourceVersion.
    pub(super) fn get<T: Kept>(&self, namespace: &str, name: &str) -> Option<T> {
        let prefix_of_kind = prefix(T::GROUP, T::URL_PATH_SEGMENT, "");
        let key = format!("{}{name}", prefix(T::GROUP, T::URL_PATH_SEGMENT, namespace));
        let entry = self.server.cache.resource(&prefix_of_kind)?.get(&key)?;
        serde_json::from_slice(&entry.json()).ok()
    }

    /// Creates the object; one that exists already, or whose kind is not served, is left alone.
    pub(super) async fn create<T: Kept>(&self, object: T) -> Result<(), ApiError> {
        let Some(strategy) = self.strategy::<T>() else { return Ok(()) };
        let namespace = object.metadata().namespace.clone().unwrap_or_default();
        let mut object: Box<dyn crate::object::Object> = Box::new(object);
        strategy.set_defaults(object.as_mut());
        let notes = Notes::default();
        match write::create(&self.place(strategy.as_ref(), &namespace, "", &notes), object).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the object; if it was changed meanwhile, that is a conflict.
    pub(super) async fn replace<T: Kept>(&self, object: T) -> Result<(), ApiError> {
        let Some(strategy) = self.strategy::<T>() else { return Ok(()) };
        let meta = object.metadata().clone();
        let (namespace, name) = (meta.namespace.unwrap_or_default(), meta.name.unwrap_or_default());
        let mut object: Box<dyn crate::object::Object> = Box::new(object);
        strategy.set_defaults(object.as_mut());
        let notes = Notes::default();
        write::update(&self.place(strategy.as_ref(), &namespace, &name, &notes), Replacement::Object(object))
            .await
            .map(drop)
    }

    /// Waits until the cache has what was written.
    pub(super) async fn refresh(&self) -> Result<(), ApiError> {
        self.server.cache.fresh().await.map(drop).map_err(storage_error)
    }

    /// Applies fields of the status, whoever owned them before.
    pub(super) async fn apply_status<T: Kept>(&self, name: &str, fields: &serde_json::Value) -> Result<(), ApiError> {
        let Some(strategy) = self.strategy::<T>() else { return Ok(()) };
        let text = bytes::Bytes::from(fields.to_string());
        let wanted = write::Wanted::read(&text, true, FieldValidation::Ignore)?;
        let notes = Notes::default();
        let place = Place { subresource: Some(Subresource::Status), ..self.place(strategy.as_ref(), "", name, &notes) };
        write::update(&place, Replacement::Apply(wanted)).await.map(drop)
    }

    /// Replaces the status of an object.
    pub(super) async fn replace_status<T: Kept>(&self, object: T) -> Result<(), ApiError> {
        let Some(strategy) = self.strategy::<T>() else { return Ok(()) };
        let meta = object.metadata().clone();
        let (namespace, name) = (meta.namespace.unwrap_or_default(), meta.name.unwrap_or_default());
        let notes = Notes::default();
        let place = self.place(strategy.as_ref(), &namespace, &name, &notes);
        let place = Place { subresource: Some(Subresource::Status), ..place };
        write::update(&place, Replacement::Object(Box::new(object))).await.map(drop)
    }

    /// Deletes an object; one that is gone already is fine.
    pub(super) async fn delete<T: Kept>(&self, namespace: &str, name: &str) -> Result<(), ApiError> {
        let Some(strategy) = self.strategy::<T>() else { return Ok(()) };
        let notes = Notes::default();
        let place = self.place(strategy.as_ref(), namespace, name, &notes);
        match write::delete(&place, &DeleteOptions::default()).await {
            Err(error) if !error.is_not_found() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn strategy<T: Kept>(&self) -> Option<Arc<dyn Strategy>> {
        self.server.resources.find(T::GROUP, T::VERSION, T::URL_PATH_SEGMENT)
    }

    fn place<'a>(
        &'a self,
        strategy: &'a dyn Strategy,
        namespace: &'a str,
        name: &'a str,
        notes: &'a Notes,
    ) -> Place<'a> {
        Place {
            server: &self.server,
            strategy,
            namespace,
            name,
            subresource: None,
            user: &self.user,
            manager: self.manager,
            dry_run: false,
            warnings: &notes.warnings,
            annotations: &notes.annotations,
            options: Options::None,
        }
    }
}
