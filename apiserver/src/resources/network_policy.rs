//! NetworkPolicy: who may talk to the pods it selects.

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy as Object, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, MetadataCheck, address_warnings, checks};

/// See the module.
pub struct NetworkPolicy;

impl Kind for NetworkPolicy {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["netpol"];
    const GENERATION: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Whole, MetadataCheck::Change];

    fn set_defaults(object: &mut Object) {
        let spec = object.spec.get_or_insert_default();
        let inward = spec.ingress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
        let outward = spec.egress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
        for port in inward.chain(outward) {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
        if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
            let mut types = vec!["Ingress".to_owned()];
            if spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
                types.push("Egress".to_owned());
            }
            spec.policy_types = Some(types);
        }
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("spec");
        let spec = object.spec.clone().unwrap_or_default();
        checks::label_selector(&mut errors, &path.child("podSelector"), spec.pod_selector.as_ref());
        for (i, rule) in spec.ingress.iter().flatten().enumerate() {
            let path = path.child("ingress").index(i);
            ports(&mut errors, &path, rule.ports.as_deref().unwrap_or_default());
            peers(&mut errors, &path.child("from"), rule.from.as_deref().unwrap_or_default());
        }
        for (i, rule) in spec.egress.iter().flatten().enumerate() {
            let path = path.child("egress").index(i);
            ports(&mut errors, &path, rule.ports.as_deref().unwrap_or_default());
            peers(&mut errors, &path.child("to"), rule.to.as_deref().unwrap_or_default());
        }
        let types = spec.policy_types.as_deref().unwrap_or_default();
        if types.len() > 2 {
            errors.push(FieldError::invalid(
                &path.child("policyTypes"),
                types,
                "may not specify more than two policyTypes",
            ));
            return errors;
        }
        for (i, kind) in types.iter().enumerate() {
            checks::one_of(&mut errors, &path.child("policyTypes").index(i), kind, &["Ingress", "Egress"]);
        }
        errors
    }

    /// Upstream looks at it as at a new one and then as at a changed one: what is wrong is told twice.
    fn validate_update(new: &Object, _old: &Object) -> FieldErrors {
        let mut errors = Self::validate(new);
        errors.extend(Self::validate(new));
        errors
    }

    fn warnings(new: &Object, _old: Option<&Object>) -> Vec<String> {
        let mut warnings = Vec::new();
        let spec = new.spec.clone().unwrap_or_default();
        let path = FieldPath::root("spec");
        for (i, rule) in spec.ingress.iter().flatten().enumerate() {
            let path = path.child("ingress").index(i).child("from");
            warnings.extend(peer_warnings(&path, rule.from.as_deref().unwrap_or_default()));
        }
        for (i, rule) in spec.egress.iter().flatten().enumerate() {
            let path = path.child("egress").index(i).child("to");
            warnings.extend(peer_warnings(&path, rule.to.as_deref().unwrap_or_default()));
        }
        warnings
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text(
                "Pod-Selector",
                "podSelector selects the pods to which this NetworkPolicy object applies. The array of rules is applied to any pods selected by this field. An empty selector matches all pods in the policy's namespace. Multiple network policies can select the same set of pods. In this case, the ingress rules for each are combined additively. This field is optional. If it is not specified, it defaults to an empty selector.",
            ),
            AGE,
        ];
        Columns {
            columns,
            cells: |object, now| {
                let selector = object.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
                vec![
                    printing::name(&object.metadata),
                    Value::from(printing::selector(selector)),
                    printing::age(&object.metadata, now),
                ]
            },
        }
    }
}

fn peer_warnings(path: &FieldPath, peers: &[NetworkPolicyPeer]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (i, block) in peers.iter().enumerate().filter_map(|(i, peer)| Some((i, peer.ip_block.as_ref()?))) {
        let path = path.index(i).child("ipBlock");
        warnings.extend(address_warnings::range(&path.child("cidr"), &block.cidr));
        for (j, except) in block.except.iter().flatten().enumerate() {
            warnings.extend(address_warnings::range(&path.child("except").index(j), except));
        }
    }
    warnings
}

fn ports(errors: &mut FieldErrors, path: &FieldPath, ports: &[NetworkPolicyPort]) {
    for (i, port) in ports.iter().enumerate() {
        let path = path.child("ports").index(i);
        if let Some(protocol) = &port.protocol {
            checks::one_of(errors, &path.child("protocol"), protocol, &["TCP", "UDP", "SCTP"]);
        }
        let end_path = path.child("endPort");
        let refuse = |errors: &mut FieldErrors, detail: &str| {
            if let Some(end) = port.end_port {
                errors.push(FieldError::invalid(&end_path, end, detail));
            }
        };
        match &port.port {
            Some(number @ IntOrString::Int(start)) => {
                checks::port(errors, &path.child("port"), number);
                let Some(end) = port.end_port else { continue };
                if end < *start {
                    refuse(errors, "must be greater than or equal to `port`");
                }
                checks::port(errors, &end_path, &IntOrString::Int(end));
            }
            Some(name @ IntOrString::String(_)) => {
                refuse(errors, "may not be specified when `port` is non-numeric");
                checks::port(errors, &path.child("port"), name);
            }
            None => refuse(errors, "may not be specified when `port` is not specified"),
        }
    }
}

fn peers(errors: &mut FieldErrors, path: &FieldPath, peers: &[NetworkPolicyPeer]) {
    for (i, peer) in peers.iter().enumerate() {
        let path = path.index(i);
        checks::label_selector(errors, &path.child("podSelector"), peer.pod_selector.as_ref());
        checks::label_selector(errors, &path.child("namespaceSelector"), peer.namespace_selector.as_ref());
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match &peer.ip_block {
            Some(block) => {
                ip_block(errors, &path.child("ipBlock"), block);
                if selects {
                    errors.push(FieldError::forbidden(&path, "may not specify both ipBlock and another peer"));
                }
            }
            None if !selects => errors.push(FieldError::required(&path, "must specify a peer")),
            None => {}
        }
    }
}

fn ip_block(errors: &mut FieldErrors, path: &FieldPath, block: &IPBlock) {
    if block.cidr.is_empty() {
        errors.push(FieldError::required(&path.child("cidr"), ""));
        return;
    }
    checks::cidr(errors, &path.child("cidr"), &block.cidr);
    let Some(outer) = checks::parse_cidr(&block.cidr) else { return };
    for (i, except) in block.except.iter().flatten().enumerate() {
        let path = path.child("except").index(i);
        checks::cidr(errors, &path, except);
        let Some(inner) = checks::parse_cidr(except) else { return };
        if !is_strictly_within(inner, outer) {
            errors.push(FieldError::invalid(&path, except, "must be a strict subset of `cidr`"));
        }
    }
}

fn is_strictly_within(inner: (std::net::IpAddr, u8), outer: (std::net::IpAddr, u8)) -> bool {
    use std::net::IpAddr::{V4, V6};
    if inner.1 <= outer.1 {
        return false;
    }
    match (inner.0, outer.0) {
        (V4(a), V4(b)) => (a.to_bits() ^ b.to_bits()).checked_shr(32 - u32::from(outer.1)).unwrap_or(0) == 0,
        (V6(a), V6(b)) => (a.to_bits() ^ b.to_bits()).checked_shr(128 - u32::from(outer.1)).unwrap_or(0) == 0,
        (V4(_), V6(_)) | (V6(_), V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_refused() {
        let table = [
            (
                json!({"egress": [{"to": [{"ipBlock": {"cidr": "192.168.0.0/16", "except": ["10.0.0.0/8"]}}]}]}),
                "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
            ),
            (
                json!({"ingress": [{"from": [{"ipBlock": {"cidr": "nine"}}]}]}),
                "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"nine\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
            (
                json!({"ingress": [{"ports": [{"protocol": "X", "port": "a--b", "endPort": 7}, {"port": 9, "endPort": 0}]}]}),
                "[spec.ingress[0].ports[0].protocol: Unsupported value: \"X\": supported values: \"TCP\", \"UDP\", \"SCTP\", spec.ingress[0].ports[0].endPort: Invalid value: 7: may not be specified when `port` is non-numeric, spec.ingress[0].ports[0].port: Invalid value: \"a--b\": must not contain consecutive hyphens, spec.ingress[0].ports[1].endPort: Invalid value: 0: must be greater than or equal to `port`, spec.ingress[0].ports[1].endPort: Invalid value: 0: must be between 1 and 65535, inclusive]",
            ),
            (json!({"ingress": [{"from": [{}]}]}), "spec.ingress[0].from[0]: Required value: must specify a peer"),
            (
                json!({"egress": [{"to": [{"ipBlock": {"cidr": "192.168.0.0/16", "except": ["192.168.1.0/24"]}}], "ports": [{"port": 53, "endPort": 60}]}]}),
                "[]",
            ),
        ];
        for (spec, message) in table {
            let mut object: Object = serde_json::from_value(json!({"spec": spec})).expect("a policy");
            NetworkPolicy::set_defaults(&mut object);
            assert_eq!(NetworkPolicy::validate(&object).to_string(), message);
        }
    }
}
