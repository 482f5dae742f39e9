//! Endpoints: the addresses behind a Service, in upstream's old form. Deprecated; every answer says so.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints as Object};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, MetadataCheck, address_warnings, checks};

/// See the module.
pub struct Endpoints;

impl Kind for Endpoints {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["ep"];
    const CREATE_ON_UPDATE: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Change, MetadataCheck::Whole];
    const DEPRECATION: Option<&'static str> =
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice");

    fn set_defaults(object: &mut Object) {
        for port in object.subsets.iter_mut().flatten().flat_map(|subset| subset.ports.iter_mut().flatten()) {
            if port.protocol.as_deref().unwrap_or_default().is_empty() {
                port.protocol = Some("TCP".to_owned());
            }
        }
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for (i, found) in object.subsets.iter().flatten().enumerate() {
            subset(&mut errors, &FieldPath::root("subsets").index(i), found);
        }
        errors
    }

    fn warnings(new: &Object, _old: Option<&Object>) -> Vec<String> {
        let mut warnings = Vec::new();
        for (i, subset) in new.subsets.iter().flatten().enumerate() {
            let path = FieldPath::root("subsets").index(i);
            let lists = [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)];
            for (name, addresses) in lists {
                let addresses = addresses.iter().flatten().enumerate();
                warnings.extend(addresses.filter_map(|(j, found)| {
                    address_warnings::address(&path.child(name).index(j).child("ip"), &found.ip)
                }));
            }
        }
        warnings
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text(
                "Endpoints",
                "The set of all endpoints is the union of all subsets. Addresses are placed into subsets according to the IPs they share. A single address with multiple ports, some of which are ready and some of which are not (because they come from different containers) will result in the address being displayed in different subsets for the different ports. No address will appear in both Addresses and NotReadyAddresses in the same subset. Sets of addresses and ports that comprise a service.",
            ),
            AGE,
        ];
        Columns {
            columns,
            cells: |object, now| {
                let shown = first_endpoints(object.subsets.as_deref().unwrap_or_default());
                vec![printing::name(&object.metadata), Value::from(shown), printing::age(&object.metadata, now)]
            },
        }
    }
}

fn subset(errors: &mut FieldErrors, path: &FieldPath, subset: &EndpointSubset) {
    let ready = subset.addresses.as_deref().unwrap_or_default();
    let not_ready = subset.not_ready_addresses.as_deref().unwrap_or_default();
    if ready.is_empty() && not_ready.is_empty() {
        errors.push(FieldError::required(path, "must specify `addresses` or `notReadyAddresses`"));
    }
    for (name, addresses) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
        for (i, found) in addresses.iter().enumerate() {
            address(errors, &path.child(name).index(i), found);
        }
    }
    let ports = subset.ports.as_deref().unwrap_or_default();
    for (i, found) in ports.iter().enumerate() {
        port(errors, &path.child("ports").index(i), found, ports.len() > 1);
    }
}

fn address(errors: &mut FieldErrors, path: &FieldPath, address: &EndpointAddress) {
    checks::ip(errors, &path.child("ip"), &address.ip);
    if let Some(host) = address.hostname.as_ref().filter(|host| !host.is_empty()) {
        errors.push_invalid(&path.child("hostname"), host, names::is_dns1123_label(host));
    }
    if let Some(node) = &address.node_name {
        errors.push_invalid(&path.child("nodeName"), node, names::is_dns1123_subdomain(node));
    }
    checks::endpoint_ip(errors, &path.child("ip"), &address.ip);
}

fn port(errors: &mut FieldErrors, path: &FieldPath, port: &EndpointPort, named: bool) {
    match port.name.as_deref().unwrap_or_default() {
        "" if named => errors.push(FieldError::required(&path.child("name"), "")),
        "" => {}
        name => errors.push_invalid(&path.child("name"), name, names::is_dns1123_label(name)),
    }
    checks::port(errors, &path.child("port"), &IntOrString::Int(port.port));
    checks::protocol(errors, &path.child("protocol"), port.protocol.as_deref().unwrap_or_default());
    if let Some(protocol) = &port.app_protocol {
        errors.push_invalid(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
    }
}

fn first_endpoints(subsets: &[EndpointSubset]) -> String {
    const SHOWN: usize = 3;
    let host_port = |address: &EndpointAddress, port: i32| match address.ip.contains(':') {
        true => format!("[{}]:{port}", address.ip),
        false => format!("{}:{port}", address.ip),
    };
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = subset.addresses.as_deref().unwrap_or_default();
        match subset.ports.as_deref().unwrap_or_default() {
            [] => all.extend(addresses.iter().map(|address| address.ip.clone())),
            ports => {
                all.extend(ports.iter().flat_map(|port| addresses.iter().map(|address| host_port(address, port.port))))
            }
        }
    }
    match all.len() {
        0 => "<none>".to_owned(),
        count if count > SHOWN => format!("{} + {} more...", all[..SHOWN].join(","), count - SHOWN),
        _ => all.join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoints(subset: Value) -> Object {
        let mut object =
            serde_json::from_value(json!({"metadata": {"name": "e"}, "subsets": [subset]})).expect("endpoints");
        Endpoints::set_defaults(&mut object);
        object
    }

    #[test]
    fn what_is_refused() {
        let table = [
            (
                json!({"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 80}]}),
                "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ),
            (
                json!({"addresses": [{"ip": "abc"}]}),
                "[subsets[0].addresses[0].ip: Invalid value: \"abc\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff), subsets[0].addresses[0].ip: Invalid value: \"abc\": must be a valid IP address]",
            ),
            (
                json!({"ports": [{"port": 80}]}),
                "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
            ),
            (
                json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}, {"port": 81}]}),
                "[subsets[0].ports[0].name: Required value, subsets[0].ports[1].name: Required value]",
            ),
        ];
        for (subset, message) in table {
            assert_eq!(Endpoints::validate(&endpoints(subset)).to_string(), message);
        }
    }

    #[test]
    fn cells() {
        let shown = |subset| {
            (Endpoints::columns().cells)(&endpoints(subset), k8s_openapi::jiff::Timestamp::UNIX_EPOCH)[1].clone()
        };
        let addresses = json!([{"ip": "10.9.9.1"}, {"ip": "10.9.9.2"}]);
        assert_eq!(
            shown(json!({"addresses": addresses, "ports": [{"port": 80}, {"port": 81}]})),
            "10.9.9.1:80,10.9.9.2:80,10.9.9.1:81 + 1 more..."
        );
        assert_eq!(shown(json!({"addresses": addresses})), "10.9.9.1,10.9.9.2");
        assert_eq!(shown(json!({"notReadyAddresses": addresses})), "<none>");
    }
}
