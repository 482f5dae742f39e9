//! The objects of flow control: the server's own are made and kept, and what is stored is put into force.
//!
//! Entry points: [`ensure`] and [`settle`] before the server is ready, [`keep`] until it ends. Mandatory objects get their specs
//! back, suggested ones only as long as their annotation says so; both come back within a minute when they are deleted, as upstream.

use std::sync::Arc;
use std::time::Duration;

use api::error::ApiError;
use futures::future::try_join_all;
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::writer::{Kept, Writer};
use crate::ApiServer;
use crate::cache::{Selection, WatchFrom, Watcher};
use crate::flow_control::{level_of, objects};
use crate::view::prefix;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// Owns the specs.
const PRODUCER: &str = "api-priority-and-fairness-config-producer-v1";
/// Owns the conditions.
const CONSUMER: &str = "api-priority-and-fairness-config-consumer-v1";
/// How long the server's own objects may be missing.
const RESTORE_AFTER: Duration = Duration::from_secs(60);
/// How long to wait before trying again what failed.
const RETRY: Duration = Duration::from_secs(1);

/// A kind with objects of the server's own.
trait Own: Kept {
    /// Takes over the spec.
    fn take_spec(&mut self, from: &Self) -> bool;
}

impl Own for PriorityLevelConfiguration {
    fn take_spec(&mut self, from: &Self) -> bool {
        let mut wanted = from.spec.clone();
        if let (Some(wanted), Some(own)) = (&mut wanted, &self.spec)
            && from.metadata.name.as_deref() == Some(objects::EXEMPT)
            && own.exempt.is_some()
        {
            // What the exempt level lends is the administrator's.
            wanted.exempt.clone_from(&own.exempt);
        }
        let changes = self.spec != wanted;
        self.spec = wanted;
        changes
    }
}

impl Own for FlowSchema {
    fn take_spec(&mut self, from: &Self) -> bool {
        let changes = self.spec != from.spec;
        self.spec.clone_from(&from.spec);
        changes
    }
}

/// Makes the server's own objects, and brings them up to date.
pub(super) async fn ensure(server: &Arc<ApiServer>) -> Result<(), ApiError> {
    let writer = Writer::named(server, PRODUCER);
    try_join_all(objects::levels().into_iter().map(|given| ensure_one(&writer, given))).await?;
    try_join_all(objects::schemas().into_iter().map(|given| ensure_one(&writer, given))).await?;
    Ok(())
}

async fn ensure_one<T: Own>(writer: &Writer, given: objects::Given<T>) -> Result<(), ApiError> {
    let name = given.object.metadata().name.clone().unwrap_or_default();
    let Some(mut found) = writer.get::<T>("", &name) else { return writer.create(given.object).await };
    let updates = given.mandatory || follows(found.metadata());
    let marked = mark(found.metadata_mut(), updates);
    let changed = updates && found.take_spec(&given.object);
    if !marked && !changed {
        return Ok(());
    }
    // Another server that starts now has done it.
    writer.replace(found).await.or_else(|error| if error.is_conflict() { Ok(()) } else { Err(error) })
}

/// Whether an object follows the server's tables: as its annotation says, else while nobody has changed it.
fn follows(metadata: &ObjectMeta) -> bool {
    match annotation(metadata) {
        Some(says) => says,
        None => metadata.generation == Some(1),
    }
}

fn annotation(metadata: &ObjectMeta) -> Option<bool> {
    match metadata.annotations.as_ref()?.get(objects::AUTOUPDATE)?.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Writes down whether the object follows; false if it says so already.
fn mark(metadata: &mut ObjectMeta, follows: bool) -> bool {
    if annotation(metadata) == Some(follows) {
        return false;
    }
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(objects::AUTOUPDATE.to_owned(), follows.to_string());
    true
}

/// Puts what is stored into force, and says of each schema whether its level exists.
pub(super) async fn settle(server: &Arc<ApiServer>) -> Result<(), ApiError> {
    let levels: Vec<PriorityLevelConfiguration> = list(server, "prioritylevelconfigurations");
    let schemas: Vec<FlowSchema> = list(server, "flowschemas");
    server.flow_control.configure(&levels, &schemas);
    let writer = Writer::named(server, CONSUMER);
    let exists = |name: &str| levels.iter().any(|level| level.metadata.name.as_deref() == Some(name));
    let now = server.clock.now_seconds().to_string();
    let wanted = schemas.iter().filter_map(|schema| condition(schema, exists(level_of(schema)), &now));
    try_join_all(wanted.map(|(name, fields)| {
        let writer = &writer;
        async move {
            let written = writer.apply_status::<FlowSchema>(&name, &fields).await;
            written.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
        }
    }))
    .await?;
    Ok(())
}

fn list<T: DeserializeOwned>(server: &ApiServer, plural: &str) -> Vec<T> {
    let items = server.view.list(GROUP, plural, "");
    items.iter().filter_map(|item| serde_json::from_slice(&item.bytes).ok()).collect()
}

/// The name of the schema and its new condition; none if it has that condition.
fn condition(schema: &FlowSchema, exists: bool, now: &str) -> Option<(String, Value)> {
    let name = schema.metadata.name.clone()?;
    let about =
        format!("This FlowSchema references the PriorityLevelConfiguration object named \"{}\"", level_of(schema));
    let (status, reason, message) = if exists {
        ("False", "Found", format!("{about} and it exists"))
    } else {
        ("True", "NotFound", format!("{about} but there is no such object"))
    };
    let conditions = schema.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_there = conditions.iter().any(|condition| {
        condition.type_.as_deref() == Some("Dangling")
            && condition.status.as_deref() == Some(status)
            && condition.reason.as_deref() == Some(reason)
            && condition.message.as_deref() == Some(&message)
    });
    let condition = json!({"type": "Dangling", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": now});
    let fields = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "FlowSchema", "metadata": {"name": name},
        "status": {"conditions": [condition]}});
    (!is_there).then_some((name, fields))
}

/// Follows the objects until the server ends. The watches have been opened when the objects were settled, so that no change is
/// missed in between.
pub(crate) async fn keep(server: Arc<ApiServer>, mut watches: Watches, token: CancellationToken) {
    let mut restore_at: Option<Instant> = None;
    loop {
        let done = tokio::select! {
            biased;
            () = token.cancelled() => return,
            () = sleep_until(restore_at.unwrap_or_else(Instant::now)), if restore_at.is_some() => {
                restore_at = None;
                ensure(&server).await
            }
            more = watches.changed() => {
                if !more {
                    sleep(RETRY).await;
                    watches = Watches::open(&server);
                }
                restore_at.get_or_insert_with(|| Instant::now() + RESTORE_AFTER);
                settle(&server).await
            }
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the objects of flow control were not brought up to date");
            restore_at.get_or_insert_with(|| Instant::now() + RESTORE_AFTER);
        }
    }
}

/// What is followed.
pub(crate) struct Watches {
    levels: Option<Watcher>,
    schemas: Option<Watcher>,
}

impl Watches {
    /// Changes from now on.
    pub(crate) fn open(server: &ApiServer) -> Self {
        let watch = |plural| {
            let resource = server.cache.resource(&prefix(GROUP, plural, ""))?;
            resource.watch(WatchFrom::After(resource.revision()), Selection::everything()).ok()
        };
        Self { levels: watch("prioritylevelconfigurations"), schemas: watch("flowschemas") }
    }

    /// Waits for a change; false when a watch has ended.
    async fn changed(&mut self) -> bool {
        let (Some(levels), Some(schemas)) = (&mut self.levels, &mut self.schemas) else { return false };
        tokio::select! {
            biased;
            event = levels.next() => event.is_some(),
            event = schemas.next() => event.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_follows_the_tables() {
        let metadata = |annotation: Option<&str>, generation| ObjectMeta {
            annotations: annotation.map(|says| [(objects::AUTOUPDATE.to_owned(), says.to_owned())].into()),
            generation: Some(generation),
            ..ObjectMeta::default()
        };
        let table = [
            (Some("true"), 5, true),
            (Some("false"), 1, false),
            (Some("perhaps"), 1, true),
            (None, 1, true),
            (None, 2, false),
        ];
        for (annotation, generation, wanted) in table {
            assert_eq!(follows(&metadata(annotation, generation)), wanted, "{annotation:?} {generation}");
        }
        let mut own = metadata(None, 2);
        assert!(mark(&mut own, false) && !mark(&mut own, false));
    }
}
