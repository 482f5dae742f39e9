//! Lease: who leads, or that a node is alive.

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::coordination::v1::Lease as Object;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, checks};

/// See the module.
pub struct Lease;

impl Kind for Lease {
    type Object = Object;
    const CREATE_ON_UPDATE: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn prepare_for_create(object: &mut Object) {
        drop_coordination(object);
    }

    fn prepare_for_update(new: &mut Object, _old: &Object) {
        drop_coordination(new);
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("spec");
        let spec = object.spec.clone().unwrap_or_default();
        if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            errors.push(FieldError::invalid(&path.child("leaseDurationSeconds"), seconds, checks::POSITIVE));
        }
        checks::non_negative_option(&mut errors, &path.child("leaseTransitions"), spec.lease_transitions);
        errors
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text(
                "Holder",
                "holderIdentity contains the identity of the holder of a current lease. If Coordinated Leader Election is used, the holder identity must be equal to the elected LeaseCandidate.metadata.name field.",
            ),
            AGE,
        ];
        Columns {
            columns,
            cells: |object, now| {
                let holder = object.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
                vec![printing::name(&object.metadata), Value::from(holder), printing::age(&object.metadata, now)]
            },
        }
    }
}

/// Coordinated leader election is off, as it is by default upstream; its fields do not exist then.
fn drop_coordination(object: &mut Object) {
    if let Some(spec) = &mut object.spec {
        spec.strategy = None;
        spec.preferred_holder = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_refused() {
        let table = [
            (json!({"leaseDurationSeconds": 0}), "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"),
            (
                json!({"leaseTransitions": -1}),
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ),
            (json!({}), "[]"),
        ];
        for (spec, message) in table {
            let object: Object = serde_json::from_value(json!({"spec": spec})).expect("a lease");
            assert_eq!(Lease::validate(&object).to_string(), message);
        }
    }
}
