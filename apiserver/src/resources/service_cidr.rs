//! ServiceCIDR: a range of addresses for Services. The server makes the one it was started with, named `kubernetes`.

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::networking::v1::ServiceCIDR as Object;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks, flow_schema, internal};

/// See the module.
pub struct ServiceCidr;

const SPEC: &str = "networking.k8s.io/v1.ServiceCIDRSpec";

impl Kind for ServiceCidr {
    type Object = Object;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];

    /// Oddity of upstream's: the status of a new or changed range is what the client says.
    fn set_defaults(object: &mut Object) {
        object.status.get_or_insert_default();
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
        flow_schema::keep_metadata(&mut new.metadata, &old.metadata);
    }

    /// Upstream names them for a version that is not served.
    fn reset_fields(_: Option<Subresource>) -> &'static [&'static str] {
        &[]
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        cidrs(&mut errors, object);
        errors
    }

    /// A range stays; a second one of the other family may be added.
    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("spec").child("cidrs");
        let (now, before) = (cidrs_of(new), cidrs_of(old));
        match (before, now) {
            _ if before.len() == now.len() => {
                for (i, (before, now)) in before.iter().zip(now).enumerate() {
                    checks::immutable(&mut errors, &path.index(i), now, before);
                }
            }
            ([before], [now, _]) => {
                checks::immutable(&mut errors, &path.index(0), now, before);
                cidrs(&mut errors, new);
            }
            _ => errors.push(FieldError::invalid(&path, now, checks::IMMUTABLE)),
        }
        errors
    }

    fn columns() -> Columns<Object> {
        let cidrs = printing::text(
            "CIDRs",
            "CIDRs defines the IP blocks in CIDR notation (e.g. \"192.168.0.0/24\" or \"2001:db8::/64\") from which to assign service cluster IPs. Max of two CIDRs is allowed, one of each IP family. This field is immutable.",
        );
        Columns {
            columns: vec![NAME, cidrs, AGE],
            cells: |object, now| {
                let cidrs = cidrs_of(object).join(",");
                vec![printing::name(&object.metadata), Value::from(cidrs), printing::age(&object.metadata, now)]
            },
        }
    }
}

fn cidrs(errors: &mut FieldErrors, object: &Object) {
    let path = FieldPath::root("spec").child("cidrs");
    let cidrs = cidrs_of(object);
    match cidrs {
        [] => return errors.push(FieldError::required(&path, "at least one CIDR required")),
        [_, _, _, ..] => {
            return errors.push(internal::invalid(&path, SPEC, &object.spec, "may only hold up to 2 values"));
        }
        [_] | [_, _] => {}
    }
    for (i, cidr) in cidrs.iter().enumerate() {
        checks::canonical_cidr(errors, &path.index(i), cidr);
    }
    let family = |cidr: &String| checks::parse_cidr(cidr).map(|(address, _)| address.is_ipv4());
    if let [one, other] = cidrs
        && family(one).is_some()
        && family(one) == family(other)
    {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(FieldError::invalid(&path, cidrs, detail));
    }
}

fn cidrs_of(object: &Object) -> &[String] {
    object.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn range(cidrs: &[&str]) -> Object {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"cidrs": cidrs}})).expect("a range")
    }

    #[test]
    fn ranges_are_checked() {
        let table: [(&[&str], &str); 8] = [
            (&["10.0.0.0/24"], "[]"),
            (&["10.0.0.0/24", "2001:db8::/64"], "[]"),
            (&[], "spec.cidrs: Required value: at least one CIDR required"),
            (
                &["10.0.0.0/24", "10.1.0.0/24"],
                "spec.cidrs: Invalid value: [\"10.0.0.0/24\",\"10.1.0.0/24\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
            ),
            (
                &["10.0.0.0/24", "10.1"],
                "spec.cidrs[1]: Invalid value: \"10.1\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
            (
                &["10.0.0.1/24"],
                "spec.cidrs[0]: Invalid value: \"10.0.0.1/24\": must not have bits set beyond the prefix length",
            ),
            (
                &["2001:DB8::/64"],
                "spec.cidrs[0]: Invalid value: \"2001:DB8::/64\": must be in canonical form (\"2001:db8::/64\")",
            ),
            (
                &["ten"],
                "spec.cidrs[0]: Invalid value: \"ten\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
        ];
        for (cidrs, expected) in table {
            assert_eq!(ServiceCidr::validate(&range(cidrs)).to_string(), expected);
        }
    }

    #[test]
    fn a_range_stays() {
        let old = range(&["10.0.0.0/24"]);
        let change = |cidrs: &[&str]| ServiceCidr::validate_update(&range(cidrs), &old).to_string();
        assert_eq!(change(&["10.0.0.0/24", "2001:db8::/64"]), "[]");
        assert!(change(&["10.0.0.0/24", "10.1.0.0/24"]).contains("no more than one IP for each IP family"));
        assert_eq!(change(&["10.1.0.0/24"]), "spec.cidrs[0]: Invalid value: \"10.1.0.0/24\": field is immutable");
        assert_eq!(change(&[]), "spec.cidrs: Invalid value: []: field is immutable");
    }
}
