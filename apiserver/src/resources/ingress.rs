//! Ingress and IngressClass: HTTP from outside, by host and path.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress as Object, IngressBackend, IngressClass as ClassObject, IngressClassParametersReference,
    IngressRule, IngressSpec,
};
use k8s_openapi::api::networking::v1::{IngressLoadBalancerStatus, IngressStatus};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks};

/// The class of an ingress, before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const MAX_CONTROLLER: usize = 250;

/// Rules.
pub struct Ingress;
/// Who carries out the rules.
pub struct IngressClass;

impl Kind for Ingress {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["ing"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: bool = true;

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(IngressStatus { load_balancer: Some(IngressLoadBalancerStatus::default()) });
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let spec = object.spec.clone().unwrap_or_default();
        validate_spec(&mut errors, &FieldPath::root("spec"), &spec);
        let annotated = object.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION));
        if let (Some(annotated), Some(class)) = (annotated, &spec.ingress_class_name)
            && annotated != class
        {
            let detail = "must match `ingressClassName` when both are specified";
            errors.push(FieldError::invalid(
                &FieldPath::root("annotations").child(CLASS_ANNOTATION),
                annotated,
                detail,
            ));
        }
        errors
    }

    fn validate_update(new: &Object, _old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_spec(&mut errors, &FieldPath::root("spec"), &new.spec.clone().unwrap_or_default());
        errors
    }

    fn validate_status_update(new: &Object, _old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let balancer = new.status.as_ref().and_then(|status| status.load_balancer.clone()).unwrap_or_default();
        for (i, point) in balancer.ingress.iter().flatten().enumerate() {
            let path = FieldPath::root("status").child("loadBalancer").child("ingress").index(i);
            if let Some(ip) = point.ip.as_deref().filter(|ip| !ip.is_empty()) {
                checks::ip(&mut errors, &path.child("ip"), ip);
            }
            if let Some(host) = point.hostname.as_deref().filter(|host| !host.is_empty()) {
                let path = path.child("hostname");
                errors.push_invalid(&path, host, names::is_dns1123_subdomain(host));
                no_address(&mut errors, &path, host);
            }
        }
        errors
    }

    fn warnings(new: &Object, old: Option<&Object>) -> Vec<String> {
        let annotated = new.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(CLASS_ANNOTATION));
        let named = new.spec.as_ref().is_some_and(|spec| spec.ingress_class_name.is_some());
        let warning =
            format!("annotation \"{CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead");
        if old.is_none() && annotated && !named { vec![warning] } else { Vec::new() }
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text(
                "Class",
                "The name of the IngressClass resource that should be used for additional configuration",
            ),
            printing::text("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
            printing::text("Address", "Address is a list containing ingress points for the load-balancer"),
            printing::text("Ports", "Ports of TLS configurations that open"),
            AGE,
        ];
        Columns {
            columns,
            cells: |object, now| {
                let spec = object.spec.clone().unwrap_or_default();
                let tls = spec.tls.as_ref().is_some_and(|tls| !tls.is_empty());
                let balancer =
                    object.status.as_ref().and_then(|status| status.load_balancer.clone()).unwrap_or_default();
                let point = |p: &k8s_openapi::api::networking::v1::IngressLoadBalancerIngress| {
                    p.ip.clone().filter(|ip| !ip.is_empty()).or_else(|| p.hostname.clone())
                };
                let points: std::collections::BTreeSet<String> =
                    balancer.ingress.iter().flatten().filter_map(point).collect();
                vec![
                    printing::name(&object.metadata),
                    Value::from(spec.ingress_class_name.clone().unwrap_or_else(|| "<none>".to_owned())),
                    Value::from(hosts(&spec)),
                    Value::from(points.into_iter().collect::<Vec<_>>().join(",")),
                    Value::from(if tls { "80, 443" } else { "80" }),
                    printing::age(&object.metadata, now),
                ]
            },
        }
    }
}

impl Kind for IngressClass {
    type Object = ClassObject;
    const GENERATION: bool = true;

    fn set_defaults(object: &mut ClassObject) {
        if let Some(parameters) = object.spec.as_mut().and_then(|spec| spec.parameters.as_mut()) {
            parameters.scope.get_or_insert_with(|| "Cluster".to_owned());
        }
    }

    fn validate(object: &ClassObject) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("spec");
        let spec = object.spec.clone().unwrap_or_default();
        match spec.controller.as_deref().unwrap_or_default() {
            "" => errors.push(FieldError::required(&path.child("controller"), "")),
            controller => {
                if controller.len() > MAX_CONTROLLER {
                    errors.push(FieldError::too_long(&path.child("controller"), MAX_CONTROLLER));
                }
                checks::domain_prefixed_path(&mut errors, &path.child("controller"), controller);
            }
        }
        if let Some(parameters) = &spec.parameters {
            validate_parameters(&mut errors, &path.child("parameters"), parameters);
        }
        errors
    }

    fn validate_update(new: &ClassObject, old: &ClassObject) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let controller =
            |object: &ClassObject| object.spec.as_ref().and_then(|spec| spec.controller.clone()).unwrap_or_default();
        let path = FieldPath::root("spec").child("controller");
        checks::immutable(&mut errors, &path, &controller(new), &controller(old));
        errors.extend(Self::validate(new));
        errors
    }

    fn columns() -> Columns<ClassObject> {
        let columns = vec![
            NAME,
            printing::text("Controller", "Controller that is responsible for handling this class"),
            printing::text("Parameters", "A reference to a resource with additional parameters"),
            AGE,
        ];
        Columns {
            columns,
            cells: |object, now| {
                let spec = object.spec.clone().unwrap_or_default();
                let parameters = spec.parameters.map_or("<none>".to_owned(), |parameters| {
                    let group = parameters.api_group.map(|group| format!(".{group}")).unwrap_or_default();
                    format!("{}{group}/{}", parameters.kind, parameters.name)
                });
                let controller = spec.controller.unwrap_or_default();
                vec![
                    printing::name(&object.metadata),
                    Value::from(controller),
                    Value::from(parameters),
                    printing::age(&object.metadata, now),
                ]
            },
        }
    }
}

fn hosts(spec: &IngressSpec) -> String {
    const SHOWN: usize = 3;
    let rules = spec.rules.as_deref().unwrap_or_default();
    let named = |(i, rule): (usize, &IngressRule)| Some((i, rule.host.clone().filter(|host| !host.is_empty())?));
    let shown: Vec<(usize, String)> = rules.iter().enumerate().filter_map(named).take(SHOWN).collect();
    let Some((last, _)) = shown.last() else { return "*".to_owned() };
    let text = shown.iter().map(|(_, host)| host.as_str()).collect::<Vec<_>>().join(",");
    // What is not shown counts by rules, whether they name a host or not.
    match rules.len() {
        count if shown.len() == SHOWN && count > last + 1 => format!("{text} + {} more...", count - SHOWN),
        _ => text,
    }
}

fn validate_spec(errors: &mut FieldErrors, path: &FieldPath, spec: &IngressSpec) {
    let rules = spec.rules.as_deref().unwrap_or_default();
    if let Some(backend) = &spec.default_backend {
        validate_backend(errors, &path.child("defaultBackend"), backend);
    } else if rules.is_empty() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(path, &spec.rules, detail));
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = path.child("rules").index(i);
        if let Some(host) = rule.host.as_deref().filter(|host| !host.is_empty()) {
            host_name(errors, &path.child("host"), host);
        }
        let Some(http) = &rule.http else { continue };
        let path = path.child("http").child("paths");
        if http.paths.is_empty() {
            errors.push(FieldError::required(&path, ""));
        }
        for (i, found) in http.paths.iter().enumerate() {
            validate_path(errors, &path.index(i), found);
        }
    }
    for (i, tls) in spec.tls.iter().flatten().enumerate() {
        for (j, host) in tls.hosts.iter().flatten().enumerate() {
            wildcard_or_name(errors, &path.child("tls").index(i).child("hosts").index(j), host);
        }
        if let Some(secret) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) {
            let path = path.child("tls").index(i).child("secretName");
            errors.push_invalid(&path, secret, names::is_dns1123_subdomain(secret));
        }
    }
    if let Some(class) = &spec.ingress_class_name {
        errors.push_invalid(&path.child("ingressClassName"), class, names::is_dns1123_subdomain(class));
    }
}

fn host_name(errors: &mut FieldErrors, path: &FieldPath, host: &str) {
    no_address(errors, path, host);
    wildcard_or_name(errors, path, host);
}

fn no_address(errors: &mut FieldErrors, path: &FieldPath, host: &str) {
    if names::ip_address(host).is_empty() {
        errors.push(FieldError::invalid(path, host, "must be a DNS name, not an IP address"));
    }
}

/// An object with the details of an IngressClass, in the cluster or in a namespace.
fn validate_parameters(errors: &mut FieldErrors, path: &FieldPath, parameters: &IngressClassParametersReference) {
    reference(errors, path, parameters.api_group.as_deref(), &parameters.kind, &parameters.name);
    let namespace_path = path.child("namespace");
    match (parameters.scope.as_deref(), &parameters.namespace) {
        (None, _) => errors.push(FieldError::required(&path.child("scope"), "")),
        (Some("Namespace"), None) => {
            errors.push(FieldError::required(&namespace_path, "`parameters.scope` is set to 'Namespace'"));
        }
        (Some("Namespace"), Some(namespace)) => {
            errors.push_invalid(&namespace_path, namespace, names::is_dns1123_label(namespace));
        }
        (Some("Cluster"), Some(_)) => {
            errors.push(FieldError::forbidden(&namespace_path, "`parameters.scope` is set to 'Cluster'"));
        }
        (Some("Cluster"), None) => {}
        (Some(other), _) => {
            errors.push(checks::unsupported(&path.child("scope"), other, &["Cluster", "Namespace"]));
        }
    }
}

fn reference(errors: &mut FieldErrors, path: &FieldPath, group: Option<&str>, kind: &str, name: &str) {
    if let Some(group) = group {
        errors.push_invalid(&path.child("apiGroup"), group, names::is_dns1123_subdomain(group));
    }
    for (field, value) in [("kind", kind), ("name", name)] {
        let path = path.child(field);
        match value {
            "" => errors.push(FieldError::required(&path, "")),
            value => errors.push_invalid(&path, value, names::path_segment(value)),
        }
    }
}

fn wildcard_or_name(errors: &mut FieldErrors, path: &FieldPath, host: &str) {
    if !host.contains('*') {
        errors.push_invalid(path, host, names::is_dns1123_subdomain(host));
        return;
    }
    const MAX_HOST: usize = 253;
    if host.len() > MAX_HOST {
        errors.push(FieldError::invalid(path, host, format!("must be no more than {MAX_HOST} characters")));
    }
    let domain = host.strip_prefix("*.").unwrap_or_default();
    if !names::is_dns1123_subdomain(domain).is_empty() {
        let detail = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
        errors.push(FieldError::invalid(path, host, detail));
    }
}

fn validate_path(errors: &mut FieldErrors, path: &FieldPath, found: &HTTPIngressPath) {
    const INVALID: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
    let value = found.path.as_deref().unwrap_or_default();
    match found.path_type.as_str() {
        "" => {
            errors.push(FieldError::required(&path.child("pathType"), "pathType must be specified"));
            return;
        }
        "Exact" | "Prefix" => {
            if !value.starts_with('/') {
                errors.push(FieldError::invalid(&path.child("path"), value, "must be an absolute path"));
            }
            for part in INVALID.iter().filter(|part| value.contains(**part)) {
                errors.push(FieldError::invalid(&path.child("path"), value, format!("must not contain '{part}'")));
            }
            for end in ["/..", "/."].iter().filter(|end| value.ends_with(**end)) {
                errors.push(FieldError::invalid(&path.child("path"), value, format!("cannot end with '{end}'")));
            }
        }
        "ImplementationSpecific" if !value.is_empty() && !value.starts_with('/') => {
            errors.push(FieldError::invalid(&path.child("path"), value, "must be an absolute path"));
        }
        "ImplementationSpecific" => {}
        other => {
            errors.push(checks::unsupported(
                &path.child("pathType"),
                other,
                &["Exact", "ImplementationSpecific", "Prefix"],
            ));
        }
    }
    validate_backend(errors, &path.child("backend"), &found.backend);
}

fn validate_backend(errors: &mut FieldErrors, path: &FieldPath, backend: &IngressBackend) {
    match (&backend.service, &backend.resource) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::invalid(path, "", "cannot set both resource and service backends"))
        }
        (None, Some(resource)) => {
            let group = resource.api_group.as_deref();
            reference(errors, &path.child("resource"), group, &resource.kind, &resource.name);
        }
        (None, None) => errors.push(FieldError::invalid(path, "", "resource or service backend is required")),
        (Some(service), None) => {
            let name_path = path.child("service").child("name");
            if service.name.is_empty() {
                errors.push(FieldError::required(&name_path, ""));
            } else {
                errors.push_invalid(&name_path, &service.name, names::is_dns1123_label(&service.name));
            }
            let port = service.port.clone().unwrap_or_default();
            let (name, number) = (port.name.unwrap_or_default(), port.number.unwrap_or_default());
            let port_path = path.child("service").child("port");
            match (name.is_empty(), number) {
                (false, number) if number != 0 => {
                    errors.push(FieldError::invalid(path, "", "cannot set both port name & port number"))
                }
                (false, _) => errors.push_invalid(&port_path.child("name"), &name, names::port_name(&name)),
                (true, 0) => errors.push(FieldError::required(path, "port name or number is required")),
                (true, number) => checks::port(errors, &port_path.child("number"), &IntOrString::Int(number)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(spec: Value) -> String {
        let object: Object = serde_json::from_value(json!({"spec": spec})).expect("an ingress");
        Ingress::validate(&object).to_string()
    }

    fn rule(host: &str, path: Value) -> Value {
        let mut path = path;
        path["backend"] = json!({"service": {"name": "s", "port": {"number": 80}}});
        json!({"rules": [{"host": host, "http": {"paths": [path]}}]})
    }

    #[test]
    fn what_is_refused() {
        let table = [
            (json!({}), "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"),
            (
                rule("a.example.org", json!({"path": "x", "pathType": "Prefix"})),
                "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path",
            ),
            (
                rule("", json!({"path": "/"})),
                "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
            ),
            (
                rule("1.2.3.4", json!({"path": "/", "pathType": "Prefix"})),
                "spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
            ),
            (rule("*.example.org", json!({"path": "/", "pathType": "Exact"})), "[]"),
            (
                rule("a.b", json!({"path": "/", "pathType": "Guess"})),
                "spec.rules[0].http.paths[0].pathType: Unsupported value: \"Guess\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
            ),
            (
                json!({"defaultBackend": {"service": {"name": "s", "port": {"number": 80, "name": "http"}}}}),
                "spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number",
            ),
            (
                json!({"defaultBackend": {}}),
                "spec.defaultBackend: Invalid value: \"\": resource or service backend is required",
            ),
            (
                json!({"defaultBackend": {"resource": {"kind": "a/b", "name": ""}}}),
                "[spec.defaultBackend.resource.kind: Invalid value: \"a/b\": may not contain '/', spec.defaultBackend.resource.name: Required value]",
            ),
            (
                rule("a.b", json!({"path": "/x/..", "pathType": "Exact"})),
                "spec.rules[0].http.paths[0].path: Invalid value: \"/x/..\": cannot end with '/..'",
            ),
        ];
        for (spec, message) in table {
            assert_eq!(found(spec), message);
        }
    }

    #[test]
    fn the_annotation_of_the_class_is_old() {
        let meta = json!({"annotations": {"kubernetes.io/ingress.class": "a"}});
        let object: Object = serde_json::from_value(json!({"metadata": meta, "spec": {}})).expect("an ingress");
        let warning =
            "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead";
        assert_eq!(Ingress::warnings(&object, None), [warning]);
        assert!(Ingress::warnings(&object, Some(&object)).is_empty());
        let mut named = object;
        named.spec.as_mut().expect("a spec").ingress_class_name = Some("a".to_owned());
        assert!(Ingress::warnings(&named, None).is_empty());
    }

    #[test]
    fn hosts_are_told_up_to_three() {
        let table = [
            (json!([{}]), "*"),
            (json!([{"host": "a"}, {}, {"host": "b"}]), "a,b"),
            (json!([{"host": "a"}, {"host": "b"}, {"host": "c"}]), "a,b,c"),
            (json!([{"host": "a"}, {}, {"host": "b"}, {"host": "c"}, {"host": "d"}]), "a,b,c + 2 more..."),
        ];
        for (rules, text) in table {
            let spec: IngressSpec = serde_json::from_value(json!({"rules": rules})).expect("a spec");
            assert_eq!(hosts(&spec), text);
        }
    }

    #[test]
    fn classes_and_their_parameters() {
        let parameters = |scope: &str, namespace: Value| {
            let reference = json!({"kind": "K", "name": "n", "scope": scope, "namespace": namespace});
            json!({"controller": "example.org/a", "parameters": reference})
        };
        let prefixed =
            "spec.controller: Invalid value: \"a\": must be a domain-prefixed path (such as \"acme.io/foo\")";
        let table = [
            (parameters("Cluster", Value::Null), "[]"),
            (json!({"controller": "example.org/a", "parameters": {"kind": "K", "name": "n"}}), "[]"),
            (parameters("Namespace", json!("ns")), "[]"),
            (
                parameters("Namespace", Value::Null),
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ),
            (
                parameters("Cluster", json!("ns")),
                "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
            ),
            (json!({"controller": "a"}), prefixed),
            (
                json!({"controller": "example.org/a b"}),
                "spec.controller: Invalid value: \"a b\": Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
            ),
        ];
        for (spec, message) in table {
            let mut object: ClassObject = serde_json::from_value(json!({"spec": spec})).expect("a class");
            IngressClass::set_defaults(&mut object);
            assert_eq!(IngressClass::validate(&object).to_string(), message);
        }
    }
}
