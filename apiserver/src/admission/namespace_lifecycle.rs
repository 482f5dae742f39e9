//! NamespaceLifecycle: nothing is created in a namespace that is missing or goes away, and some namespaces never go away.

use api::error::ApiError;
use api::names::GroupResource;
use api::well_known::namespaces;
use async_trait::async_trait;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Attributes, Lookup, Operation, Plugin, find};
use crate::object::Object;

/// See the module.
pub struct NamespaceLifecycle;

const IMMORTAL: [&str; 3] = [namespaces::DEFAULT, namespaces::SYSTEM, namespaces::PUBLIC];

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        let review = attributes.resource.group == "authorization.k8s.io";
        match attributes.is_any("", "namespaces") {
            true => attributes.operation == Operation::Delete,
            false => !attributes.namespace.is_empty() && attributes.operation != Operation::Delete && !review,
        }
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        if attributes.operation == Operation::Delete {
            return match IMMORTAL.contains(&attributes.name) {
                true => Err(attributes.forbidden(None, "this namespace may not be deleted")),
                false => Ok(()),
            };
        }
        let namespace = find::<Life>(lookup, "", "namespaces", "", attributes.namespace).await?;
        let namespace = namespace
            .ok_or_else(|| ApiError::not_found(&GroupResource::new("", "namespaces"), attributes.namespace))?;
        if attributes.operation == Operation::Create && namespace.is_terminating() {
            return Err(terminating(attributes, object.as_deref()));
        }
        Ok(())
    }
}

/// What each write wants to know of its namespace.
#[derive(Deserialize)]
struct Life {
    metadata: Metadata,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Status {
    phase: Option<String>,
}

impl Life {
    fn is_terminating(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Terminating") || self.metadata.deletion_timestamp.is_some()
    }
}

fn terminating(attributes: &Attributes<'_>, object: Option<&dyn Object>) -> ApiError {
    let name = attributes.namespace;
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let cause = format!("namespace {name} is being terminated");
    attributes.forbidden(object, &why).with_cause("NamespaceTerminating", &cause, "metadata.namespace")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::fixture::{create, resource};
    use crate::authn::User;
    use crate::view::fixture::Objects;
    use serde_json::json;

    #[tokio::test]
    async fn namespaces_must_live() {
        let objects = Objects::with(&[
            ("", "namespaces", json!({"metadata": {"name": "live"}, "status": {"phase": "Active"}})),
            ("", "namespaces", json!({"metadata": {"name": "dying"}, "status": {"phase": "Terminating"}})),
        ]);
        let (maps, all) =
            (resource("", "configmaps", "ConfigMap", true), resource("", "namespaces", "Namespace", false));
        let user = User::default();
        let at = |operation, namespace| Attributes { operation, ..create(&maps, &user, namespace) };
        let delete = |name| Attributes { operation: Operation::Delete, name, ..create(&all, &user, "") };
        let refused = "configmaps \"x\" is forbidden: unable to create new content in namespace dying because it is being terminated";
        let table = [
            (at(Operation::Create, "live"), Ok(())),
            (at(Operation::Create, "dying"), Err((403, refused))),
            (at(Operation::Create, "none"), Err((404, "namespaces \"none\" not found"))),
            (at(Operation::Update, "dying"), Ok(())),
            (at(Operation::Delete, "none"), Ok(())),
            (delete("live"), Ok(())),
            (delete("default"), Err((403, "namespaces \"default\" is forbidden: this namespace may not be deleted"))),
        ];
        for (attributes, expected) in table {
            let answer = NamespaceLifecycle.mutate(&attributes, None, &objects).await;
            assert_eq!(answer.as_ref().map_err(|error| (error.code, error.message.as_str())).copied(), expected);
            if let Err(error) = answer
                && attributes.namespace == "dying"
            {
                assert!(error.has_cause("NamespaceTerminating"));
            }
        }
    }
}
