//! Service: ports behind one address. Which fields make sense depends on the type; a change of type drops what no longer does.
//! Addresses and node ports are given out by the allocator, not here.

mod columns;
pub(crate) mod families;
mod update;
mod validate;
mod warnings;

use api::field::{FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{
    ClientIPConfig, LoadBalancerStatus, Service as Object, ServiceSpec, ServiceStatus, SessionAffinityConfig,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Columns, Kind, MetadataCheck, Subresource, name_or_prefix};

/// See the module.
pub struct Service;

const AFFINITY_SECONDS: i32 = 3 * 60 * 60;

impl Kind for Service {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["svc"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Proxy, Subresource::Status];
    const FIELDS: &'static [(&'static str, &'static [&'static str])] =
        &[("spec.clusterIP", &["/spec/clusterIP"]), ("spec.type", &["/spec/type"])];
    const CREATE_ON_UPDATE: bool = true;
    const RETURNS_DELETED: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Change, MetadataCheck::Whole];

    fn set_defaults(object: &mut Object) {
        spec_defaults(object.spec.get_or_insert_default());
        let ingress = object
            .status
            .iter_mut()
            .filter_map(|status| status.load_balancer.as_mut())
            .filter_map(|lb| lb.ingress.as_mut());
        for point in ingress.flatten() {
            if point.ip.as_ref().is_some_and(|ip| !ip.is_empty()) {
                point.ip_mode.get_or_insert_with(|| "VIP".to_owned());
            }
        }
    }

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(ServiceStatus { load_balancer: Some(LoadBalancerStatus::default()), conditions: None });
        let spec = object.spec.get_or_insert_default();
        if let Some(ip) = spec.cluster_ip.clone().filter(|ip| !ip.is_empty())
            && spec.cluster_ips.as_ref().is_none_or(Vec::is_empty)
        {
            spec.cluster_ips = Some(vec![ip]);
        }
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
        let empty = ServiceSpec::default();
        let (spec, before) = (new.spec.get_or_insert_default(), old.spec.as_ref().unwrap_or(&empty));
        update::keep_what_was_allocated(spec, before);
        update::agree_on_cluster_ips(spec, before);
        update::drop_what_the_type_forbids(spec, before);
        if kind(spec) != "LoadBalancer"
            && let Some(status) = &mut new.status
        {
            status.load_balancer = Some(LoadBalancerStatus::default());
        }
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate::whole(&mut errors, object);
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (now, before) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        validate::change(&mut errors, &FieldPath::root("spec"), &now, &before);
        validate::whole(&mut errors, new);
        errors
    }

    fn validate_status_update(new: &Object, _old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let status = new.status.as_ref().and_then(|status| status.load_balancer.clone()).unwrap_or_default();
        let spec = new.spec.clone().unwrap_or_default();
        validate::load_balancer(&mut errors, &FieldPath::root("status").child("loadBalancer"), &status, &spec);
        errors
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        name_or_prefix(names::is_dns1123_label, name, prefix)
    }

    fn columns() -> Columns<Object> {
        columns::columns()
    }

    fn warnings(new: &Object, _old: Option<&Object>) -> Vec<String> {
        warnings::warnings(new)
    }
}

fn spec_defaults(spec: &mut ServiceSpec) {
    default(&mut spec.session_affinity, "None");
    match spec.session_affinity.as_deref() {
        Some("None") => spec.session_affinity_config = None,
        Some("ClientIP") => {
            let config: &mut SessionAffinityConfig = spec.session_affinity_config.get_or_insert_default();
            let client: &mut ClientIPConfig = config.client_ip.get_or_insert_default();
            client.timeout_seconds.get_or_insert(AFFINITY_SECONDS);
        }
        Some(_) | None => {}
    }
    default(&mut spec.type_, "ClusterIP");
    for port in spec.ports.iter_mut().flatten() {
        default(&mut port.protocol, "TCP");
        let unset = match &port.target_port {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(name)) => name.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    let kind = spec.type_.as_deref().unwrap_or_default();
    if is_external(spec) && spec.external_traffic_policy.as_deref().unwrap_or_default().is_empty() {
        spec.external_traffic_policy = Some("Cluster".to_owned());
    }
    if kind == "LoadBalancer" {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
    if kind != "ExternalName" {
        spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
}

fn default(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(value.to_owned());
    }
}

fn kind(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or_default()
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ips
        .as_ref()
        .and_then(|ips| ips.first())
        .map_or(spec.cluster_ip.as_deref() == Some("None"), |ip| ip == "None")
}

/// Whether clients outside of the cluster can reach it.
fn is_external(spec: &ServiceSpec) -> bool {
    match kind(spec) {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
