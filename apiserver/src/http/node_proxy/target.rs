//! Where a request goes: which container, which address, which port. Data in, data out.

use api::ApiError;
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service, ServicePort};

use super::super::query::Query;
use super::super::request_info::ResourcePath;

/// Where kubelets listen unless their node says otherwise.
const KUBELET_PORT: u16 = 10250;
/// Which address of a node is taken, best first.
const ADDRESS_TYPES: [&str; 3] = ["InternalIP", "ExternalIP", "Hostname"];

/// How the other end is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Plain HTTP: what a pod serves.
    Http,
    /// TLS that proves nothing: a pod's certificate has no authority that we know.
    Https,
    /// TLS with a certificate that our authority signed, shown ours.
    Kubelet,
}

/// An address with what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
    pub(super) query: String,
}

impl Location {
    fn new(scheme: Scheme, host: &str, port: u16) -> Self {
        Self { scheme, host: host.to_owned(), port, path: String::new(), query: String::new() }
    }

    /// `host:port`.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Path and query.
    pub(super) fn path_and_query(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }
}

/// `[scheme:]name[:port]` in a proxy path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) scheme: &'a str,
    pub(super) name: &'a str,
    pub(super) port: &'a str,
}

impl<'a> Named<'a> {
    /// None for what is not of this form.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme @ ("" | "http" | "https"), name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        (!name.is_empty()).then_some(Self { scheme, name, port })
    }

    fn scheme(&self) -> Scheme {
        if self.scheme == "https" { Scheme::Https } else { Scheme::Http }
    }

    fn port_number(&self) -> Result<u16, ApiError> {
        self.port
            .parse()
            .map_err(|_| ApiError::bad_request(format!("invalid port {}", api::field::go_quote(self.port))))
    }
}

/// The node that a pod is bound to; empty if none.
pub(super) fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// The container that is meant; the only one if none is named.
pub(super) fn container(pod: &Pod, asked: &str) -> Result<String, ApiError> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let Some(spec) = &pod.spec else {
        return Err(ApiError::bad_request(format!("a container name must be specified for pod {name}")));
    };
    let init = spec.init_containers.iter().flatten().map(|container| &container.name);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| &container.name);
    let all: Vec<&String> =
        init.chain(spec.containers.iter().map(|container| &container.name)).chain(ephemeral).collect();
    match (asked, spec.containers.as_slice()) {
        ("", [only]) => Ok(only.name.clone()),
        ("", []) => Err(ApiError::bad_request(format!("a container name must be specified for pod {name}"))),
        ("", _) => {
            let all: Vec<&str> = all.into_iter().map(String::as_str).collect();
            Err(ApiError::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                all.join(" ")
            )))
        }
        (asked, _) if all.iter().any(|known| *known == asked) => Ok(asked.to_owned()),
        (asked, _) => Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}"))),
    }
}

/// The streams and the command of exec and attach, in the kubelet's spelling.
pub(super) fn stream_query(query: &Query) -> String {
    let mut pairs = Vec::new();
    for (ours, kubelets) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if query.boolean(ours) {
            pairs.push(format!("{kubelets}=1"));
        }
    }
    pairs.extend(query.all("command").iter().map(|word| format!("command={}", encode(word))));
    pairs.join("&")
}

/// The ports of a port-forward, in the kubelet's spelling.
pub(super) fn port_query(query: &Query) -> String {
    let ports = query.all("ports").join(",");
    if ports.is_empty() { String::new() } else { format!("port={}", encode(&ports)) }
}

/// Address and port of a node's kubelet.
pub(super) fn kubelet(node: &Node) -> Result<Location, ApiError> {
    let status = node.status.as_ref();
    let addresses = || status.iter().flat_map(|status| status.addresses.iter().flatten());
    let found = ADDRESS_TYPES.iter().find_map(|wanted| addresses().find(|address| address.type_ == *wanted));
    let Some(found) = found else {
        let known: Vec<&str> = addresses().map(|address| address.type_.as_str()).collect();
        return Err(ApiError::unclassified(format!(
            "no preferred addresses found; known addresses: [{}]",
            known.join(" ")
        )));
    };
    let port = status
        .and_then(|status| status.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref())
        .map(|endpoint| endpoint.port);
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(KUBELET_PORT);
    Ok(Location::new(Scheme::Kubelet, &found.address, port))
}

/// What `nodes/proxy` leads to: the kubelet, or another port of the node.
pub(super) fn of_node(node: &Node, named: &Named<'_>) -> Result<Location, ApiError> {
    let kubelet = kubelet(node)?;
    if named.port.is_empty() || named.port == kubelet.port.to_string() {
        return Ok(kubelet);
    }
    check_host(&kubelet.host)?;
    Ok(Location::new(named.scheme(), &kubelet.host, named.port_number()?))
}

/// What `pods/proxy` leads to: the named port, or the first that a container names.
pub(super) fn of_pod(pod: &Pod, named: &Named<'_>) -> Result<Location, ApiError> {
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).unwrap_or_default();
    check_host(ip)?;
    let port = if named.port.is_empty() {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let first = containers.flat_map(|container| container.ports.iter().flatten()).next();
        first.and_then(|port| u16::try_from(port.container_port).ok()).unwrap_or(if named.scheme == "https" {
            443
        } else {
            80
        })
    } else {
        named.port_number()?
    };
    Ok(Location::new(named.scheme(), ip, port))
}

/// What `services/proxy` leads to: one of the ready endpoints of the port, which `choose` picks.
pub(super) fn of_service(
    service: &Service,
    endpoints: &Endpoints,
    named: &Named<'_>,
    choose: impl FnOnce(u64) -> u64,
) -> Result<Location, ApiError> {
    let port = service_port(service, named)?;
    let subsets =
        endpoints.subsets.iter().flatten().filter(|subset| subset.addresses.iter().flatten().next().is_some());
    let mut found = Vec::new();
    let mut any = false;
    for subset in subsets {
        any = true;
        for wanted in
            subset.ports.iter().flatten().filter(|candidate| candidate.name.as_deref().unwrap_or_default() == port)
        {
            found.extend(subset.addresses.iter().flatten().map(|address| (address.ip.as_str(), wanted.port)));
        }
    }
    if !any {
        return Err(without_endpoints(named));
    }
    let Some((ip, port)) = (!found.is_empty()).then(|| found[choose(found.len() as u64) as usize]) else {
        return Err(without_port(named));
    };
    check_host(ip)?;
    Ok(Location::new(named.scheme(), ip, u16::try_from(port).unwrap_or(0)))
}

/// The service has nobody behind it.
pub(super) fn without_endpoints(named: &Named<'_>) -> ApiError {
    ApiError::service_unavailable(format!("no endpoints available for service {}", api::field::go_quote(named.name)))
}

/// The name of the service's port that is meant, by which its endpoints know it.
fn service_port(service: &Service, named: &Named<'_>) -> Result<String, ApiError> {
    let ports: Vec<_> = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).collect();
    let name = |port: &ServicePort| port.name.clone().unwrap_or_default();
    match ports.as_slice() {
        [only] if named.port.is_empty() => Ok(name(only)),
        _ if named.port.is_empty() => Ok(String::new()),
        ports => {
            let meant = ports.iter().find(|port| name(port) == named.port || port.port.to_string() == named.port);
            meant.map(|port| name(port)).ok_or_else(|| without_port(named))
        }
    }
}

fn without_port(named: &Named<'_>) -> ApiError {
    let (port, name) = (api::field::go_quote(named.port), api::field::go_quote(named.name));
    ApiError::service_unavailable(format!("no service port {port} found for service {name}"))
}

/// Nobody may reach the server's own machine, or what is only a link away, through it.
fn check_host(host: &str) -> Result<(), ApiError> {
    let refused = match host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => {
            ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()
        }
        Ok(std::net::IpAddr::V6(ip)) => {
            ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast()
        }
        Err(_) => host.is_empty() || host == "localhost",
    };
    if refused { Err(ApiError::bad_request("address not allowed")) } else { Ok(()) }
}

/// What follows `…/proxy` in a path, as it was written.
pub(super) fn rest_of(path: &str, at: &ResourcePath) -> String {
    // "", api, v1, [namespaces, NAMESPACE,] plural, name, proxy
    let before = if at.namespace.is_empty() { 6 } else { 8 };
    let rest: Vec<&str> = path.split('/').skip(before).collect();
    format!("/{}", rest.join("/"))
}

/// Escapes a value of a query.
pub(super) fn encode(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value, status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec, "status": status})).expect("a pod")
    }

    fn named(text: &str) -> Named<'_> {
        Named::parse(text).expect("a name")
    }

    fn shown(found: Result<Location, ApiError>) -> String {
        match found {
            Ok(location) => format!("{:?} {}{}", location.scheme, location.authority(), location.path_and_query()),
            Err(error) => format!("{} {}", error.code, error.message),
        }
    }

    #[test]
    fn which_container() {
        let one = pod(json!({"containers": [{"name": "a"}]}), json!({}));
        let two =
            pod(json!({"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}), json!({}));
        let table = [
            (&one, "", "a"),
            (&one, "a", "a"),
            (&one, "x", "container x is not valid for pod p"),
            (&two, "", "a container name must be specified for pod p, choose one of: [i a b]"),
            (&two, "b", "b"),
            (&two, "i", "i"),
        ];
        for (pod, asked, expected) in table {
            let found = container(pod, asked).unwrap_or_else(|error| error.message);
            assert_eq!(found, expected, "{asked}");
        }
    }

    #[test]
    fn streams_in_the_kubelets_spelling() {
        let query = Query::parse(
            "command=sh&command=-c&command=echo+%24A%26b&container=c&stdin=true&stdout=true&stderr=false&tty=1",
        );
        assert_eq!(stream_query(&query), "input=1&output=1&tty=1&command=sh&command=-c&command=echo%20%24A%26b");
        assert_eq!(port_query(&Query::parse("ports=80&ports=443")), "port=80%2C443");
        assert_eq!(port_query(&Query::parse("")), "");
    }

    #[test]
    fn kubelets_by_address_and_port() {
        let table = [
            (
                json!({"addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.7"}]}),
                "Kubelet 10.0.0.7:10250",
            ),
            (
                json!({"addresses": [{"type": "InternalIP", "address": "fd00::1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": 1234}}}),
                "Kubelet [fd00::1]:1234",
            ),
            (
                json!({"addresses": [{"type": "InternalDNS", "address": "n"}]}),
                "500 no preferred addresses found; known addresses: [InternalDNS]",
            ),
            (json!({}), "500 no preferred addresses found; known addresses: []"),
        ];
        for (status, expected) in table {
            let node: Node =
                serde_json::from_value(json!({"metadata": {"name": "n"}, "status": status})).expect("a node");
            assert_eq!(shown(kubelet(&node)), expected);
        }
    }

    #[test]
    fn proxies_to_pods_and_nodes() {
        let ports = json!({"containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}]}]});
        let up = pod(ports, json!({"podIP": "10.1.0.5"}));
        let table = [
            ("p", "Http 10.1.0.5:8080"),
            ("p:90", "Http 10.1.0.5:90"),
            ("https:p:443", "Https 10.1.0.5:443"),
            ("p:x", "400 invalid port \"x\""),
        ];
        for (text, expected) in table {
            assert_eq!(shown(of_pod(&up, &named(text))), expected);
        }
        for ip in ["", "127.0.0.1", "169.254.169.254"] {
            assert_eq!(
                shown(of_pod(&pod(json!({"containers": []}), json!({"podIP": ip})), &named("p"))),
                "400 address not allowed",
                "{ip}"
            );
        }
        let node = json!({"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.7"}]}});
        let node: Node = serde_json::from_value(node).expect("a node");
        for (text, expected) in [
            ("n", "Kubelet 10.0.0.7:10250"),
            ("https:n:10250", "Kubelet 10.0.0.7:10250"),
            ("n:9100", "Http 10.0.0.7:9100"),
        ] {
            assert_eq!(shown(of_node(&node, &named(text))), expected);
        }
        for text in ["", ":", "ftp:n:1", "a:b:c:d"] {
            assert_eq!(Named::parse(text), None, "{text}");
        }
    }

    #[test]
    fn proxies_to_services() {
        let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "web", "port": 80}, {"name": "other", "port": 81}]}});
        let service: Service = serde_json::from_value(service).expect("a service");
        let endpoints = json!({"metadata": {"name": "s"}, "subsets": [{"addresses": [{"ip": "10.1.0.5"}, {"ip": "10.1.0.6"}],
            "ports": [{"name": "web", "port": 8080}]}]});
        let endpoints: Endpoints = serde_json::from_value(endpoints).expect("endpoints");
        let table = [
            ("s:web", "Http 10.1.0.6:8080"),
            ("s:80", "Http 10.1.0.6:8080"),
            ("https:s:web", "Https 10.1.0.6:8080"),
            ("s:81", "503 no service port \"81\" found for service \"s\""),
            ("s:x", "503 no service port \"x\" found for service \"s\""),
            ("s", "503 no service port \"\" found for service \"s\""),
        ];
        for (text, expected) in table {
            assert_eq!(shown(of_service(&service, &endpoints, &named(text), |count| count - 1)), expected, "{text}");
        }
        let nobody = Endpoints::default();
        assert_eq!(
            shown(of_service(&service, &nobody, &named("s:web"), |_| 0)),
            "503 no endpoints available for service \"s\""
        );
    }

    #[test]
    fn the_rest_is_taken_as_written() {
        let at = |namespace: &str| ResourcePath { namespace: namespace.into(), ..ResourcePath::default() };
        assert_eq!(rest_of("/api/v1/namespaces/ns/pods/p:80/proxy/a%2Fb/proxy/", &at("ns")), "/a%2Fb/proxy/");
        assert_eq!(rest_of("/api/v1/nodes/n/proxy/metrics", &at("")), "/metrics");
        assert_eq!(rest_of("/api/v1/nodes/n/proxy/", &at("")), "/");
        assert_eq!(rest_of("/api/v1/nodes/n/proxy", &at("")), "/");
    }
}
