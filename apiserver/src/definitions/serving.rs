//! Which defined kinds are served: [`Serving::bring_to`] makes the rows, the cache and so discovery follow the definitions.
//!
//! A definition whose specification and names did not change keeps its rows and its watches; any other change of it begins both
//! anew, so that watchers see the objects as the new schema shows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::error::ApiError;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames, CustomResourceDefinitionSpec,
};

use crate::ApiServer;
use crate::cache::{ResourceSpec, SelectableField, Shown};
use crate::read::storage_error;
use crate::resources::Strategy;
use crate::resources::custom::conversion::{Conversion, Webhook};
use crate::resources::custom::{self, CustomResource};
use crate::resources::definition::is_true;
use crate::webhook::{ClientConfig, ServiceReference};

/// See the module.
pub(super) struct Serving {
    server: Arc<ApiServer>,
    served: BTreeMap<String, Served>,
}

/// A definition as it is served.
struct Served {
    /// As it was when it was last looked at.
    definition: Arc<CustomResourceDefinition>,
    about: About,
    prefix: String,
    rows: Vec<Arc<CustomResource>>,
}

/// What decides about the rows of a definition.
#[derive(Clone, PartialEq)]
struct About {
    uid: Option<String>,
    spec: CustomResourceDefinitionSpec,
    names: CustomResourceDefinitionNames,
    stored_versions: Vec<String>,
    terminating: bool,
}

impl About {
    fn of(definition: &CustomResourceDefinition) -> Self {
        let status = definition.status.clone().unwrap_or_default();
        Self {
            uid: definition.metadata.uid.clone(),
            spec: definition.spec.clone(),
            names: status.accepted_names.unwrap_or_default(),
            stored_versions: status.stored_versions.unwrap_or_default(),
            terminating: definition.metadata.deletion_timestamp.is_some(),
        }
    }

    /// Whether the objects themselves look the same.
    fn shows_alike(&self, other: &Self) -> bool {
        self.uid == other.uid && self.spec == other.spec
    }
}

impl Serving {
    pub(super) fn new(server: &Arc<ApiServer>) -> Self {
        Self { server: Arc::clone(server), served: BTreeMap::new() }
    }

    /// Serves the established ones of these definitions, and no others.
    pub(super) async fn bring_to(
        &mut self,
        definitions: &BTreeMap<String, Arc<CustomResourceDefinition>>,
    ) -> Result<(), ApiError> {
        let established = |definition: &Arc<CustomResourceDefinition>| is_true(definition, "Established");
        let mut changed = false;
        let gone = |name: &&String| !definitions.get(*name).is_some_and(established);
        for name in self.served.keys().filter(gone).cloned().collect::<Vec<_>>() {
            self.end(&name);
        }
        for (name, definition) in definitions.iter().filter(|(_, definition)| established(definition)) {
            changed |= self.bring(name, definition).await?;
        }
        if changed {
            self.publish();
        }
        Ok(())
    }

    /// Serves a definition no longer.
    pub(super) fn end(&mut self, name: &str) {
        if let Some(served) = self.served.remove(name) {
            self.publish();
            self.server.cache.remove_resource(&served.prefix);
            tracing::info!(definition = name, "no longer served");
        }
    }

    /// Serves one definition; true if that is new.
    async fn bring(&mut self, name: &str, definition: &Arc<CustomResourceDefinition>) -> Result<bool, ApiError> {
        if self.served.get(name).is_some_and(|known| Arc::ptr_eq(&known.definition, definition)) {
            return Ok(false);
        }
        let about = About::of(definition);
        if let Some(known) = self.served.get_mut(name).filter(|known| known.about == about) {
            known.definition = Arc::clone(definition);
            return Ok(false);
        }
        let known = self.served.get(name);
        let (rows, shown) = match self.rows(definition) {
            Ok(made) => made,
            Err(error) => {
                tracing::error!(definition = name, %error, "can't be served");
                return Ok(self.served.remove(name).is_some());
            }
        };
        let prefix = format!("/registry/{}/{}/", definition.spec.group, definition.spec.names.plural);
        if known.is_some_and(|known| !known.about.shows_alike(&about)) {
            self.server.cache.remove_resource(&prefix);
        }
        self.server.cache.add_resource(spec(definition, &prefix, &rows, shown)).await.map_err(storage_error)?;
        self.served.insert(name.to_owned(), Served { definition: Arc::clone(definition), about, prefix, rows });
        tracing::info!(definition = name, "served");
        Ok(true)
    }

    /// The served versions, and how the cache shows what is stored.
    fn rows(
        &self,
        definition: &CustomResourceDefinition,
    ) -> Result<(Vec<Arc<CustomResource>>, Option<Shown>), custom::RowError> {
        let conversion = self.conversion(definition).map(Arc::new);
        let all = custom::rows(definition, conversion.as_ref())?;
        let stored = all.iter().find(|row| row.info().version == row.info().stored_version);
        let shown = stored.map(custom::shown);
        let is_served =
            |name: &str| definition.spec.versions.iter().any(|version| version.served && version.name == name);
        Ok((all.into_iter().filter(|row| is_served(&row.info().version)).collect(), shown))
    }

    /// How objects of the definition change versions; none while there is but one.
    fn conversion(&self, definition: &CustomResourceDefinition) -> Option<Conversion> {
        let stored =
            definition.status.as_ref().and_then(|status| status.stored_versions.as_deref()).unwrap_or_default();
        if definition.spec.versions.len() < 2 && stored.len() < 2 {
            return None;
        }
        let webhook = definition.spec.conversion.as_ref().and_then(|conversion| conversion.webhook.as_ref());
        let Some(webhook) = webhook else { return Some(Conversion::None) };
        let client = webhook.client_config.clone().unwrap_or_default();
        let service = client.service.map(|service| ServiceReference {
            namespace: service.namespace,
            name: service.name,
            path: service.path.unwrap_or_default(),
            port: service.port.and_then(|port| u16::try_from(port).ok()).unwrap_or_default(),
        });
        let ca_bundle = client.ca_bundle.map(|bundle| bundle.0).unwrap_or_default();
        Some(Conversion::Webhook(Webhook {
            client: Arc::clone(&self.server.webhooks),
            config: ClientConfig { url: client.url, service, ca_bundle },
            review_versions: webhook.conversion_review_versions.clone(),
            rng: self.server.rng.clone(),
        }))
    }

    /// Shows clients the rows as they are now.
    fn publish(&self) {
        let rows = self.served.values().flat_map(|served| &served.rows);
        let rows = rows.map(|row| Arc::clone(row) as Arc<dyn Strategy>).collect();
        self.server.resources.set_custom(rows);
    }
}

/// What the cache must know: objects of all versions are kept in one place.
fn spec(
    definition: &CustomResourceDefinition,
    prefix: &str,
    rows: &[Arc<CustomResource>],
    shown: Option<Shown>,
) -> ResourceSpec {
    let storage = definition.spec.versions.iter().find(|version| version.storage);
    let mut fields: Vec<SelectableField> = Vec::new();
    for field in rows.iter().flat_map(|row| &row.info().fields) {
        if !fields.iter().any(|known| known.name == field.name) {
            fields.push(field.clone());
        }
    }
    let version = storage.map(|storage| storage.name.as_str()).unwrap_or_default();
    ResourceSpec {
        prefix: prefix.to_owned(),
        api_version: format!("{}/{version}", definition.spec.group),
        kind: definition.spec.names.kind.clone(),
        fields,
        shown,
    }
}
