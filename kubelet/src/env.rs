//! The environment of a container.
//!
//! Entry: [`environment`]; [`expand`] also serves commands, arguments and `subPathExpr`. Invariants: pure; a later
//! definition of a name replaces an earlier one; service variables never replace what the pod defines.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret, Service};

use crate::downward::{self, NodeFacts};

/// Why an environment cannot be made; the words are what CreateContainerConfigError shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    #[error("configmap \"{0}\" not found")]
    NoConfigMap(String),
    #[error("secret \"{0}\" not found")]
    NoSecret(String),
    #[error("couldn't find key {key} in ConfigMap {namespace}/{name}")]
    NoConfigMapKey { namespace: String, name: String, key: String },
    #[error("couldn't find key {key} in Secret {namespace}/{name}")]
    NoSecretKey { namespace: String, name: String, key: String },
    #[error(transparent)]
    Downward(#[from] downward::DownwardError),
}

/// The objects that a pod refers to, by name, as far as they exist.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    pub secrets: BTreeMap<String, Arc<Secret>>,
}

/// What an environment is made of, besides the container.
pub struct Context<'a> {
    pub pod: &'a Pod,
    pub node: &'a NodeFacts,
    pub pod_ips: &'a [String],
    pub objects: &'a Objects,
    /// Variables of services, in order.
    pub services: &'a BTreeMap<String, String>,
}

/// Name and value of every variable.
pub fn environment(context: &Context, container: &Container) -> Result<Vec<(String, String)>, EnvError> {
    let mut result: Vec<(String, String)> = Vec::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(source) = &from.config_map_ref {
            let optional = source.optional.unwrap_or(false);
            for (key, value) in config_map(context, &source.name, optional)? {
                set(&mut result, format!("{prefix}{key}"), value);
            }
        }
        if let Some(source) = &from.secret_ref {
            let optional = source.optional.unwrap_or(false);
            for (key, value) in secret(context, &source.name, optional)? {
                set(&mut result, format!("{prefix}{key}"), value);
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(text), _) if !text.is_empty() => {
                expand(text, |name| lookup(&result, name).or_else(|| context.services.get(name).cloned()))
            }
            (_, Some(source)) => match referenced(context, container, source)? {
                Some(value) => value,
                None => continue,
            },
            (Some(_) | None, None) => String::new(),
        };
        set(&mut result, variable.name.clone(), value);
    }
    for (name, value) in context.services {
        if lookup(&result, name).is_none() {
            result.push((name.clone(), value.clone()));
        }
    }
    Ok(result)
}

fn set(all: &mut Vec<(String, String)>, name: String, value: String) {
    match all.iter_mut().find(|(known, _)| *known == name) {
        Some(entry) => entry.1 = value,
        None => all.push((name, value)),
    }
}

fn lookup(all: &[(String, String)], name: &str) -> Option<String> {
    all.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

fn config_map(context: &Context, name: &str, optional: bool) -> Result<BTreeMap<String, String>, EnvError> {
    match context.objects.config_maps.get(name) {
        Some(found) => Ok(found.data.clone().unwrap_or_default()),
        None if optional => Ok(BTreeMap::new()),
        None => Err(EnvError::NoConfigMap(name.to_owned())),
    }
}

fn secret(context: &Context, name: &str, optional: bool) -> Result<BTreeMap<String, String>, EnvError> {
    match context.objects.secrets.get(name) {
        Some(found) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Ok(found.data.iter().flatten().map(|(key, value)| (key.clone(), text(&value.0))).collect())
        }
        None if optional => Ok(BTreeMap::new()),
        None => Err(EnvError::NoSecret(name.to_owned())),
    }
}

/// The value behind a `valueFrom`; `None` if it is optional and absent.
fn referenced(context: &Context, owner: &Container, source: &EnvVarSource) -> Result<Option<String>, EnvError> {
    let namespace = || context.pod.metadata.namespace.clone().unwrap_or_default();
    if let Some(selector) = &source.field_ref {
        return Ok(Some(downward::field(context.pod, context.node, context.pod_ips, &selector.field_path)?));
    }
    if let Some(selector) = &source.resource_field_ref {
        return Ok(Some(downward::resource(context.pod, context.node, Some(owner), selector)?));
    }
    if let Some(selector) = &source.config_map_key_ref {
        let optional = selector.optional.unwrap_or(false);
        let (name, key) = (selector.name.clone(), selector.key.clone());
        let found = config_map(context, &name, optional)?.remove(&key);
        return match found {
            None if !optional => Err(EnvError::NoConfigMapKey { namespace: namespace(), name, key }),
            found => Ok(found),
        };
    }
    if let Some(selector) = &source.secret_key_ref {
        let optional = selector.optional.unwrap_or(false);
        let (name, key) = (selector.name.clone(), selector.key.clone());
        let found = secret(context, &name, optional)?.remove(&key);
        return match found {
            None if !optional => Err(EnvError::NoSecretKey { namespace: namespace(), name, key }),
            found => Ok(found),
        };
    }
    Ok(Some(String::new()))
}

/// Replaces `$(NAME)` by its value where there is one; `$$` stands for `$`; everything else stays.
pub fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('$') {
        result.push_str(&rest[..position]);
        let after = &rest[position + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            result.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match value(name) {
                Some(value) => result.push_str(&value),
                None => result.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

/// The variables that tell a pod where services are: the API server's for every pod, those of its own namespace
/// if `links`.
pub fn service_variables(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let named = |service: &Service, ns: &str, name: &str| {
        service.metadata.namespace.as_deref() == Some(ns) && service.metadata.name.as_deref() == Some(name)
    };
    let master = services.iter().filter(|service| named(service, "default", "kubernetes"));
    let own = services.iter().filter(|s| links && s.metadata.namespace.as_deref() == Some(namespace));
    for service in master.chain(own) {
        add_service(&mut variables, service);
    }
    variables
}

/// The names that Kubernetes took over from docker's links.
fn add_service(variables: &mut BTreeMap<String, String>, service: &Service) {
    let Some(spec) = &service.spec else { return };
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return };
    if ip.is_empty() || ip == "None" {
        return;
    }
    let shout = |text: &str| text.to_uppercase().replace('-', "_");
    let name = shout(service.metadata.name.as_deref().unwrap_or_default());
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    variables.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
    variables.insert(format!("{name}_SERVICE_PORT"), first.port.to_string());
    for (index, port) in ports.iter().enumerate() {
        if let Some(port_name) = port.name.as_deref().filter(|text| !text.is_empty()) {
            variables.insert(format!("{name}_SERVICE_PORT_{}", shout(port_name)), port.port.to_string());
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            variables.insert(format!("{name}_PORT"), url.clone());
        }
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_uppercase());
        variables.insert(prefix.clone(), url);
        variables.insert(format!("{prefix}_PROTO"), protocol.to_lowercase());
        variables.insert(format!("{prefix}_PORT"), port.port.to_string());
        variables.insert(format!("{prefix}_ADDR"), ip.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expansion() {
        let value = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("plain", "plain"),
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(NONE)", "$(NONE)"),
            ("$(EMPTY)", ""),
            ("$(A", "$(A"),
            ("$A $", "$A $"),
        ] {
            assert_eq!(expand(text, value), expected, "{text}");
        }
    }

    #[test]
    fn order_and_sources() {
        let container: Container = serde_json::from_value(json!({"name": "c", "image": "i",
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}],
        "env": [
            {"name": "ONE", "value": "1"},
            {"name": "TWO", "value": "$(ONE)-$(P_k)-$(KUBERNETES_SERVICE_HOST)-$(LATER)"},
            {"name": "LATER", "value": "x"},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "GONE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "no", "optional": true}}},
            {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
        ]}))
        .expect("a container");
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"}})).expect("a pod");
        let mut objects = Objects::default();
        let cm = serde_json::from_value(json!({"data": {"k": "v"}})).expect("a config map");
        objects.config_maps.insert("cm".into(), Arc::new(cm));
        let secret = serde_json::from_value(json!({"data": {"k": "c2VjcmV0"}})).expect("a secret");
        objects.secrets.insert("s".into(), Arc::new(secret));
        let services = [("KUBERNETES_SERVICE_HOST".to_owned(), "10.96.0.1".to_owned())].into();
        let node = NodeFacts::default();
        let context = Context { pod: &pod, node: &node, pod_ips: &[], objects: &objects, services: &services };
        let result = environment(&context, &container).expect("an environment");
        let lines: Vec<_> = result.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            lines,
            [
                "P_k=v",
                "ONE=1",
                "TWO=1-v-10.96.0.1-$(LATER)",
                "LATER=x",
                "KEY=secret",
                "ME=p",
                "KUBERNETES_SERVICE_HOST=10.96.0.1"
            ]
        );
        objects.secrets.clear();
        let context = Context { pod: &pod, node: &node, pod_ips: &[], objects: &objects, services: &services };
        let error = environment(&context, &container).expect_err("the secret is missing");
        assert_eq!(error.to_string(), "secret \"s\" not found");
    }

    #[test]
    fn services() {
        let service = |ns: &str, name: &str, ip: &str| {
            let ports = json!([{"name": "http-x", "port": 80, "protocol": "TCP"}]);
            let value = json!({"metadata": {"name": name, "namespace": ns}, "spec": {"clusterIP": ip, "ports": ports}});
            Arc::new(serde_json::from_value(value).expect("a service"))
        };
        let all = [
            service("default", "kubernetes", "10.96.0.1"),
            service("ns", "my-db", "10.96.0.9"),
            service("ns", "headless", "None"),
            service("other", "foreign", "10.96.0.8"),
        ];
        let variables = service_variables(&all, "ns", true);
        let lines: Vec<_> = variables.iter().filter(|(name, _)| name.starts_with("MY_DB")).collect();
        let expected = [
            ("MY_DB_PORT", "tcp://10.96.0.9:80"),
            ("MY_DB_PORT_80_TCP", "tcp://10.96.0.9:80"),
            ("MY_DB_PORT_80_TCP_ADDR", "10.96.0.9"),
            ("MY_DB_PORT_80_TCP_PORT", "80"),
            ("MY_DB_PORT_80_TCP_PROTO", "tcp"),
            ("MY_DB_SERVICE_HOST", "10.96.0.9"),
            ("MY_DB_SERVICE_PORT", "80"),
            ("MY_DB_SERVICE_PORT_HTTP_X", "80"),
        ];
        assert_eq!(lines.len(), expected.len());
        for ((name, value), (expected_name, expected_value)) in lines.into_iter().zip(expected) {
            assert_eq!((name.as_str(), value.as_str()), (expected_name, expected_value));
        }
        assert!(variables.contains_key("KUBERNETES_SERVICE_HOST") && !variables.contains_key("HEADLESS_SERVICE_HOST"));
        assert!(!variables.contains_key("FOREIGN_SERVICE_HOST"));
        assert!(!service_variables(&all, "ns", false).contains_key("MY_DB_SERVICE_HOST"));
    }
}
