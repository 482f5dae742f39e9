//! Checks that many kinds share, each with upstream's words. Every function adds what it finds to `errors`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath, go_quote};
use api::names;
use api::quantity::Quantity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use serde_json::Value;

use super::{internal, printing, wire};

/// What upstream says of a negative number.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// What upstream says of a zero.
pub const POSITIVE: &str = "must be greater than 0";
/// What upstream says of a changed field that may not change.
pub const IMMUTABLE: &str = "field is immutable";

/// `Unsupported value`, with the supported ones in the order given (unlike [`FieldError::not_supported`], which sorts them).
pub fn unsupported(path: &FieldPath, value: impl Serialize, supported: &[&str]) -> FieldError {
    let supported: Vec<String> = supported.iter().map(|value| go_quote(value)).collect();
    FieldError {
        kind: FieldErrorKind::NotSupported,
        path: path.clone(),
        value: Some(serde_json::to_value(value).unwrap_or(Value::Null)),
        detail: format!("supported values: {}", supported.join(", ")),
    }
}

/// The value is one of an enumeration.
pub fn one_of(errors: &mut FieldErrors, path: &FieldPath, value: &str, supported: &[&str]) {
    if !supported.contains(&value) {
        errors.push(unsupported(path, value, supported));
    }
}

/// The value is given, and one of an enumeration.
pub fn required_one_of(errors: &mut FieldErrors, path: &FieldPath, value: &str, supported: &[&str]) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        one_of(errors, path, value, supported);
    }
}

/// The value is given.
pub fn required(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
}

/// The number is not negative.
pub fn non_negative(errors: &mut FieldErrors, path: &FieldPath, value: impl Into<i64>) {
    let value = value.into();
    if value < 0 {
        errors.push(FieldError::invalid(path, value, NOT_NEGATIVE));
    }
}

/// The number is not negative, if there is one.
pub fn non_negative_option(errors: &mut FieldErrors, path: &FieldPath, value: Option<impl Into<i64>>) {
    if let Some(value) = value {
        non_negative(errors, path, value);
    }
}

/// The number lies between two bounds.
pub fn in_range(errors: &mut FieldErrors, path: &FieldPath, value: impl Into<i64>, low: i64, high: i64) {
    let value = value.into();
    if !(low..=high).contains(&value) {
        errors.push(FieldError::invalid(path, value, format!("must be between {low} and {high}, inclusive")));
    }
}

/// The field did not change.
pub fn immutable<T: PartialEq + Serialize>(errors: &mut FieldErrors, path: &FieldPath, new: &T, old: &T) {
    if new != old {
        errors.push(FieldError::invalid(path, new, IMMUTABLE));
    }
}

/// The struct did not change; it is shown as upstream's own type prints.
pub fn immutable_as<T: PartialEq + Serialize>(
    errors: &mut FieldErrors,
    path: &FieldPath,
    type_name: &str,
    new: &T,
    old: &T,
) {
    if new != old {
        errors.push(internal::invalid(path, type_name, new, IMMUTABLE));
    }
}

/// A number or a name of a port.
pub fn port(errors: &mut FieldErrors, path: &FieldPath, port: &IntOrString) {
    match port {
        IntOrString::Int(number) => {
            for message in names::port_number(i64::from(*number)) {
                errors.push(FieldError::invalid(path, number, message));
            }
        }
        IntOrString::String(name) => errors.push_invalid(path, name, names::port_name(name)),
    }
}

/// TCP, UDP or SCTP.
pub fn protocol(errors: &mut FieldErrors, path: &FieldPath, protocol: &str) {
    required_one_of(errors, path, protocol, &["SCTP", "TCP", "UDP"]);
}

/// A label key.
pub fn label_key(errors: &mut FieldErrors, path: &FieldPath, key: &str) {
    errors.push_invalid(path, key, names::qualified_name(key));
}

/// Keys and values of labels.
pub fn labels(errors: &mut FieldErrors, path: &FieldPath, labels: Option<&BTreeMap<String, String>>) {
    for (key, value) in labels.into_iter().flatten() {
        label_key(errors, path, key);
        errors.push_invalid(path, value, names::label_value(value));
    }
}

/// Keys and total size of annotations.
pub fn annotations(errors: &mut FieldErrors, path: &FieldPath, annotations: Option<&BTreeMap<String, String>>) {
    const MAX_SIZE: usize = 256 * 1024;
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        errors.push_invalid(path, key, names::qualified_name(&key.to_lowercase()));
        size += key.len() + value.len();
    }
    if size > MAX_SIZE {
        errors.push(FieldError::too_long(path, MAX_SIZE));
    }
}

/// The metadata of a template for objects: nothing but labels and annotations.
pub fn template_metadata(errors: &mut FieldErrors, path: &FieldPath, meta: &ObjectMeta) {
    annotations(errors, &path.child("annotations"), meta.annotations.as_ref());
    labels(errors, &path.child("labels"), meta.labels.as_ref());
    let rest = ObjectMeta { labels: None, annotations: None, ..meta.clone() };
    for (name, _) in serde_json::to_value(rest).unwrap_or_default().as_object().into_iter().flatten() {
        errors.push(FieldError::forbidden(&path.child(name), "cannot be set"));
    }
}

/// Conditions of the kind that all newer kinds have: one of a type, each with a reason and a time.
pub fn conditions(errors: &mut FieldErrors, path: &FieldPath, conditions: &[Condition]) {
    const MAX_REASON: usize = 1024;
    const MAX_MESSAGE: usize = 32 * 1024;
    for (i, condition) in conditions.iter().enumerate() {
        let (at, kind) = (path.index(i), &condition.type_);
        if conditions[..i].iter().any(|other| other.type_ == *kind) {
            errors.push(FieldError::duplicate(&at.child("type"), kind));
        }
        label_key(errors, &at.child("type"), kind);
        one_of(errors, &at.child("status"), &condition.status, &["False", "True", "Unknown"]);
        if let Some(generation) = condition.observed_generation.filter(|generation| *generation < 0) {
            let detail = "must be greater than or equal to zero";
            errors.push(FieldError::invalid(&at.child("observedGeneration"), generation, detail));
        }
        if printing::seconds(&condition.last_transition_time) == wire::ZERO_TIME {
            errors.push(FieldError::required(&at.child("lastTransitionTime"), "must be set"));
        }
        let reason = at.child("reason");
        if condition.reason.is_empty() {
            errors.push(FieldError::required(&reason, "must be set"));
        } else if !is_reason(&condition.reason) {
            let detail = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
            errors.push(FieldError::invalid(&reason, &condition.reason, detail));
        }
        for (path, text, max) in
            [(reason, &condition.reason, MAX_REASON), (at.child("message"), &condition.message, MAX_MESSAGE)]
        {
            if text.len() > max {
                errors.push(FieldError::too_long(&path, max));
            }
        }
    }
}

fn is_reason(reason: &str) -> bool {
    reason.starts_with(|c: char| c.is_ascii_alphabetic())
        && reason.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && reason.chars().all(|c| c.is_ascii_alphanumeric() || "_,:".contains(c))
}

/// A label selector with its expressions.
pub fn label_selector(errors: &mut FieldErrors, path: &FieldPath, selector: Option<&LabelSelector>) {
    let Some(selector) = selector else { return };
    labels(errors, &path.child("matchLabels"), selector.match_labels.as_ref());
    for (i, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(i);
        let values = expression.values.as_deref().unwrap_or_default();
        if !requirement(errors, &path, &expression.operator, values) {
            let operator = &expression.operator;
            errors.push(FieldError::invalid(&path.child("operator"), operator, "not a valid selector operator"));
        }
        label_key(errors, &path.child("key"), &expression.key);
        for (i, value) in values.iter().enumerate() {
            errors.push_invalid(&path.child("values").index(i), value, names::label_value(value));
        }
    }
}

/// Whether there are values where the operator wants some; false where it is unknown.
pub fn requirement(errors: &mut FieldErrors, path: &FieldPath, operator: &str, values: &[String]) -> bool {
    let path = path.child("values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(FieldError::required(&path, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&path, detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => return false,
    }
    true
}

/// An IPv4 or IPv6 address in canonical form.
pub fn ip(errors: &mut FieldErrors, path: &FieldPath, address: &str) {
    errors.push_invalid(path, address, names::ip_address(address));
}

/// An address that clients of a Service may be sent to: not loopback, link-local or unspecified.
pub fn endpoint_ip(errors: &mut FieldErrors, path: &FieldPath, address: &str) {
    let Ok(ip) = address.parse::<IpAddr>() else {
        errors.push(FieldError::invalid(path, address, "must be a valid IP address"));
        return;
    };
    let (link_local, link_local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    let mut wrong = |detail: String| errors.push(FieldError::invalid(path, address, detail));
    if ip.is_unspecified() {
        wrong(format!("may not be unspecified ({address})"));
    }
    if ip.is_loopback() {
        wrong("may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned());
    }
    if link_local {
        wrong("may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned());
    }
    if link_local_multicast {
        wrong("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned());
    }
}

/// `address/bits` taken apart.
pub fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let plain = bits == "0" || !bits.starts_with('0') && bits.bytes().all(|b| b.is_ascii_digit());
    let bits = if plain { bits.parse().ok()? } else { return None };
    let max = if address.is_ipv4() { 32 } else { 128 };
    (bits <= max).then_some((address, bits))
}

/// `address/bits`.
pub fn cidr(errors: &mut FieldErrors, path: &FieldPath, text: &str) {
    let mut wrong = |detail: &str| errors.push(FieldError::invalid(path, text, detail));
    let Some((address, bits)) = parse_cidr(text) else {
        let lenient = text.split_once('/').is_some_and(|(address, bits)| {
            let max = if address.contains(':') { 128 } else { 32 };
            let bits = if bits.bytes().all(|b| b.is_ascii_digit()) { bits.parse::<u8>().ok() } else { None };
            (address.parse::<IpAddr>().is_ok() || names::has_leading_zeros(address))
                && bits.is_some_and(|bits| bits <= max)
        });
        return wrong(if lenient {
            "must not have leading 0s in IP or prefix length"
        } else {
            "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
        });
    };
    let beyond = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96 << bits,
        IpAddr::V6(address) => address.to_bits().checked_shl(u32::from(bits)).unwrap_or_default(),
    };
    match address {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => wrong("must not have an IPv4-mapped IPv6 address"),
        _ if beyond != 0 => wrong("must not have bits set beyond the prefix length"),
        _ => {}
    }
}

/// `address/bits` as it is written in fields that were never written otherwise.
pub fn canonical_cidr(errors: &mut FieldErrors, path: &FieldPath, text: &str) {
    let before = errors.len();
    cidr(errors, path, text);
    if let (Some((address, bits)), true) = (parse_cidr(text), errors.len() == before) {
        let canonical = format!("{address}/{bits}");
        if canonical != text {
            let detail = format!("must be in canonical form ({})", go_quote(&canonical));
            errors.push(FieldError::invalid(path, text, detail));
        }
    }
}

/// A number of pods or a percentage of them.
pub fn number_or_percent(errors: &mut FieldErrors, path: &FieldPath, value: &IntOrString) {
    match value {
        IntOrString::Int(number) => non_negative(errors, path, *number),
        IntOrString::String(text) if percent(value).is_none() => {
            let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
            errors.push(FieldError::invalid(path, text, detail));
        }
        IntOrString::String(_) => {}
    }
}

/// No pods, or none of a hundred. A text that is no percentage counts as nothing, as upstream reads it.
pub fn is_zero(value: &IntOrString) -> bool {
    match value {
        IntOrString::Int(number) => *number == 0,
        IntOrString::String(text) => percent(value).unwrap_or_else(|| text.parse().unwrap_or_default()) == 0,
    }
}

/// A percentage is at most 100 %.
pub fn at_most_hundred_percent(errors: &mut FieldErrors, path: &FieldPath, value: &IntOrString) {
    if percent(value).is_some_and(|percent| percent > 100) {
        errors.push(FieldError::invalid(path, value, "must not be greater than 100%"));
    }
}

/// The number in `25%`.
pub fn percent(value: &IntOrString) -> Option<u64> {
    match value {
        IntOrString::Int(_) => None,
        IntOrString::String(text) => {
            let digits = text.strip_suffix('%')?;
            if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
        }
    }
}

/// The quantity, or zero where decoding already refused it.
pub fn quantity(wire: &Wire) -> Quantity {
    Quantity::parse(&wire.0).unwrap_or_default()
}

/// A quantity is not negative, and whole for resources that can't be split.
pub fn resource_quantity(errors: &mut FieldErrors, path: &FieldPath, resource: &str, wire: &Wire) {
    let amount = quantity(wire);
    if amount.is_negative() {
        errors.push(FieldError::invalid(path, amount.to_string(), NOT_NEGATIVE));
    }
    if is_integer_resource(resource) && !amount.is_integer() {
        errors.push(FieldError::invalid(path, amount.to_string(), "must be an integer"));
    }
}

fn is_integer_resource(resource: &str) -> bool {
    let counted = [
        "pods",
        "persistentvolumeclaims",
        "services",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "services.nodeports",
        "services.loadbalancers",
        "requests.hugepages",
        "limits.hugepages",
    ];
    counted.contains(&resource) || resource.starts_with("count/") || is_extended_resource(resource)
}

/// `example.org/gpu`: not kubernetes.io, and not the name of a quota.
pub fn is_extended_resource(resource: &str) -> bool {
    !is_native_resource(resource)
        && !resource.starts_with("requests.")
        && names::qualified_name(&format!("requests.{resource}")).is_empty()
}

/// Unprefixed, or under kubernetes.io.
pub fn is_native_resource(resource: &str) -> bool {
    !resource.contains('/') || resource.contains("kubernetes.io/")
}

/// `hugepages-2Mi` and the like.
pub fn is_huge_pages(resource: &str) -> bool {
    resource.starts_with("hugepages-")
}

/// The name of some resource: qualified, and a known one if it has no prefix.
pub fn resource_name(errors: &mut FieldErrors, path: &FieldPath, resource: &str) {
    const STANDARD: &[&str] = &[
        "cpu",
        "memory",
        "ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "storage",
        "requests.storage",
        "services.nodeports",
        "services.loadbalancers",
    ];
    let messages = names::qualified_name(resource);
    let wellformed = messages.is_empty();
    errors.push_invalid(path, resource, messages);
    let standard =
        STANDARD.contains(&resource) || is_huge_pages(resource) || resource.starts_with("requests.hugepages-");
    if wellformed && !resource.contains('/') && !standard {
        errors.push(FieldError::invalid(path, resource, "must be a standard resource type or fully qualified"));
    }
}

/// `example.org/path`.
pub fn domain_prefixed_path(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    match value.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty()) {
        None if value.is_empty() => errors.push(FieldError::required(path, "")),
        None => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(FieldError::invalid(path, value, detail));
        }
        Some((domain, rest)) => {
            errors.push_invalid(path, domain, names::is_dns1123_subdomain(domain));
            let fits = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
            if !rest.chars().all(fits) {
                let detail = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
                errors.push(FieldError::invalid(path, rest, detail));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(check: impl FnOnce(&mut FieldErrors, &FieldPath)) -> String {
        let mut errors = FieldErrors::new();
        check(&mut errors, &FieldPath::root("f"));
        errors.to_string()
    }

    #[test]
    fn conditions_are_complete() {
        let condition = |kind: &str, reason: &str| -> Condition {
            serde_json::from_value(json!({"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": "2024-01-01T00:00:00Z"})).expect("a condition")
        };
        let good = condition("Ready", "Reason_A:B");
        let found = |conditions: &[Condition]| {
            let mut errors = FieldErrors::new();
            super::conditions(&mut errors, &FieldPath::root("c"), conditions);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(found(std::slice::from_ref(&good)).is_empty());
        let mut odd = Condition { status: "Maybe".to_owned(), observed_generation: Some(-1), ..condition("Ready", "") };
        odd.last_transition_time.0 = wire::ZERO_TIME.parse().expect("a time");
        let expected = [
            "c[1].type: Duplicate value: \"Ready\"",
            "c[1].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
            "c[1].observedGeneration: Invalid value: -1: must be greater than or equal to zero",
            "c[1].lastTransitionTime: Required value: must be set",
            "c[1].reason: Required value: must be set",
        ];
        assert_eq!(found(&[good, odd]), expected);
        assert!(
            found(&[condition("Ready", "1st")])[0]
                .starts_with("c[0].reason: Invalid value: \"1st\": a condition reason must start")
        );
    }

    #[test]
    fn words() {
        let selector: LabelSelector = serde_json::from_value(json!({"matchExpressions": [
            {"key": "a", "operator": "Near"}, {"key": "b", "operator": "In"}, {"key": "c", "operator": "Exists", "values": ["x"]}]}))
        .expect("a selector");
        let table = [
            (
                found(|e, p| one_of(e, p, "x", &["B", "A"])),
                "f: Unsupported value: \"x\": supported values: \"B\", \"A\"",
            ),
            (found(|e, p| in_range(e, p, 0, 1, 9)), "f: Invalid value: 0: must be between 1 and 9, inclusive"),
            (
                found(|e, p| endpoint_ip(e, p, "127.0.0.1")),
                "f: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ),
            (
                found(|e, p| cidr(e, p, "10.0.0.0/33")),
                "f: Invalid value: \"10.0.0.0/33\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
            (
                found(|e, p| at_most_hundred_percent(e, p, &IntOrString::String("150%".to_owned()))),
                "f: Invalid value: \"150%\": must not be greater than 100%",
            ),
            (
                found(|e, p| resource_name(e, p, "moons")),
                "f: Invalid value: \"moons\": must be a standard resource type or fully qualified",
            ),
            (
                found(|e, p| resource_quantity(e, p, "example.org/gpu", &Wire("1500m".to_owned()))),
                "f: Invalid value: \"1500m\": must be an integer",
            ),
            (
                found(|e, p| label_selector(e, p, Some(&selector))),
                "[f.matchExpressions[0].operator: Invalid value: \"Near\": not a valid selector operator, f.matchExpressions[1].values: Required value: must be specified when `operator` is 'In' or 'NotIn', f.matchExpressions[2].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist']",
            ),
        ];
        for (found, expected) in table {
            assert_eq!(found, expected);
        }
    }
}
