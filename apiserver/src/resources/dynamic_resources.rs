//! The kinds of dynamic resource allocation: what devices there are (ResourceSlice), which classes of them (DeviceClass), and who
//! asks for them (ResourceClaim, and its template).

mod claim;
mod expression;
mod slice;

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::resource::v1::{
    DeviceClass as ClassObject, ResourceClaim as ClaimObject, ResourceClaimStatus,
    ResourceClaimTemplate as TemplateObject, ResourceSlice as SliceObject,
};
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks};

/// See the module.
pub struct ResourceClaim;
/// Claims to be made, one for each pod.
pub struct ResourceClaimTemplate;
/// Devices with something in common.
pub struct DeviceClass;
/// Devices of a node, as their driver tells.
pub struct ResourceSlice;

impl Kind for ResourceClaim {
    type Object = ClaimObject;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const RETURNS_DELETED: bool = true;

    fn set_defaults(object: &mut ClaimObject) {
        claim::set_defaults(&mut object.spec);
    }

    fn prepare_for_create(object: &mut ClaimObject) {
        object.status = Some(ResourceClaimStatus::default());
    }

    fn prepare_for_update(new: &mut ClaimObject, old: &ClaimObject) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut ClaimObject, old: &ClaimObject) {
        new.spec = old.spec.clone();
    }

    fn validate(object: &ClaimObject) -> FieldErrors {
        let mut errors = FieldErrors::new();
        claim::validate(&mut errors, &FieldPath::root("spec"), &object.spec);
        errors
    }

    fn validate_update(new: &ClaimObject, old: &ClaimObject) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if new.spec != old.spec {
            let path = FieldPath::root("spec");
            let shown = "resource.k8s.io/v1.ResourceClaimSpec";
            errors.push(super::internal::invalid(&path, shown, &new.spec, checks::IMMUTABLE));
        }
        errors
    }

    fn validate_status_update(new: &ClaimObject, old: &ClaimObject) -> FieldErrors {
        claim::validate_status(new, old)
    }

    fn columns() -> Columns<ClaimObject> {
        let state = printing::text("State", "A summary of the current state (allocated, pending, reserved, etc.).");
        Columns {
            columns: vec![NAME, state, AGE],
            cells: |object, now| {
                let state = Value::from(claim::state(object));
                vec![printing::name(&object.metadata), state, printing::age(&object.metadata, now)]
            },
        }
    }
}

impl Kind for ResourceClaimTemplate {
    type Object = TemplateObject;
    const RETURNS_DELETED: bool = true;

    fn set_defaults(object: &mut TemplateObject) {
        claim::set_defaults(&mut object.spec.spec);
    }

    fn validate(object: &TemplateObject) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("spec");
        let meta = object.spec.metadata.clone().unwrap_or_default();
        checks::template_metadata(&mut errors, &path.child("metadata"), &meta);
        claim::validate(&mut errors, &path.child("spec"), &object.spec.spec);
        errors
    }

    fn validate_update(new: &TemplateObject, old: &TemplateObject) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if new.spec != old.spec {
            let path = FieldPath::root("spec");
            let shown = "resource.k8s.io/v1.ResourceClaimTemplateSpec";
            errors.push(super::internal::invalid(&path, shown, &new.spec, checks::IMMUTABLE));
        }
        errors
    }

    fn columns() -> Columns<TemplateObject> {
        printing::name_and_age()
    }
}

impl Kind for DeviceClass {
    type Object = ClassObject;
    const RETURNS_DELETED: bool = true;
    const GENERATION: bool = true;

    fn validate(object: &ClassObject) -> FieldErrors {
        const MAX: usize = 32;
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("spec");
        let spec = &object.spec;
        let selectors = spec.selectors.as_deref().unwrap_or_default();
        claim::selectors(&mut errors, &path.child("selectors"), selectors);
        let configs = spec.config.as_deref().unwrap_or_default();
        claim::at_most(&mut errors, &path.child("config"), configs.len(), MAX);
        for (i, config) in configs.iter().enumerate() {
            claim::configuration(&mut errors, &path.child("config").index(i), config.opaque.as_ref());
        }
        if let Some(name) = spec.extended_resource_name.as_ref().filter(|name| !checks::is_extended_resource(name)) {
            let detail = "must be a valid extended resource name";
            errors.push(FieldError::invalid(&path.child("extendedResourceName"), name, detail));
        }
        errors
    }

    fn columns() -> Columns<ClassObject> {
        printing::name_and_age()
    }
}

impl Kind for ResourceSlice {
    type Object = SliceObject;
    const RETURNS_DELETED: bool = true;
    const GENERATION: bool = true;
    const FIELDS: &'static [(&'static str, &'static [&'static str])] =
        &[("spec.nodeName", &["/spec/nodeName"]), ("spec.driver", &["/spec/driver"])];

    fn unknown_field(field: &str) -> String {
        format!("field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {field}")
    }

    fn validate(object: &SliceObject) -> FieldErrors {
        slice::validate(object)
    }

    fn validate_update(new: &SliceObject, old: &SliceObject) -> FieldErrors {
        let mut errors = slice::validate(new);
        let path = FieldPath::root("spec");
        let (now, before) = (&new.spec, &old.spec);
        checks::immutable(&mut errors, &path.child("pool").child("name"), &now.pool.name, &before.pool.name);
        checks::immutable(&mut errors, &path.child("driver"), &now.driver, &before.driver);
        checks::immutable(&mut errors, &path.child("nodeName"), &now.node_name, &before.node_name);
        errors
    }

    fn columns() -> Columns<SliceObject> {
        let columns = vec![
            NAME,
            printing::text("Node", "NodeName identifies the node which provides the resources in this pool."),
            printing::text("Driver", "Driver identifies the DRA driver providing the capacity information."),
            printing::text("Pool", "Pool describes the pool that this ResourceSlice belongs to."),
            AGE,
        ];
        Columns {
            columns,
            cells: |object, now| {
                let spec = &object.spec;
                let node = match (&spec.node_name, spec.all_nodes) {
                    (Some(name), _) if !name.is_empty() => name.clone(),
                    (_, Some(true)) => "<all>".to_owned(),
                    _ => "<unset>".to_owned(),
                };
                vec![
                    printing::name(&object.metadata),
                    Value::from(node),
                    Value::from(spec.driver.as_str()),
                    Value::from(spec.pool.name.as_str()),
                    printing::age(&object.metadata, now),
                ]
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(devices: Value) -> ClaimObject {
        let value = json!({"metadata": {"name": "a"}, "spec": {"devices": devices}});
        let mut object = serde_json::from_value(value).expect("a claim");
        ResourceClaim::set_defaults(&mut object);
        object
    }

    #[test]
    fn claims_are_checked() {
        let request = |request: Value| json!({"requests": [request]});
        let table = [
            (request(json!({"name": "r", "exactly": {"deviceClassName": "c"}})), "[]"),
            (
                request(json!({"name": "R", "exactly": {"deviceClassName": "c", "count": -1}})),
                "[spec.devices.requests[0].name: Invalid value: \"R\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), spec.devices.requests[0].exactly.count: Invalid value: -1: must be greater than zero]",
            ),
            (
                request(json!({"name": "r"})),
                "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
            ),
            (
                request(json!({"name": "r", "exactly": {"deviceClassName": "", "allocationMode": "All", "count": 2}})),
                "[spec.devices.requests[0].exactly.deviceClassName: Required value, spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All']",
            ),
            (
                json!({"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}], "constraints": [{"requests": ["s"], "matchAttribute": "example.org/a"}]}),
                "spec.devices.constraints[0].requests[0]: Invalid value: \"s\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
            ),
        ];
        for (devices, expected) in table {
            assert_eq!(ResourceClaim::validate(&claim(devices)).to_string(), expected);
        }
        let exactly = json!({"deviceClassName": "c", "selectors": [{"cel": {"expression": "device.driver"}}]});
        let errors = ResourceClaim::validate(&claim(request(json!({"name": "r", "exactly": exactly}))));
        let message = "spec.devices.requests[0].exactly.selectors[0].cel.expression: Invalid value: \"device.driver\": must evaluate to bool or the unknown type, not string";
        assert_eq!(errors.to_string(), message);
    }

    #[test]
    fn requests_have_defaults_and_a_state() {
        let object = claim(json!({"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}));
        let spec = serde_json::to_value(&object.spec).expect("json");
        assert_eq!(spec["devices"]["requests"][0]["exactly"]["allocationMode"], "ExactCount");
        assert_eq!(spec["devices"]["requests"][0]["exactly"]["count"], 1);
        let row = (ResourceClaim::columns().cells)(&object, k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(row, ["a", "pending", "<unknown>"]);
    }

    #[test]
    fn slices_are_checked() {
        let slice = |spec: Value| serde_json::from_value::<SliceObject>(json!({"spec": spec})).expect("a slice");
        let pool = json!({"name": "p", "resourceSliceCount": 1, "generation": 0});
        let table = [
            (json!({"driver": "d.example.org", "pool": pool, "nodeName": "n"}), "[]"),
            (
                json!({"driver": "", "pool": {"name": "", "resourceSliceCount": 0, "generation": -1}, "allNodes": true}),
                "[spec.driver: Required value, spec.pool.name: Required value, spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero, spec.pool.generation: Invalid value: -1: must be greater than or equal to zero]",
            ),
            (
                json!({"driver": "d.example.org", "pool": pool}),
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
            ),
        ];
        for (spec, expected) in table {
            assert_eq!(ResourceSlice::validate(&slice(spec)).to_string(), expected);
        }
    }
}
