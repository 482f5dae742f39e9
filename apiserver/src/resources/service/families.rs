//! Which families of addresses a Service has. Entry point: [`settle`], before addresses are given out.
//!
//! Invariant: what it refuses is all that the answer says; the rest of a Service is looked at only when its families are clear.

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::ServiceSpec;

use super::{kind, validate};

const SINGLE: &str = "SingleStack";
const REQUIRED: &str = "RequireDualStack";

/// Fills in the policy and the families; `family` is the only one that this cluster has addresses of.
pub fn settle(spec: &mut ServiceSpec, old: Option<&ServiceSpec>, family: &str) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if kind(spec) == "ExternalName" {
        return errors;
    }
    // Without a selector it is for whoever writes the endpoints to say which families there are.
    let is_free = spec.cluster_ip.as_deref() == Some("None") && spec.selector.as_ref().is_none_or(|s| s.is_empty());
    if spec.ip_family_policy.is_none() {
        let before = old.and_then(|old| old.ip_family_policy.clone());
        let policy = before.unwrap_or_else(|| if is_free { REQUIRED } else { SINGLE }.to_owned());
        spec.ip_family_policy = Some(policy);
    }
    let path = FieldPath::root("spec");
    validate::cluster_ips(&mut errors, &path, spec);
    if !errors.is_empty() {
        return errors;
    }
    if let Some(old) = old {
        release(&mut errors, &path, spec, old);
    }
    fit(&mut errors, &path, spec, family);
    if !errors.is_empty() {
        return errors;
    }
    let is_single = spec.ip_family_policy.as_deref() == Some(SINGLE);
    let families = spec.ip_families.get_or_insert_default();
    if is_free {
        if families.is_empty() {
            families.push(family.to_owned());
        }
        if families.len() < 2 && !is_single {
            families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }.to_owned());
        }
        return errors;
    }
    if spec.ip_family_policy.as_deref() == Some(REQUIRED) {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), REQUIRED, detail));
    }
    for (i, wanted) in families.iter().enumerate().filter(|(_, wanted)| *wanted != family) {
        let path = path.child("ipFamilies").index(i);
        errors.push(FieldError::invalid(&path, wanted, "not configured on this cluster"));
    }
    if errors.is_empty() && families.is_empty() {
        families.push(family.to_owned());
    }
    errors
}

/// A second address or family goes when the policy says so, not otherwise.
fn release(errors: &mut FieldErrors, path: &FieldPath, spec: &mut ServiceSpec, old: &ServiceSpec) {
    let fields = [
        (&mut spec.cluster_ips, &old.cluster_ips, "cluster IP"),
        (&mut spec.ip_families, &old.ip_families, "IP family"),
    ];
    for (new, old, what) in fields {
        let (now, before) = (new.as_ref().map_or(0, Vec::len), old.as_ref().map_or(0, Vec::len));
        if spec.ip_family_policy.as_deref() == Some(SINGLE) {
            if let (true, Some(new)) = (new == old, new.as_mut()) {
                new.truncate(1);
            }
        } else if now > 0 && now < before {
            let detail = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), &spec.ip_family_policy, detail));
        }
    }
}

/// The policy allows as many as there are, and the addresses tell their families.
fn fit(errors: &mut FieldErrors, path: &FieldPath, spec: &mut ServiceSpec, family: &str) {
    let ips = spec.cluster_ips.clone().unwrap_or_default();
    if spec.ip_family_policy.as_deref() == Some(SINGLE) {
        let numbers = [(ips.len(), "cluster IPs"), (spec.ip_families.as_ref().map_or(0, Vec::len), "IP families")];
        for (_, what) in numbers.into_iter().filter(|(number, _)| *number == 2) {
            let detail = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), SINGLE, detail));
        }
    }
    for (i, ip) in ips.iter().enumerate().take_while(|(_, ip)| *ip != "None") {
        let families = spec.ip_families.get_or_insert_default();
        let found = if ip.contains(':') { "IPv6" } else { "IPv4" };
        if i < families.len() {
            continue;
        }
        if found == family {
            families.push(found.to_owned());
        } else {
            let path = path.child("clusterIPs").index(i);
            errors.push(FieldError::invalid(&path, &ips, format!("{found} is not configured on this cluster")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(mut value: Value) -> ServiceSpec {
        if value.get("type").is_none() {
            value["type"] = "ClusterIP".into();
        }
        serde_json::from_value(value).expect("a spec")
    }

    #[test]
    fn families_follow_from_policy_addresses_and_selector() {
        let table = [
            (json!({}), json!([["IPv4"], "SingleStack"])),
            (json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}), json!([["IPv4"], "SingleStack"])),
            (json!({"clusterIP": "None", "clusterIPs": ["None"]}), json!([["IPv4", "IPv6"], "RequireDualStack"])),
            (
                json!({"clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}),
                json!([["IPv6"], "SingleStack"]),
            ),
            (
                json!({"clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"}}),
                json!([["IPv4"], "SingleStack"]),
            ),
            (json!({"ipFamilyPolicy": "PreferDualStack"}), json!([["IPv4"], "PreferDualStack"])),
            (json!({"type": "ExternalName"}), json!([null, null])),
        ];
        for (given, expected) in table {
            let mut spec = spec(given.clone());
            assert!(settle(&mut spec, None, "IPv4").is_empty(), "{given}");
            assert_eq!(json!([spec.ip_families, spec.ip_family_policy]), expected, "{given}");
        }
    }

    #[test]
    fn refusals_stop_at_the_first_stage() {
        let table = [
            (
                json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "RequireDualStack"}),
                None,
                vec![
                    "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
                    "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
                ],
            ),
            (
                json!({"ipFamilies": ["IPv6", "IPv4"]}),
                None,
                vec![
                    "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
                ],
            ),
            (
                json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]}),
                None,
                vec!["spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster"],
            ),
            (
                json!({"ipFamilies": ["IPv5"], "ipFamilyPolicy": "RequireDualStack"}),
                None,
                vec!["spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\""],
            ),
            (
                json!({"clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv4"]}),
                Some(
                    json!({"clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}),
                ),
                vec![
                    "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary IP family",
                ],
            ),
        ];
        for (given, old, expected) in table {
            let old = old.map(spec);
            let errors = settle(&mut spec(given.clone()), old.as_ref(), "IPv4");
            let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{given}");
        }
    }
}
