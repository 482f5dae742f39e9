//! What a Service may say.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{LoadBalancerStatus, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{is_external, is_headless, kind};
use crate::resources::checks;

const MAX_AFFINITY_SECONDS: i32 = 24 * 60 * 60;

/// An annotation that asks for traffic to stay near, and its older name.
pub const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
/// See [`TOPOLOGY_MODE`].
pub const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const OF_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";

/// All errors of a Service, in upstream's order.
pub fn whole(errors: &mut FieldErrors, service: &Service) {
    let annotations = service.metadata.annotations.as_ref();
    let annotation = |key: &str| annotations.and_then(|annotations| annotations.get(key));
    let path = FieldPath::root("metadata").child("annotations");
    if let (Some(mode), Some(hints)) = (annotation(TOPOLOGY_MODE), annotation(TOPOLOGY_HINTS))
        && mode != hints
    {
        let detail = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        errors.push(FieldError::invalid(&path.key(TOPOLOGY_MODE), mode, detail));
    }
    let ranges = annotation(SOURCE_RANGES).map(|ranges| (path.key(SOURCE_RANGES), ranges.as_str()));
    spec(errors, &FieldPath::root("spec"), &service.spec.clone().unwrap_or_default(), ranges);
}

/// `ranges` is the annotation that the field with the ranges of sources replaced.
fn spec(errors: &mut FieldErrors, path: &FieldPath, spec: &ServiceSpec, ranges: Option<(FieldPath, &str)>) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_headless(spec) && kind(spec) != "ExternalName" {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    typed(errors, path, spec);
    let mut taken = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        service_port(errors, &path.child("ports").index(i), port, ports.len() > 1, &mut taken);
    }
    checks::labels(errors, &path.child("selector"), spec.selector.as_ref());
    affinity(errors, path, spec);
    if kind(spec) != "ExternalName" {
        cluster_ips(errors, path, spec);
    }
    for (i, address) in spec.external_ips.iter().flatten().enumerate() {
        let path = path.child("externalIPs").index(i);
        match names::ip_address(address) {
            wrong if wrong.is_empty() => checks::endpoint_ip(errors, &path, address),
            wrong => errors.push_invalid(&path, address, wrong),
        }
    }
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    checks::required_one_of(errors, &path.child("type"), kind(spec), &types);
    duplicate_ports(errors, &path.child("ports"), spec, ports);
    source_ranges(errors, path, spec, ranges);
    traffic_policies(errors, path, spec);
}

/// All errors of a change.
pub fn change(errors: &mut FieldErrors, path: &FieldPath, new: &ServiceSpec, old: &ServiceSpec) {
    if kind(new) != "ExternalName" && kind(old) != "ExternalName" {
        addresses_stay(errors, path, new, old);
        families_stay(errors, path, new, old);
    }
    if kind(new) == "LoadBalancer" && kind(old) == "LoadBalancer" && new.load_balancer_class != old.load_balancer_class
    {
        errors.push(FieldError::invalid(
            &path.child("loadBalancerClass"),
            &new.load_balancer_class,
            "may not change once set",
        ));
    }
    load_balancer_class(errors, path, new);
    let checked =
        |spec: &ServiceSpec| kind(spec) == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local");
    if checked(new) && checked(old) && new.health_check_node_port != old.health_check_node_port {
        errors.push(FieldError::forbidden(&path.child("healthCheckNodePort"), checks::IMMUTABLE));
    }
}

/// Addresses stay; a second one may come and go.
fn addresses_stay(errors: &mut FieldErrors, path: &FieldPath, new: &ServiceSpec, old: &ServiceSpec) {
    if is_headless(new) && is_headless(old) {
        return;
    }
    let list = path.child("clusterIPs");
    let (now, before) =
        (new.cluster_ips.as_deref().unwrap_or_default(), old.cluster_ips.as_deref().unwrap_or_default());
    let mut changed = |i: usize| errors.push(FieldError::invalid(&list.index(i), now, "may not change once set"));
    match now.len().cmp(&before.len()) {
        Ordering::Equal => {
            (0..now.len()).filter(|i| now[*i] != before[*i]).for_each(&mut changed);
        }
        Ordering::Less | Ordering::Greater => {
            if let (Some(now), Some(before)) = (now.first(), before.first())
                && now != before
            {
                changed(0);
            }
        }
    }
    if before.len() > now.len() {
        if now.is_empty() {
            errors.push(FieldError::invalid(&list.index(0), now, "primary clusterIP can not be unset"));
        }
        if now.len() == 1 && new.ip_family_policy.as_deref() != Some("SingleStack") {
            let detail = "must be set to 'SingleStack' when releasing the secondary clusterIP";
            errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), &new.ip_family_policy, detail));
        }
    }
}

/// So do the families of addresses, unless there are no addresses.
fn families_stay(errors: &mut FieldErrors, path: &FieldPath, new: &ServiceSpec, old: &ServiceSpec) {
    if is_headless(new) != is_headless(old) || is_headless(new) {
        return;
    }
    let first = path.child("ipFamilies").index(0);
    let (now, before) =
        (new.ip_families.as_deref().unwrap_or_default(), old.ip_families.as_deref().unwrap_or_default());
    let ips = new.cluster_ips.as_deref().unwrap_or_default();
    if now.len() == before.len() {
        for _ in now.iter().zip(before).filter(|(now, before)| now != before) {
            errors.push(FieldError::invalid(&first, now, "may not change once set"));
        }
        return;
    }
    if before.len() > now.len() && ips.is_empty() {
        errors.push(FieldError::invalid(&first, now, "primary ipFamily can not be unset"));
    }
    if let (Some(one), Some(other)) = (now.first(), before.first())
        && one != other
    {
        errors.push(FieldError::invalid(&first, ips, "may not change once set"));
    }
    if before.len() > now.len() && now.len() == 1 && new.ip_family_policy.as_deref() != Some("SingleStack") {
        let detail = "must be set to 'SingleStack' when releasing the secondary ipFamily";
        errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), &new.ip_family_policy, detail));
    }
}

/// All errors of a load balancer's points of entry.
pub fn load_balancer(errors: &mut FieldErrors, path: &FieldPath, status: &LoadBalancerStatus, spec: &ServiceSpec) {
    if kind(spec) != "LoadBalancer" && status.ingress.as_ref().is_some_and(|ingress| !ingress.is_empty()) {
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden(&path.child("ingress"), detail));
        return;
    }
    for (i, point) in status.ingress.iter().flatten().enumerate() {
        let path = path.child("ingress").index(i);
        if let Some(ip) = point.ip.as_deref().filter(|ip| !ip.is_empty()) {
            checks::ip(errors, &path.child("ip"), ip);
        }
        let has_ip = point.ip.as_deref().is_some_and(|ip| !ip.is_empty());
        let mode_path = path.child("ipMode");
        match &point.ip_mode {
            None if has_ip => errors.push(FieldError::required(&mode_path, "must be specified when `ip` is set")),
            None => {}
            Some(_) if !has_ip => {
                errors.push(FieldError::forbidden(&mode_path, "may not be specified when `ip` is not set"));
            }
            Some(mode) => checks::one_of(errors, &mode_path, mode, &["Proxy", "VIP"]),
        }
        if let Some(host) = point.hostname.as_deref().filter(|host| !host.is_empty()) {
            let path = path.child("hostname");
            errors.push_invalid(&path, host, names::is_dns1123_subdomain(host));
            if names::ip_address(host).is_empty() {
                errors.push(FieldError::invalid(&path, host, "must be a DNS name, not an IP address"));
            }
        }
    }
}

fn typed(errors: &mut FieldErrors, path: &FieldPath, spec: &ServiceSpec) {
    match kind(spec) {
        "LoadBalancer" | "NodePort" => not_headless(errors, path, spec),
        "ExternalName" => {
            let set = [
                ("clusterIPs", spec.cluster_ips.as_ref().is_some_and(|ips| !ips.is_empty())),
                ("ipFamilies", spec.ip_families.as_ref().is_some_and(|families| !families.is_empty())),
                ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
            ];
            for (field, _) in set.iter().filter(|(_, set)| *set) {
                errors.push(FieldError::forbidden(&path.child(field), "may not be set for ExternalName services"));
            }
            let name = spec.external_name.as_deref().unwrap_or_default();
            match name.strip_suffix('.').unwrap_or(name) {
                "" => errors.push(FieldError::required(&path.child("externalName"), "")),
                name => errors.push_invalid(&path.child("externalName"), name, names::is_dns1123_subdomain(name)),
            }
        }
        _ => {}
    }
}

fn not_headless(errors: &mut FieldErrors, path: &FieldPath, spec: &ServiceSpec) {
    if is_headless(spec) {
        let detail = format!("may not be set to 'None' for {} services", kind(spec));
        errors.push(FieldError::invalid(&path.child("clusterIPs").index(0), "None", detail));
    }
}

fn service_port(
    errors: &mut FieldErrors,
    path: &FieldPath,
    port: &ServicePort,
    named: bool,
    taken: &mut BTreeSet<String>,
) {
    let name = port.name.as_deref().unwrap_or_default();
    if name.is_empty() && named {
        errors.push(FieldError::required(&path.child("name"), ""));
    } else if !name.is_empty() {
        errors.push_invalid(&path.child("name"), name, names::is_dns1123_label(name));
        if !taken.insert(name.to_owned()) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
    }
    checks::port(errors, &path.child("port"), &IntOrString::Int(port.port));
    checks::protocol(errors, &path.child("protocol"), port.protocol.as_deref().unwrap_or_default());
    checks::port(errors, &path.child("targetPort"), port.target_port.as_ref().unwrap_or(&IntOrString::Int(port.port)));
    if let Some(protocol) = &port.app_protocol {
        errors.push_invalid(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
    }
}

fn affinity(errors: &mut FieldErrors, path: &FieldPath, spec: &ServiceSpec) {
    let affinity = spec.session_affinity.as_deref().unwrap_or_default();
    checks::required_one_of(errors, &path.child("sessionAffinity"), affinity, &["ClientIP", "None"]);
    let path = path.child("sessionAffinityConfig");
    match (affinity, &spec.session_affinity_config) {
        ("None", Some(_)) => errors.push(FieldError::forbidden(&path, "must not be set when session affinity is None")),
        ("ClientIP", None) => errors.push(FieldError::required(&path, "when session affinity type is ClientIP")),
        ("ClientIP", Some(config)) => {
            let seconds = config.client_ip.as_ref().and_then(|client| client.timeout_seconds).unwrap_or_default();
            if !(1..=MAX_AFFINITY_SECONDS).contains(&seconds) {
                let detail = format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
                errors.push(FieldError::invalid(&path.child("clientIP").child("timeoutSeconds"), seconds, detail));
            }
        }
        (_, Some(_) | None) => {}
    }
}

/// All errors of the addresses and their families; nothing of this is right or wrong for an external name.
pub fn cluster_ips(errors: &mut FieldErrors, path: &FieldPath, spec: &ServiceSpec) {
    let ips = spec.cluster_ips.as_deref().unwrap_or_default();
    let list = path.child("clusterIPs");
    match (spec.cluster_ip.as_deref().unwrap_or_default(), ips.first()) {
        ("", None) => {}
        ("", Some(_)) => {
            errors.push(FieldError::invalid(&list, ips, "must be empty when `clusterIP` is not specified"));
        }
        (_, None) => errors.push(FieldError::required(&list, "")),
        (ip, Some(first)) if ip == first => {}
        (_, Some(_)) => errors.push(FieldError::invalid(&list, ips, "first value must match `clusterIP`")),
    }
    let families = spec.ip_families.as_deref().unwrap_or_default();
    for (i, family) in families.iter().enumerate() {
        checks::one_of(errors, &path.child("ipFamilies").index(i), family, &["IPv4", "IPv6"]);
        if families[..i].contains(family) {
            errors.push(FieldError::duplicate(&path.child("ipFamilies").index(i), family));
        }
    }
    if let Some(policy) = &spec.ip_family_policy {
        let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        checks::one_of(errors, &path.child("ipFamilyPolicy"), policy, &policies);
    }
    if !addresses(errors, &list, ips) {
        return;
    }
    let second_family = ips.iter().filter(|ip| ip.contains(':')).count();
    if ips.len() > 1 && !(1..ips.len()).contains(&second_family) {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(&list, ips, detail));
    }
    for (i, (ip, family)) in ips.iter().zip(families).enumerate().filter(|_| !is_headless(spec)) {
        let found = if ip.contains(':') { "IPv6" } else { "IPv4" };
        if family != found && matches!(family.as_str(), "IPv4" | "IPv6") {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.push(FieldError::invalid(&list.index(i), ip, detail));
        }
    }
}

/// False where one of them is no address, or `None` where it can't be.
fn addresses(errors: &mut FieldErrors, list: &FieldPath, ips: &[String]) -> bool {
    let mut fine = true;
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && ip == "None" {
            if ips.len() > 1 {
                fine = false;
                errors.push(FieldError::invalid(list, ips, "'None' must be the first and only value"));
            }
            continue;
        }
        let before = errors.len();
        checks::ip(errors, &list.index(i), ip);
        fine &= errors.len() == before;
    }
    if ips.len() > 2 {
        errors.push(FieldError::invalid(list, ips, "may only hold up to 2 values"));
    }
    fine
}

fn duplicate_ports(errors: &mut FieldErrors, path: &FieldPath, spec: &ServiceSpec, ports: &[ServicePort]) {
    if kind(spec) == "ClusterIP" {
        for (i, _) in ports.iter().enumerate().filter(|(_, port)| port.node_port.unwrap_or_default() != 0) {
            let path = path.index(i).child("nodePort");
            errors.push(FieldError::forbidden(&path, "may not be used when `type` is 'ClusterIP'"));
        }
    }
    let mut node_ports = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let number = port.node_port.unwrap_or_default();
        if number != 0 && !node_ports.insert((&port.protocol, number)) {
            errors.push(FieldError::duplicate(&path.index(i).child("nodePort"), number));
        }
    }
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or_default();
        if !seen.insert((protocol, port.port)) {
            // Upstream shows its internal struct here, in its own order of fields.
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":\"{protocol}\",\"AppProtocol\":null,\"Port\":{},\"TargetPort\":0,\"NodePort\":0}}",
                port.port
            );
            errors.push(FieldError {
                kind: FieldErrorKind::Duplicate,
                path: path.index(i),
                value: None,
                detail: shown,
            });
        }
    }
}

fn source_ranges(
    errors: &mut FieldErrors,
    path: &FieldPath,
    spec: &ServiceSpec,
    annotation: Option<(FieldPath, &str)>,
) {
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    // Upstream's spelling.
    let path = path.child("LoadBalancerSourceRanges");
    if !ranges.is_empty() && kind(spec) != "LoadBalancer" {
        errors.push(FieldError::forbidden(&path, OF_BALANCERS));
    }
    for (i, range) in ranges.iter().enumerate() {
        checks::cidr(errors, &path.index(i), range.trim());
    }
    if let (Some((path, text)), true) = (annotation, ranges.is_empty()) {
        if kind(spec) != "LoadBalancer" {
            errors.push(FieldError::forbidden(&path, OF_BALANCERS));
        }
        for range in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
            checks::cidr(errors, &path, range.trim());
        }
    }
}

fn load_balancer_class(errors: &mut FieldErrors, path: &FieldPath, spec: &ServiceSpec) {
    let Some(class) = &spec.load_balancer_class else { return };
    let path = path.child("loadBalancerClass");
    if kind(spec) == "LoadBalancer" {
        errors.push_invalid(&path, class, names::qualified_name(class));
    } else {
        errors.push(FieldError::forbidden(&path, OF_BALANCERS));
    }
}

fn traffic_policies(errors: &mut FieldErrors, path: &FieldPath, spec: &ServiceSpec) {
    if spec.allocate_load_balancer_node_ports.is_some() && kind(spec) != "LoadBalancer" {
        errors.push(FieldError::forbidden(&path.child("allocateLoadBalancerNodePorts"), OF_BALANCERS));
    }
    load_balancer_class(errors, path, spec);
    let external = spec.external_traffic_policy.as_deref().unwrap_or_default();
    let field = path.child("externalTrafficPolicy");
    if !is_external(spec) && !external.is_empty() {
        errors.push(FieldError::invalid(&field, external, "may only be set for externally-accessible services"));
    } else if is_external(spec) {
        checks::required_one_of(errors, &field, external, &["Cluster", "Local"]);
    }
    let health = spec.health_check_node_port.unwrap_or_default();
    let health_path = path.child("healthCheckNodePort");
    if kind(spec) == "LoadBalancer" && external == "Local" {
        if health != 0 {
            checks::port(errors, &health_path, &IntOrString::Int(health));
        }
    } else if health != 0 {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid(&health_path, health, detail));
    }
    let field = path.child("internalTrafficPolicy");
    match spec.internal_traffic_policy.as_deref() {
        Some(policy) => checks::one_of(errors, &field, policy, &["Cluster", "Local"]),
        None if ["ClusterIP", "NodePort", "LoadBalancer"].contains(&kind(spec)) => {
            errors.push(FieldError::required(&field, ""))
        }
        None => {}
    }
    if let Some(distribution) = &spec.traffic_distribution {
        let known = ["PreferClose", "PreferSameNode", "PreferSameZone"];
        checks::one_of(errors, &path.child("trafficDistribution"), distribution, &known);
    }
}
