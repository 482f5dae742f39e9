//! Which address stands behind a Service: one of its ready endpoints, as upstream with `--enable-aggregator-routing`, so that
//! nothing between this process and the pod has to translate cluster addresses. Data in, data out; entry point: [`address`].

use k8s_openapi::api::core::v1::{Endpoints, Service, ServicePort};

/// `host:port` of a Service's port; `choose` picks one of so many endpoints.
pub(super) fn address(
    service: Option<&Service>,
    endpoints: Option<&Endpoints>,
    name: &str,
    port: u16,
    choose: impl FnOnce(usize) -> usize,
) -> Result<(String, u16), String> {
    let quoted = api::field::go_quote(name);
    let spec =
        service.and_then(|service| service.spec.as_ref()).ok_or_else(|| format!("service {quoted} not found"))?;
    match spec.type_.as_deref().unwrap_or("ClusterIP") {
        "ClusterIP" | "LoadBalancer" | "NodePort" => {}
        "ExternalName" => return Ok((spec.external_name.clone().unwrap_or_default(), port)),
        other => return Err(format!("unsupported service type {}", api::field::go_quote(other))),
    }
    let wanted = spec.ports.iter().flatten().find(|candidate| candidate.port == i32::from(port));
    let wanted = wanted.ok_or_else(|| format!("no service port {port} found for service {quoted}"))?;
    let found = ready(endpoints, wanted);
    if found.is_empty() {
        return Err(format!("no endpoints available for service {quoted}"));
    }
    let chosen = choose(found.len()).min(found.len() - 1);
    found.into_iter().nth(chosen).ok_or_else(|| format!("no endpoints available for service {quoted}"))
}

/// The ready addresses of one port of a Service.
fn ready(endpoints: Option<&Endpoints>, wanted: &ServicePort) -> Vec<(String, u16)> {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let mut found = Vec::new();
    for subset in endpoints.iter().flat_map(|endpoints| endpoints.subsets.iter().flatten()) {
        for port in subset.ports.iter().flatten().filter(|port| name(&port.name) == name(&wanted.name)) {
            let Ok(number) = u16::try_from(port.port) else { continue };
            found.extend(subset.addresses.iter().flatten().map(|address| (address.ip.clone(), number)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn behind_a_service() {
        let service = |spec: Value| serde_json::from_value::<Service>(json!({"spec": spec})).expect("a service");
        let two = service(json!({"ports": [{"name": "a", "port": 443}, {"name": "b", "port": 80}]}));
        let external = service(json!({"type": "ExternalName", "externalName": "example.org"}));
        let endpoints = json!({"subsets": [{"addresses": [{"ip": "10.1.0.1"}, {"ip": "10.1.0.2"}],
            "notReadyAddresses": [{"ip": "10.1.0.3"}], "ports": [{"name": "a", "port": 8443}]}]});
        let endpoints: Endpoints = serde_json::from_value(endpoints).expect("endpoints");
        let at = |host: &str, port| Ok((host.to_owned(), port));
        let table = [
            (Some(&two), 443, at("10.1.0.2", 8443)),
            (Some(&two), 80, Err("no endpoints available for service \"s\"".to_owned())),
            (Some(&two), 81, Err("no service port 81 found for service \"s\"".to_owned())),
            (Some(&external), 443, at("example.org", 443)),
            (None, 443, Err("service \"s\" not found".to_owned())),
        ];
        for (service, port, expected) in table {
            assert_eq!(address(service, Some(&endpoints), "s", port, |count| count - 1), expected);
        }
    }
}
