//! What can be done with a resource. Entry point: [`of_resource`].
//!
//! Pure: a function of the row. Invariant: the paths, operation names and kinds are upstream's, as clients are generated from them
//! and kubectl finds the operations of a kind by `x-kubernetes-group-version-kind`.

use super::definitions::{self, DELETE_OPTIONS, STATUS, WATCH_EVENT};
use super::names::{self, Naming, scoped, title, with_article};
use super::operation::{Answer, Body, Gvk, LIST, OBJECT, Operation, PathItem};
use super::parameters::{self, NAMESPACE, PRETTY, Parameter};
use super::subresources;
use crate::resources::{ResourceInfo, Strategy};

const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const PATCHES_OF_CUSTOM: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

/// The paths of one resource.
pub fn of_resource(row: &dyn Strategy) -> Vec<PathItem> {
    let of = Resource::new(row);
    let mut items = Vec::new();
    let collection = of.collection();
    if of.info.namespaced && of.info.stored {
        items.push(of.item(format!("{}/{}", of.root, of.info.plural), vec![of.list(Scope::AllNamespaces)]));
    }
    if row.computed() {
        items.push(of.item(collection.clone(), vec![of.list(Scope::Own)]));
        items.push(of.item(format!("{collection}/{{name}}"), vec![of.get()]));
        return items;
    }
    items.push(of.item(collection.clone(), of.collection_operations(row)));
    if of.info.stored {
        let object = format!("{collection}/{{name}}");
        items.push(of.item(object.clone(), of.object_operations(row)));
        items.extend(subresources::paths(&of, &object));
        items.extend(of.watches());
    } else {
        items.extend(subresources::paths(&of, &format!("{collection}/{{name}}")));
    }
    items
}

/// Whose objects a list shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Own,
    AllNamespaces,
}

/// A resource and how its operations are called.
pub struct Resource<'a> {
    /// Names and scope.
    pub info: &'a ResourceInfo,
    naming: Naming,
    root: String,
    /// The definition of its objects.
    pub object: String,
    patches: &'static [&'static str],
}

/// The definition of the objects of a row.
pub fn definition(row: &dyn Strategy) -> String {
    let info = row.info();
    match row.custom_schema() {
        Some(_) => names::definition(&info.group, &info.version, &info.kind),
        None => definitions::name_of(&format!("{}.{}", info.api_version(), info.kind)),
    }
}

impl<'a> Resource<'a> {
    fn new(row: &'a dyn Strategy) -> Self {
        let info = row.info();
        let patches = if row.custom_schema().is_some() { PATCHES_OF_CUSTOM } else { PATCHES };
        let (naming, root) = (Naming::new(&info.group, &info.version), root(&info.group, &info.version));
        Self { info, naming, root, object: definition(row), patches }
    }

    fn collection(&self) -> String {
        let Self { root, info, .. } = self;
        if info.namespaced {
            format!("{root}/namespaces/{{namespace}}/{}", info.plural)
        } else {
            format!("{root}/{}", info.plural)
        }
    }

    /// The kind of the resource.
    pub fn kind(&self) -> Gvk {
        Gvk::new(&self.info.group, &self.info.version, &self.info.kind)
    }

    /// A path of this resource.
    pub fn item(&self, path: String, operations: Vec<Operation>) -> PathItem {
        let mut item = PathItem { path, operations };
        for operation in &mut item.operations {
            if item.path.contains("{namespace}") {
                operation.parameters.push(NAMESPACE);
            }
            operation.parameters.sort_by_key(|parameter| (parameter.name, parameter.place == parameters::Place::Query));
        }
        item
    }

    /// An operation that answers an object of the resource.
    pub fn operation(
        &self,
        method: &'static str,
        action: &'static str,
        verb: &str,
        what: &str,
        own: &[Parameter],
    ) -> Operation {
        let mut parameters = own.to_vec();
        parameters.push(PRETTY);
        Operation {
            method,
            id: self.naming.operation(verb, what),
            description: String::new(),
            action,
            kind: Some(self.kind()),
            tag: self.naming.tag(),
            parameters,
            body: Body::None,
            codes: codes(action),
            answer: Answer::Object(self.object.clone()),
            produces: OBJECT,
        }
    }

    /// GET, PATCH or PUT of an object or subresource; `of` is empty for the object itself.
    pub fn access(&self, method: &'static str, of: &str) -> Operation {
        let (verb, phrase, own) = match method {
            "patch" => ("patch", "partially update", parameters::PATCH),
            "put" => ("replace", "replace", parameters::WRITE),
            _ => ("read", "read", &[] as &[Parameter]),
        };
        let what = scoped(self.info) + &title(of);
        let mut operation = self.operation(method, method, verb, &what, own);
        let of = if of.is_empty() { String::new() } else { format!("{of} of ") };
        operation.description = format!("{phrase} {of}the specified {}", self.info.kind);
        operation.body = match method {
            "patch" => Body::Patch(self.patches),
            "put" => Body::Required(self.object.clone()),
            _ => Body::None,
        };
        operation
    }

    fn collection_operations(&self, row: &dyn Strategy) -> Vec<Operation> {
        let kind = &self.info.kind;
        let mut create = self.operation("post", "post", "create", &scoped(self.info), parameters::WRITE);
        create.description = format!("create {}", with_article(kind));
        create.body = Body::Required(self.object.clone());
        if !self.info.stored {
            return vec![create];
        }
        let mut operations = vec![self.list(Scope::Own), create];
        if row.delete_collection() {
            let what = format!("Collection{}", scoped(self.info));
            let mut delete =
                self.operation("delete", "deletecollection", "delete", &what, parameters::DELETE_COLLECTION);
            delete.description = format!("delete collection of {kind}");
            delete.body = Body::Optional(DELETE_OPTIONS.to_owned());
            delete.answer = Answer::Object(STATUS.to_owned());
            operations.insert(0, delete);
        }
        operations
    }

    fn object_operations(&self, row: &dyn Strategy) -> Vec<Operation> {
        let mut delete = self.operation("delete", "delete", "delete", &scoped(self.info), parameters::DELETE);
        delete.description = format!("delete {}", with_article(&self.info.kind));
        delete.body = Body::Optional(DELETE_OPTIONS.to_owned());
        if !row.returns_deleted() {
            delete.answer = Answer::Object(STATUS.to_owned());
        }
        let mut operations = vec![delete, self.access("get", ""), self.access("patch", ""), self.access("put", "")];
        for operation in &mut operations {
            operation.parameters.push(parameters::name_of(&self.info.kind));
        }
        operations
    }

    /// Reading one object.
    fn get(&self) -> Operation {
        let mut get = self.access("get", "");
        get.parameters.push(parameters::name_of(&self.info.kind));
        get
    }

    fn list(&self, scope: Scope) -> Operation {
        let what = match scope {
            Scope::Own => scoped(self.info),
            Scope::AllNamespaces => format!("{}ForAllNamespaces", self.info.kind),
        };
        let mut list = self.operation("get", "list", "list", &what, parameters::LIST);
        list.description = format!("list or watch objects of kind {}", self.info.kind);
        list.answer = Answer::Object(format!("{}List", self.object));
        list.produces = LIST;
        list
    }

    /// The paths of old clients, below `/watch/`.
    fn watches(&self) -> Vec<PathItem> {
        let ResourceInfo { kind, plural, .. } = self.info;
        let collection = self.collection().replacen(&self.root, &format!("{}/watch", self.root), 1);
        let watch = |action, what: &str| {
            let mut watch = self.operation("get", action, "watch", what, parameters::LIST);
            watch.description = match action {
                "watch" => format!(
                    "watch changes to an object of kind {kind}. deprecated: use the 'watch' parameter with a list operation instead, filtered to a single item with the 'fieldSelector' parameter."
                ),
                _ => format!(
                    "watch individual changes to a list of {kind}. deprecated: use the 'watch' parameter with a list operation instead."
                ),
            };
            watch.answer = Answer::Object(WATCH_EVENT.to_owned());
            watch.produces = LIST;
            watch
        };
        let mut items =
            vec![self.item(collection.clone(), vec![watch("watchlist", &format!("{}List", scoped(self.info)))])];
        let mut single = watch("watch", &scoped(self.info));
        single.parameters.push(parameters::name_of(kind));
        items.push(self.item(format!("{collection}/{{name}}"), vec![single]));
        if self.info.namespaced {
            let all = watch("watchlist", &format!("{kind}ListForAllNamespaces"));
            items.push(self.item(format!("{}/watch/{plural}", self.root), vec![all]));
        }
        items
    }

    /// The name of an operation in this group and version.
    pub fn operation_id(&self, verb: &str, what: &str) -> String {
        self.naming.operation(verb, what)
    }
}

fn codes(action: &str) -> &'static [u16] {
    match action {
        "post" => &[200, 201, 202],
        "put" | "patch" => &[200, 201],
        "delete" => &[200, 202],
        _ => &[200],
    }
}

/// What the paths of a group and version begin with.
pub fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}
