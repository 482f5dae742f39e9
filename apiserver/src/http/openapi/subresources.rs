//! The paths below an object. Entry point: [`paths`]; [`foreign`] names the kinds that subresources have of their own.

use super::definitions;
use super::names::{scoped, title};
use super::operation::{Answer, Body, Gvk, Operation, PathItem};
use super::operations::Resource;
use super::parameters::{self, Parameter};
use crate::resources::Subresource;

/// All methods that a proxy passes on.
const PROXIED: [&str; 7] = ["delete", "get", "head", "options", "patch", "post", "put"];

/// The paths of a resource's subresources; `object` is the path of the object.
pub fn paths(of: &Resource<'_>, object: &str) -> Vec<PathItem> {
    let mut items = Vec::new();
    for subresource in &of.info.subresources {
        let name = subresource.as_str();
        let path = format!("{object}/{name}");
        let operations = operations(of, *subresource);
        if *subresource == Subresource::Proxy {
            let mut below = operations.clone();
            for operation in &mut below {
                operation.id.push_str("WithPath");
                operation.parameters.push(parameters::REST);
            }
            items.push(of.item(format!("{path}/{{path}}"), below));
        }
        items.push(of.item(path, operations));
    }
    items
}

/// The kind of a subresource where it is not that of its parent: apiVersion and kind of a built-in type.
pub fn foreign(subresource: Subresource) -> Option<(&'static str, &'static str, &'static str)> {
    match subresource {
        Subresource::Scale => Some(("autoscaling", "v1", "Scale")),
        Subresource::Binding => Some(("", "v1", "Binding")),
        Subresource::Eviction => Some(("policy", "v1", "Eviction")),
        Subresource::Token => Some(("authentication.k8s.io", "v1", "TokenRequest")),
        Subresource::Status
        | Subresource::Finalize
        | Subresource::EphemeralContainers
        | Subresource::Resize
        | Subresource::Approval => None,
        Subresource::Log | Subresource::Exec | Subresource::Attach | Subresource::PortForward | Subresource::Proxy => {
            None
        }
    }
}

/// The full name of the type of a foreign kind.
pub fn type_name((group, version, kind): (&str, &str, &str)) -> String {
    if group.is_empty() { format!("{version}.{kind}") } else { format!("{group}/{version}.{kind}") }
}

fn operations(of: &Resource<'_>, subresource: Subresource) -> Vec<Operation> {
    let name = subresource.as_str();
    let own = &of.info.kind;
    match subresource {
        Subresource::Status | Subresource::EphemeralContainers | Subresource::Resize | Subresource::Approval => {
            named(own, objects(of, name, &["get", "patch", "put"]))
        }
        Subresource::Scale => as_foreign(subresource, objects(of, name, &["get", "patch", "put"])),
        Subresource::Finalize => named(own, objects(of, name, &["put"])),
        Subresource::Binding | Subresource::Eviction | Subresource::Token => {
            as_foreign(subresource, vec![create(of, name)])
        }
        Subresource::Log => vec![log(of)],
        Subresource::Exec => connect(of, name, "Exec", &["get", "post"], parameters::EXEC),
        Subresource::Attach => connect(of, name, "Attach", &["get", "post"], parameters::ATTACH),
        Subresource::PortForward => connect(of, name, "PortForward", &["get", "post"], parameters::PORT_FORWARD),
        Subresource::Proxy => connect(of, name, "Proxy", &PROXIED, parameters::PROXY),
    }
}

fn objects(of: &Resource<'_>, name: &str, methods: &[&'static str]) -> Vec<Operation> {
    methods.iter().map(|method| of.access(method, name)).collect()
}

fn named(kind: &str, mut operations: Vec<Operation>) -> Vec<Operation> {
    for operation in &mut operations {
        operation.parameters.push(parameters::name_of(kind));
    }
    operations
}

/// The operations speak of a kind of their own.
fn as_foreign(subresource: Subresource, mut operations: Vec<Operation>) -> Vec<Operation> {
    let Some(kind) = foreign(subresource) else { return operations };
    let definition = definitions::name_of(&type_name(kind));
    for operation in &mut operations {
        operation.kind = Some(Gvk::new(kind.0, kind.1, kind.2));
        operation.answer = Answer::Object(definition.clone());
        if let Body::Required(body) = &mut operation.body {
            body.clone_from(&definition);
        }
    }
    named(kind.2, operations)
}

fn create(of: &Resource<'_>, name: &str) -> Operation {
    let what = scoped(of.info) + &title(name);
    let mut operation = of.operation("post", "post", "create", &what, parameters::WRITE);
    operation.description = format!("create {name} of {}", super::names::with_article(&of.info.kind));
    operation.body = Body::Required(of.object.clone());
    operation
}

fn log(of: &Resource<'_>) -> Operation {
    let what = scoped(of.info) + "Log";
    let mut operation = of.operation("get", "get", "read", &what, parameters::LOG);
    operation.description = format!("read log of the specified {}", of.info.kind);
    operation.parameters.push(parameters::name_of(&of.info.kind));
    operation.answer = Answer::Text;
    operation.produces = &["text/plain", "application/json", "application/yaml"];
    operation
}

/// Streams and proxies: the kind is that of the options in the query.
fn connect(
    of: &Resource<'_>,
    name: &str,
    options: &str,
    methods: &[&'static str],
    own: &'static [Parameter],
) -> Vec<Operation> {
    let kind = format!("{}{options}Options", of.info.kind);
    let operation = |method: &&'static str| {
        let what = format!("{}{}{}", title(method), scoped(of.info), title(name));
        let mut operation = of.operation(method, "connect", "", "", own);
        operation.id = of.operation_id("connect", &what);
        operation.description = format!("connect {} requests to {name} of {}", method.to_uppercase(), of.info.kind);
        operation.kind = Some(Gvk::new(&of.info.group, &of.info.version, &kind));
        operation.parameters.retain(|parameter| *parameter != parameters::PRETTY);
        operation.parameters.push(parameters::name_of(&kind));
        operation.answer = Answer::Text;
        operation.produces = &["*/*"];
        operation
    };
    methods.iter().map(operation).collect()
}
