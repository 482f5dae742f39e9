//! The kinds by which volume drivers and the cluster talk: CSIDriver, CSINode, CSIStorageCapacity, VolumeAttachment.

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::storage::v1::{
    CSIDriver as DriverObject, CSINode as NodeObject, CSIStorageCapacity as CapacityObject,
};
use k8s_openapi::api::storage::v1::{VolumeAttachment as AttachmentObject, VolumeAttachmentStatus};
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks};

/// What a driver can do.
pub struct CsiDriver;
/// Which drivers a node runs.
pub struct CsiNode;
/// How much a driver can still provide in a part of the cluster.
pub struct CsiStorageCapacity;
/// That a volume is, or shall be, attached to a node.
pub struct VolumeAttachment;

const DRIVER_NAME_MAX: usize = 63;

impl Kind for CsiDriver {
    type Object = DriverObject;
    const UNCONDITIONAL_UPDATE: bool = false;
    const RETURNS_DELETED: bool = true;

    fn set_defaults(object: &mut DriverObject) {
        let spec = &mut object.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        spec.fs_group_policy.get_or_insert_with(|| "ReadWriteOnceWithFSType".to_owned());
        if spec.volume_lifecycle_modes.as_ref().is_none_or(Vec::is_empty) {
            spec.volume_lifecycle_modes = Some(vec!["Persistent".to_owned()]);
        }
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
    }

    fn validate(object: &DriverObject) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("spec");
        let spec = &object.spec;
        driver_name(
            &mut errors,
            &FieldPath::root("metadata").child("name"),
            object.metadata.name.as_deref().unwrap_or_default(),
        );
        if let Some(policy) = &spec.fs_group_policy {
            checks::one_of(
                &mut errors,
                &path.child("fsGroupPolicy"),
                policy,
                &["File", "None", "ReadWriteOnceWithFSType"],
            );
        }
        for mode in spec.volume_lifecycle_modes.iter().flatten() {
            checks::one_of(&mut errors, &path.child("volumeLifecycleModes"), mode, &["Ephemeral", "Persistent"]);
        }
        let mut audiences = BTreeSet::new();
        for (i, request) in spec.token_requests.iter().flatten().enumerate() {
            if !audiences.insert(&request.audience) {
                errors.push(FieldError::duplicate(
                    &path.child("tokenRequests").index(i).child("audience"),
                    &request.audience,
                ));
            }
        }
        errors
    }

    fn validate_update(new: &DriverObject, old: &DriverObject) -> FieldErrors {
        let mut errors = Self::validate(new);
        let path = FieldPath::root("spec");
        checks::immutable(
            &mut errors,
            &path.child("attachRequired"),
            &new.spec.attach_required,
            &old.spec.attach_required,
        );
        let (new_modes, old_modes) = (&new.spec.volume_lifecycle_modes, &old.spec.volume_lifecycle_modes);
        checks::immutable(&mut errors, &path.child("volumeLifecycleModes"), new_modes, old_modes);
        errors
    }

    fn columns() -> Columns<DriverObject> {
        let columns = vec![
            NAME,
            printing::boolean(
                "AttachRequired",
                "attachRequired indicates this CSI volume driver requires an attach operation (because it implements the CSI ControllerPublishVolume() method), and that the Kubernetes attach detach controller should call the attach volume interface which checks the volumeattachment status and waits until the volume is attached before proceeding to mounting.",
            ),
            printing::boolean(
                "PodInfoOnMount",
                "podInfoOnMount indicates this CSI volume driver requires additional pod information (like podName, podUID, etc.) during mount operations, if set to true. If set to false, pod information will not be passed on mount. Default is false.",
            ),
            printing::boolean(
                "StorageCapacity",
                "storageCapacity indicates that the CSI volume driver wants pod scheduling to consider the storage capacity that the driver deployment will report by creating CSIStorageCapacity objects with capacity information, if set to true.",
            ),
            printing::text(
                "TokenRequests",
                "tokenRequests indicates the CSI driver needs pods' service account tokens it is mounting volume for to do necessary authentication.",
            ),
            printing::boolean(
                "RequiresRepublish",
                "requiresRepublish indicates the CSI driver wants `NodePublishVolume` being periodically called to reflect any possible change in the mounted volume. This field defaults to false.",
            ),
            printing::text(
                "Modes",
                "volumeLifecycleModes defines what kind of volumes this CSI volume driver supports.",
            ),
            AGE,
        ];
        Columns {
            columns,
            cells: |object, now| {
                let spec = &object.spec;
                let audiences =
                    spec.token_requests.iter().flatten().map(|request| request.audience.clone()).collect::<Vec<_>>();
                let audiences = if audiences.is_empty() { "<unset>".to_owned() } else { audiences.join(",") };
                vec![
                    printing::name(&object.metadata),
                    Value::from(spec.attach_required.unwrap_or(true)),
                    Value::from(spec.pod_info_on_mount.unwrap_or_default()),
                    Value::from(spec.storage_capacity.unwrap_or_default()),
                    Value::from(audiences),
                    Value::from(spec.requires_republish.unwrap_or_default()),
                    Value::from(printing::or_none(&spec.volume_lifecycle_modes.clone().unwrap_or_default().join(","))),
                    printing::age(&object.metadata, now),
                ]
            },
        }
    }
}

impl Kind for CsiNode {
    type Object = NodeObject;
    const UNCONDITIONAL_UPDATE: bool = false;
    const RETURNS_DELETED: bool = true;

    fn validate(object: &NodeObject) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let mut taken = BTreeSet::new();
        for (i, driver) in object.spec.drivers.iter().enumerate() {
            let path = FieldPath::root("spec").child("drivers").index(i);
            driver_name(&mut errors, &path.child("name"), &driver.name);
            checks::required(&mut errors, &path.child("nodeID"), &driver.node_id);
            if !taken.insert(&driver.name) {
                errors.push(FieldError::duplicate(&path.child("name"), &driver.name));
            }
            let count = driver.allocatable.as_ref().and_then(|allocatable| allocatable.count);
            checks::non_negative_option(&mut errors, &path.child("allocatable").child("count"), count);
            for key in driver.topology_keys.iter().flatten() {
                checks::label_key(&mut errors, &path.child("topologyKeys"), key);
            }
        }
        errors
    }

    fn columns() -> Columns<NodeObject> {
        let columns = vec![
            NAME,
            printing::integer(
                "Drivers",
                "drivers is a list of information of all CSI Drivers existing on a node. If all drivers in the list are uninstalled, this can become empty.",
            ),
            AGE,
        ];
        Columns {
            columns,
            cells: |object, now| {
                vec![
                    printing::name(&object.metadata),
                    Value::from(object.spec.drivers.len()),
                    printing::age(&object.metadata, now),
                ]
            },
        }
    }
}

impl Kind for CsiStorageCapacity {
    type Object = CapacityObject;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn validate(object: &CapacityObject) -> FieldErrors {
        let mut errors = FieldErrors::new();
        checks::label_selector(&mut errors, &FieldPath::root("nodeTopology"), object.node_topology.as_ref());
        let class = &object.storage_class_name;
        errors.push_invalid(&FieldPath::root("storageClassName"), class, names::is_dns1123_subdomain(class));
        for (field, amount) in [("capacity", &object.capacity), ("maximumVolumeSize", &object.maximum_volume_size)] {
            if let Some(amount) = amount.as_ref().map(checks::quantity).filter(api::Quantity::is_negative) {
                errors.push(FieldError::invalid(&FieldPath::root(field), amount.to_string(), checks::NOT_NEGATIVE));
            }
        }
        errors
    }

    fn validate_update(new: &CapacityObject, old: &CapacityObject) -> FieldErrors {
        let mut errors = Self::validate(new);
        let (path, shown) = (FieldPath::root("nodeTopology"), "meta/v1.LabelSelector");
        checks::immutable_as(&mut errors, &path, shown, &new.node_topology, &old.node_topology);
        let path = FieldPath::root("storageClassName");
        checks::immutable(&mut errors, &path, &new.storage_class_name, &old.storage_class_name);
        errors
    }

    fn columns() -> Columns<CapacityObject> {
        let columns = vec![
            NAME,
            printing::text(
                "StorageClassName",
                "storageClassName represents the name of the StorageClass that the reported capacity applies to. It must meet the same requirements as the name of a StorageClass object (non-empty, DNS subdomain). If that object no longer exists, the CSIStorageCapacity object is obsolete and should be removed by its creator. This field is immutable.",
            ),
            printing::text(
                "Capacity",
                "capacity is the value reported by the CSI driver in its GetCapacityResponse for a GetCapacityRequest with topology and parameters that match the previous fields.",
            ),
        ];
        Columns {
            columns,
            cells: |object, _| {
                let capacity = object.capacity.as_ref().map_or("<unset>".to_owned(), |amount| amount.0.clone());
                vec![
                    printing::name(&object.metadata),
                    Value::from(object.storage_class_name.clone()),
                    Value::from(capacity),
                ]
            },
        }
    }
}

impl Kind for VolumeAttachment {
    type Object = AttachmentObject;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const UNCONDITIONAL_UPDATE: bool = false;
    const RETURNS_DELETED: bool = true;

    fn prepare_for_create(object: &mut AttachmentObject) {
        object.status = Some(VolumeAttachmentStatus::default());
    }

    fn prepare_for_update(new: &mut AttachmentObject, old: &AttachmentObject) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut AttachmentObject, old: &AttachmentObject) {
        new.spec = old.spec.clone();
    }

    fn validate(object: &AttachmentObject) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("spec");
        let spec = &object.spec;
        if spec.attacher.is_empty() {
            errors.push(FieldError::required(&path.child("attacher"), ""));
        } else {
            driver_name(&mut errors, &path.child("attacher"), &spec.attacher);
        }
        let source = path.child("source");
        match (&spec.source.persistent_volume_name, &spec.source.inline_volume_spec) {
            (None, None) => errors.push(FieldError::required(
                &source,
                "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            )),
            (Some(_), Some(_)) => {
                errors.push(FieldError::forbidden(
                    &source,
                    "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
                ));
            }
            (Some(name), None) if name.is_empty() => {
                errors.push(FieldError::required(&source.child("persistentVolumeName"), ""))
            }
            (Some(_), None) | (None, Some(_)) => {}
        }
        errors.push_invalid(&path.child("nodeName"), &spec.node_name, names::is_dns1123_subdomain(&spec.node_name));
        errors
    }

    fn validate_update(new: &AttachmentObject, old: &AttachmentObject) -> FieldErrors {
        let mut errors = Self::validate(new);
        let shown = "storage.k8s.io/v1.VolumeAttachmentSpec";
        checks::immutable_as(&mut errors, &FieldPath::root("spec"), shown, &new.spec, &old.spec);
        errors
    }

    fn columns() -> Columns<AttachmentObject> {
        let columns = vec![
            NAME,
            printing::text(
                "Attacher",
                "attacher indicates the name of the volume driver that MUST handle this request. This is the name returned by GetPluginName().",
            ),
            printing::text("PV", "source represents the volume that should be attached."),
            printing::text("Node", "nodeName represents the node that the volume should be attached to."),
            printing::boolean(
                "Attached",
                "attached indicates the volume is successfully attached. This field must only be set by the entity completing the attach operation, i.e. the external-attacher.",
            ),
            AGE,
        ];
        Columns {
            columns,
            cells: |object, now| {
                vec![
                    printing::name(&object.metadata),
                    Value::from(object.spec.attacher.clone()),
                    Value::from(object.spec.source.persistent_volume_name.clone().unwrap_or_default()),
                    Value::from(object.spec.node_name.clone()),
                    Value::from(object.status.as_ref().is_some_and(|status| status.attached)),
                    printing::age(&object.metadata, now),
                ]
            },
        }
    }
}

fn driver_name(errors: &mut FieldErrors, path: &FieldPath, name: &str) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if name.len() > DRIVER_NAME_MAX {
        errors.push(FieldError::too_long(path, DRIVER_NAME_MAX));
    }
    errors.push_invalid(path, name, names::is_dns1123_subdomain(&name.to_lowercase()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn drivers() {
        let mut object: DriverObject =
            serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": {}})).expect("a driver");
        CsiDriver::set_defaults(&mut object);
        assert_eq!(CsiDriver::validate(&object).to_string(), "[]");
        let expected = json!({"attachRequired": true, "fsGroupPolicy": "ReadWriteOnceWithFSType", "podInfoOnMount": false, "requiresRepublish": false,
            "seLinuxMount": false, "storageCapacity": false, "volumeLifecycleModes": ["Persistent"]});
        assert_eq!(serde_json::to_value(object.spec).expect("json"), expected);
    }

    #[test]
    fn what_is_refused() {
        let node: NodeObject = serde_json::from_value(json!({"spec": {"drivers": [{"name": "d"}]}})).expect("a node");
        assert_eq!(CsiNode::validate(&node).to_string(), "spec.drivers[0].nodeID: Required value");
        let attachment: AttachmentObject =
            serde_json::from_value(json!({"spec": {"attacher": "a", "nodeName": "n", "source": {}}}))
                .expect("an attachment");
        let message =
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        assert_eq!(VolumeAttachment::validate(&attachment).to_string(), message);
    }
}
