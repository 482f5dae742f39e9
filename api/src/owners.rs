//! Owner references: who an object belongs to and who controls it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::{Metadata, Resource};

/// The reference to the controller of an object, if it has one.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_ref()?.iter().find(|reference| reference.controller == Some(true))
}

/// Whether the object is controlled by the owner with this uid.
pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|reference| reference.uid == uid)
}

/// A reference to the owner, to be put into what it owns.
pub fn owner_reference<K>(owner: &K, controller: bool, block_owner_deletion: bool) -> OwnerReference
where
    K: Resource + Metadata<Ty = ObjectMeta>,
{
    let meta = owner.metadata();
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(controller),
        block_owner_deletion: Some(block_owner_deletion),
    }
}

/// The group of a reference's apiVersion: `apps` of `apps/v1`, empty of `v1`.
pub fn group_of(reference: &OwnerReference) -> &str {
    reference.api_version.split_once('/').map_or("", |(group, _)| group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ReplicationController;

    #[test]
    fn the_controller_is_the_marked_owner() {
        let mut rc = ReplicationController::default();
        rc.metadata.name = Some("rc".to_owned());
        rc.metadata.uid = Some("u1".to_owned());
        let plain = owner_reference(&rc, false, false);
        let controller = OwnerReference { uid: "u2".to_owned(), ..owner_reference(&rc, true, true) };
        assert_eq!((controller.api_version.as_str(), controller.kind.as_str()), ("v1", "ReplicationController"));
        let meta = ObjectMeta { owner_references: Some(vec![plain, controller]), ..ObjectMeta::default() };
        assert_eq!(controller_of(&meta).map(|r| r.uid.as_str()), Some("u2"));
        assert!(is_controlled_by(&meta, "u2") && !is_controlled_by(&meta, "u1"));
    }
}
