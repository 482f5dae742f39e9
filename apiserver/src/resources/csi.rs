//! The kinds by which volume drivers and the cluster talk: CSIDriver, CSINode, CSIStorageCapacity, VolumeAttachment.

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::storage::v1::{
    CSIDriver as DriverObject, CSINode as NodeObject, CSINodeDriver, CSIStorageCapacity as CapacityObject, TokenRequest,
};
use k8s_openapi::api::storage::v1::{VolumeAttachment as AttachmentObject, VolumeAttachmentStatus};
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks, flow_schema, pod_spec};

/// What a driver can do.
pub struct CsiDriver;
/// Which drivers a node runs.
pub struct CsiNode;
/// How much a driver can still provide in a part of the cluster.
pub struct CsiStorageCapacity;
/// That a volume is, or shall be, attached to a node.
pub struct VolumeAttachment;

const DRIVER_NAME_MAX: usize = 63;
const NODE_ID_MAX: usize = 192;
const MIN_UPDATE_PERIOD: i64 = 10;

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
        if let Some(policy) = &spec.fs_group_policy {
            checks::one_of(
                &mut errors,
                &path.child("fsGroupPolicy"),
                policy,
                &["File", "None", "ReadWriteOnceWithFSType"],
            );
        }
        token_requests(&mut errors, &path.child("tokenRequests"), spec.token_requests.as_deref().unwrap_or_default());
        for mode in spec.volume_lifecycle_modes.iter().flatten() {
            checks::one_of(&mut errors, &path.child("volumeLifecycleModes"), mode, &["Persistent", "Ephemeral"]);
        }
        if let Some(period) = spec.node_allocatable_update_period_seconds.filter(|period| *period < MIN_UPDATE_PERIOD) {
            let detail = format!("must be greater than or equal to {MIN_UPDATE_PERIOD} seconds");
            errors.push(FieldError::invalid(&path.child("nodeAllocatableUpdatePeriodSeconds"), period, detail));
        }
        if let Some(secrets) = spec.service_account_token_in_secrets
            && spec.token_requests.as_ref().is_none_or(Vec::is_empty)
        {
            let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
            errors.push(FieldError::invalid(&path.child("serviceAccountTokenInSecrets"), secrets, detail));
        }
        errors
    }

    /// What belongs to a feature that is off by default is dropped.
    fn prepare_for_create(object: &mut DriverObject) {
        object.spec.prevent_pod_scheduling_if_missing = None;
    }

    /// Only what kubelets look at counts as a change of what is desired; a new driver has no generation.
    fn prepare_for_update(new: &mut DriverObject, old: &DriverObject) {
        new.spec.prevent_pod_scheduling_if_missing = None;
        let watched = |object: &DriverObject| {
            let spec = object.spec.clone();
            (spec.token_requests.unwrap_or_default(), spec.requires_republish, spec.se_linux_mount)
        };
        if watched(new) != watched(old) {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or_default() + 1);
        }
    }

    fn validate_update(new: &DriverObject, old: &DriverObject) -> FieldErrors {
        let mut errors = Self::validate(new);
        let path = FieldPath::root("spec");
        checks::immutable(
            &mut errors,
            // Upstream's path is not that of the field.
            &path.child("attachedRequired"),
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
            node_driver(&mut errors, &path, driver);
            if !taken.insert(&driver.name) {
                errors.push(FieldError::duplicate(&path.child("name"), &driver.name));
            }
            topology_keys(&mut errors, &path, driver.topology_keys.as_deref().unwrap_or_default());
        }
        errors
    }

    /// Of a driver that stays, only what it can take may change.
    fn validate_update(new: &NodeObject, old: &NodeObject) -> FieldErrors {
        let mut errors = Self::validate(new);
        // Upstream tells everything twice.
        errors.extend(errors.clone());
        let fixed = |driver: &CSINodeDriver| CSINodeDriver { allocatable: None, ..driver.clone() };
        for before in &old.spec.drivers {
            for now in new.spec.drivers.iter().filter(|now| now.name == before.name) {
                let (path, shown) = (FieldPath::root("spec").child("drivers"), "storage.k8s.io/v1.CSINodeDriver");
                checks::immutable_as(&mut errors, &path, shown, &fixed(now), &fixed(before));
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
        if let Some(amount) = object.capacity.as_ref().map(checks::quantity).filter(api::Quantity::is_negative) {
            errors.push(FieldError::invalid(&FieldPath::root("capacity"), amount.to_string(), checks::NOT_NEGATIVE));
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

    fn warnings(new: &CapacityObject, _old: Option<&CapacityObject>) -> Vec<String> {
        let topology = new.node_topology.clone().unwrap_or_default();
        let path = FieldPath::root("nodeTopology");
        let mut warnings = Vec::new();
        for (i, expression) in topology.match_expressions.iter().flatten().enumerate() {
            let (path, key) = (path.child("matchExpressions").index(i).child("key"), &expression.key);
            warnings.extend(pod_spec::old_label(key).map(|message| format!("{path}: {key} is {message}")));
        }
        for (label, _) in topology.match_labels.iter().flatten() {
            let path = path.child("matchLabels").child(label);
            warnings.extend(pod_spec::old_label(label).map(|message| format!("{path}: {message}")));
        }
        warnings
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
        flow_schema::keep_metadata(&mut new.metadata, &old.metadata);
    }

    fn reset_fields(subresource: Option<Subresource>) -> &'static [&'static str] {
        flow_schema::RESET_FIELDS[usize::from(subresource.is_some())]
    }

    fn validate(object: &AttachmentObject) -> FieldErrors {
        let mut errors = attachment_errors(object);
        let path = FieldPath::root("spec");
        driver_name(&mut errors, &path.child("attacher"), &object.spec.attacher);
        if let Some(name) = &object.spec.source.persistent_volume_name {
            let path = path.child("source").child("persistentVolumeName");
            errors.push_invalid(&path, name, names::is_dns1123_subdomain(name));
        }
        errors
    }

    fn validate_update(new: &AttachmentObject, old: &AttachmentObject) -> FieldErrors {
        let mut errors = attachment_errors(new);
        // Upstream tells everything twice.
        errors.extend(errors.clone());
        let shown = "storage.k8s.io/v1.VolumeAttachmentSpec";
        checks::immutable_as(&mut errors, &FieldPath::root("spec"), shown, &new.spec, &old.spec);
        errors
    }

    fn validate_status_update(new: &AttachmentObject, old: &AttachmentObject) -> FieldErrors {
        Self::validate_update(new, old)
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

fn token_requests(errors: &mut FieldErrors, path: &FieldPath, requests: &[TokenRequest]) {
    const SHORTEST: i64 = 600;
    const LONGEST: i64 = 1 << 32;
    let mut audiences = BTreeSet::new();
    for (i, request) in requests.iter().enumerate() {
        let path = path.index(i);
        if !audiences.insert(&request.audience) {
            errors.push(FieldError::duplicate(&path.child("audience"), &request.audience));
            continue;
        }
        let detail = match request.expiration_seconds {
            Some(..SHORTEST) => "may not specify a duration less than 10 minutes",
            Some(seconds) if seconds > LONGEST => "may not specify a duration larger than 2^32 seconds",
            Some(_) | None => continue,
        };
        errors.push(FieldError::invalid(&path.child("expirationSeconds"), request.expiration_seconds, detail));
    }
}

fn node_driver(errors: &mut FieldErrors, path: &FieldPath, driver: &CSINodeDriver) {
    driver_name(errors, &path.child("name"), &driver.name);
    checks::required(errors, &path.child("nodeID"), &driver.node_id);
    if driver.node_id.len() > NODE_ID_MAX {
        let detail = format!("must be {NODE_ID_MAX} characters or less");
        errors.push(FieldError::invalid(&path.child("nodeID"), &driver.node_id, detail));
    }
    let count = driver.allocatable.as_ref().and_then(|allocatable| allocatable.count);
    checks::non_negative_option(errors, &path.child("allocatable").child("count"), count);
}

/// Upstream tells what is wrong with a key at the driver.
fn topology_keys(errors: &mut FieldErrors, path: &FieldPath, keys: &[String]) {
    let mut taken = BTreeSet::new();
    for key in keys {
        checks::required(errors, path, key);
        if !taken.insert(key) {
            errors.push(FieldError::duplicate(path, key));
        }
        checks::label_key(errors, path, key);
    }
}

/// All errors of an attachment, whether it is new or not.
fn attachment_errors(object: &AttachmentObject) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let (path, spec) = (FieldPath::root("spec"), &object.spec);
    checks::required(&mut errors, &path.child("attacher"), &spec.attacher);
    let source = path.child("source");
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (&spec.source.persistent_volume_name, &spec.source.inline_volume_spec) {
        (None, None) => errors.push(FieldError::required(&source, one)),
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(&source, one)),
        (Some(name), None) if name.is_empty() => {
            let detail = "must specify non empty persistentVolumeName";
            errors.push(FieldError::required(&source.child("persistentVolumeName"), detail));
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    errors.push_invalid(&path.child("nodeName"), &spec.node_name, names::is_dns1123_subdomain(&spec.node_name));
    attachment_status(&mut errors, &object.status.clone().unwrap_or_default());
    errors
}

fn attachment_status(errors: &mut FieldErrors, status: &VolumeAttachmentStatus) {
    const MAX_METADATA: usize = 256 * 1024;
    const MAX_MESSAGE: usize = 1024;
    let path = FieldPath::root("status");
    let size: usize = status.attachment_metadata.iter().flatten().map(|(key, value)| key.len() + value.len()).sum();
    if size > MAX_METADATA {
        errors.push(FieldError::too_long(&path.child("attachmentMetadata"), MAX_METADATA));
    }
    for (field, error) in [("attachError", &status.attach_error), ("detachError", &status.detach_error)] {
        let (Some(error), path) = (error, path.child(field)) else { continue };
        if error.message.as_ref().is_some_and(|message| message.len() > MAX_MESSAGE) {
            // Upstream names another limit than the one it holds.
            errors.push(FieldError::too_long(&path.child("message"), MAX_METADATA));
        }
        if let Some(code) = error.error_code.filter(|code| *code < 0) {
            let detail = "must be between 0 and 2147483647, inclusive";
            errors.push(FieldError::invalid(&path.child("errorCode"), code, detail));
        }
    }
}

fn driver_name(errors: &mut FieldErrors, path: &FieldPath, name: &str) {
    checks::required(errors, path, name);
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
    fn capacities_are_warned_of_old_labels() {
        let topology = json!({"matchLabels": {"beta.kubernetes.io/os": "linux"}, "matchExpressions": [{"key": "beta.kubernetes.io/arch", "operator": "Exists"}]});
        let object = json!({"metadata": {}, "storageClassName": "s", "nodeTopology": topology});
        let object: CapacityObject = serde_json::from_value(object).expect("a capacity");
        let expected = [
            "nodeTopology.matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use \"kubernetes.io/arch\" instead",
            "nodeTopology.matchLabels.beta.kubernetes.io/os: deprecated since v1.14; use \"kubernetes.io/os\" instead",
        ];
        assert_eq!(CsiStorageCapacity::warnings(&object, None), expected);
    }

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

    #[test]
    fn what_drivers_may_ask_for() {
        let driver = |spec: Value| {
            let mut object: DriverObject =
                serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": spec})).expect("a driver");
            CsiDriver::set_defaults(&mut object);
            object
        };
        let requests = json!([{"audience": "a", "expirationSeconds": 599}, {"audience": "a"}, {"audience": "b", "expirationSeconds": 4294967297u64}]);
        let spec = json!({"tokenRequests": requests, "volumeLifecycleModes": ["Now"], "nodeAllocatableUpdatePeriodSeconds": 9});
        assert_eq!(
            CsiDriver::validate(&driver(spec)).to_string(),
            "[spec.tokenRequests[0].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes, spec.tokenRequests[1].audience: Duplicate value: \"a\", spec.tokenRequests[2].expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds, spec.volumeLifecycleModes: Unsupported value: \"Now\": supported values: \"Persistent\", \"Ephemeral\", spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds]"
        );
        let (old, mut new) = (driver(json!({})), driver(json!({"attachRequired": false, "requiresRepublish": true})));
        let message = "spec.attachedRequired: Invalid value: false: field is immutable";
        assert_eq!(CsiDriver::validate_update(&new, &old).to_string(), message);
        CsiDriver::prepare_for_update(&mut new, &old);
        assert_eq!(new.metadata.generation, Some(1));
        let mut object = driver(json!({"serviceAccountTokenInSecrets": false, "preventPodSchedulingIfMissing": true}));
        let message = "spec.serviceAccountTokenInSecrets: Invalid value: false: serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        assert_eq!(CsiDriver::validate(&object).to_string(), message);
        CsiDriver::prepare_for_create(&mut object);
        assert_eq!(object.spec.prevent_pod_scheduling_if_missing, None);
    }

    #[test]
    fn a_driver_of_a_node_stays_as_it_is() {
        let node = |driver: Value| -> NodeObject {
            serde_json::from_value(json!({"spec": {"drivers": [driver]}})).expect("a node")
        };
        let old = node(json!({"name": "d", "nodeID": "n", "allocatable": {"count": 1}}));
        let more = node(json!({"name": "d", "nodeID": "n", "allocatable": {"count": 2}}));
        assert_eq!(CsiNode::validate_update(&more, &old).to_string(), "[]");
        let other = node(json!({"name": "d", "nodeID": "m"}));
        assert_eq!(
            CsiNode::validate_update(&other, &old).to_string(),
            "spec.drivers: Invalid value: {\"Name\":\"d\",\"NodeID\":\"m\",\"TopologyKeys\":null,\"Allocatable\":null}: field is immutable"
        );
        let keys = node(json!({"name": "d", "nodeID": "n", "topologyKeys": ["a", "a"]}));
        assert_eq!(CsiNode::validate(&keys).to_string(), "spec.drivers[0]: Duplicate value: \"a\"");
    }

    #[test]
    fn attachments_tell_of_their_state() {
        let attachment = |status: Value| -> AttachmentObject {
            let spec = json!({"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}});
            serde_json::from_value(json!({"spec": spec, "status": status})).expect("an attachment")
        };
        let old = attachment(json!({"attached": false}));
        let new = attachment(json!({"attached": false, "attachError": {"message": "m", "errorCode": -1}}));
        let errors = VolumeAttachment::validate_status_update(&new, &old);
        let message = "status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive";
        assert_eq!((errors.to_string().as_str(), errors.len()), (message, 2));
    }
}
