//! What admission does about storage: StorageObjectInUseProtection (finalizers until nobody uses a claim or volume any more),
//! DefaultStorageClass (a class for claims that name none) and PersistentVolumeClaimResize (only what can grow may).

use api::error::ApiError;
use api::well_known::{annotations, finalizers};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;

use super::default_class::{default_of, newest};
use super::{Attributes, Lookup, Operation, Plugin, find};
use crate::object::{Object, downcast, downcast_mut};

const GROUP: &str = "storage.k8s.io";
const DEFAULT_MARKS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// Gives new claims and volumes the finalizer that keeps them while they are used.
pub struct StorageObjectInUseProtection;

/// Gives a new claim without a class the cluster's default one.
pub struct DefaultStorageClass;

/// Lets a claim grow only if it is bound and its class allows that.
pub struct PersistentVolumeClaimResize;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.resource.group.is_empty()
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut dyn Object>,
        _: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let finalizer = match () {
            () if attributes.is("", "persistentvolumeclaims") => finalizers::CLAIM_PROTECTION,
            () if attributes.is("", "persistentvolumes") => finalizers::VOLUME_PROTECTION,
            () => return Ok(()),
        };
        if let Some(object) = object {
            let all = object.metadata_mut().finalizers.get_or_insert_default();
            if !all.iter().any(|one| one == finalizer) {
                all.push(finalizer.to_owned());
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "persistentvolumeclaims")
    }

    async fn mutate(
        &self,
        _: &Attributes<'_>,
        object: Option<&mut dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let Some(claim) = object.and_then(downcast_mut::<PersistentVolumeClaim>) else { return Ok(()) };
        let spec = claim.spec.get_or_insert_default();
        let annotated =
            claim.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(annotations::STORAGE_CLASS));
        if annotated || spec.storage_class_name.is_some() {
            return Ok(());
        }
        let classes = default_of::<StorageClass>(lookup, GROUP, "storageclasses", &DEFAULT_MARKS).await?;
        spec.storage_class_name = newest(classes).and_then(|class| class.metadata.name);
        Ok(())
    }
}

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is("", "persistentvolumeclaims")
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let claims = object.and_then(downcast).zip(attributes.old.and_then(downcast));
        let Some((new, old)) = claims else { return Ok(()) };
        if size(new) <= size(old) {
            return Ok(());
        }
        if old.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
            return Err(attributes.forbidden(Some(new), "Only bound persistent volume claims can be expanded"));
        }
        let name = class_of(new).filter(|name| Some(*name) == class_of(old));
        let class = match name {
            Some(name) => find::<StorageClass>(lookup, GROUP, "storageclasses", "", name).await?,
            None => None,
        };
        if class.is_some_and(|class| class.allow_volume_expansion == Some(true)) {
            return Ok(());
        }
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
        Err(attributes.forbidden(Some(new), why))
    }
}

fn size(claim: &PersistentVolumeClaim) -> api::Quantity {
    let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    api::pods::Resources::from_wire(requests).get("storage")
}

fn class_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    api::quota::storage_class(claim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::fixture::{create, resource};
    use crate::authn::User;
    use crate::view::fixture::Objects;
    use serde_json::{Value, json};

    fn claim(spec: Value, phase: &str) -> PersistentVolumeClaim {
        serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": spec, "status": {"phase": phase}}))
            .expect("a claim")
    }

    fn classes() -> Objects {
        let class = |name: &str, default: &str, made: &str, grows: bool| {
            let meta = json!({"name": name, "creationTimestamp": made, "annotations": {DEFAULT_MARKS[0]: default}});
            (GROUP, "storageclasses", json!({"metadata": meta, "provisioner": "p", "allowVolumeExpansion": grows}))
        };
        Objects::with(&[
            class("a", "true", "2026-01-01T00:00:00Z", false),
            class("b", "true", "2026-01-02T00:00:00Z", true),
            class("c", "false", "2026-01-03T00:00:00Z", true),
        ])
    }

    #[tokio::test]
    async fn claims_without_a_class_get_the_newest_default() {
        let (info, user) = (resource("", "persistentvolumeclaims", "PersistentVolumeClaim", true), User::default());
        let table = [
            (json!({}), json!("b")),
            (json!({"storageClassName": ""}), json!("")),
            (json!({"storageClassName": "c"}), json!("c")),
        ];
        for (spec, expected) in table {
            let mut claim = claim(spec, "Pending");
            let attributes = create(&info, &user, "n");
            DefaultStorageClass.mutate(&attributes, Some(&mut claim), &classes()).await.expect("no error");
            StorageObjectInUseProtection.mutate(&attributes, Some(&mut claim), &classes()).await.expect("no error");
            StorageObjectInUseProtection.mutate(&attributes, Some(&mut claim), &classes()).await.expect("no error");
            assert_eq!(json!(claim.spec.unwrap_or_default().storage_class_name), expected);
            assert_eq!(claim.metadata.finalizers.unwrap_or_default(), ["kubernetes.io/pvc-protection"]);
        }
    }

    #[tokio::test]
    async fn only_bound_claims_of_growing_classes_grow() {
        let (info, user) = (resource("", "persistentvolumeclaims", "PersistentVolumeClaim", true), User::default());
        let spec =
            |class: &str, size: &str| json!({"storageClassName": class, "resources": {"requests": {"storage": size}}});
        let refused = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
        let table = [
            ("b", "Bound", "2Gi", None),
            ("b", "Bound", "1Gi", None),
            ("b", "Pending", "2Gi", Some("Only bound persistent volume claims can be expanded")),
            ("a", "Bound", "2Gi", Some(refused)),
            ("", "Bound", "2Gi", Some(refused)),
        ];
        for (class, phase, size, expected) in table {
            let (old, new) = (claim(spec(class, "1Gi"), phase), claim(spec(class, size), phase));
            let attributes = Attributes { operation: Operation::Update, old: Some(&old), ..create(&info, &user, "n") };
            let answer = PersistentVolumeClaimResize.validate(&attributes, Some(&new), &classes()).await;
            let expected = expected.map(|why| format!("persistentvolumeclaims \"x\" is forbidden: {why}"));
            assert_eq!(answer.err().map(|error| error.message), expected, "{class} {phase} {size}");
        }
    }
}
