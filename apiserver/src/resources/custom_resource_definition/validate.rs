//! Everything that can be wrong with a definition, in upstream's words and order. Entry points: [`check`] for a new one,
//! [`check_update`] for a change.

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath, go_quote};
use api::names::{is_dns1035_label, is_dns1123_subdomain};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames, CustomResourceDefinitionSpec,
};
use serde_json::{Value, json};

use super::internal::{Facets, Internal, Version, fields_of, shown_schema, shown_versions};
use super::rules::Costs;
use super::{conversion, default_values, field_path, is_true, open_api, structural};
use crate::resources::checks;
use crate::resources::custom::schema::Schema;

const APPROVED: &str = "api-approved.kubernetes.io";
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
/// What may stand beside `properties` in the schema of a resource whose status is a subresource.
const ALLOWED_AT_ROOT: [&str; 22] = [
    "Description",
    "Type",
    "Format",
    "Title",
    "Maximum",
    "ExclusiveMaximum",
    "Minimum",
    "ExclusiveMinimum",
    "MaxLength",
    "MinLength",
    "Pattern",
    "MaxItems",
    "MinItems",
    "UniqueItems",
    "MultipleOf",
    "Required",
    "Items",
    "Properties",
    "ExternalDocs",
    "Example",
    "XPreserveUnknownFields",
    "XValidations",
];
const MAX_SELECTABLE: usize = 8;

/// A new definition.
pub(super) fn check(definition: &CustomResourceDefinition) -> FieldErrors {
    let mut errors = name(definition);
    errors.extend(spec(definition, None));
    errors.extend(status(definition));
    errors.extend(stored_versions(definition));
    errors.extend(approval(definition, None));
    errors.extend(preserve_unknown(definition, None));
    errors
}

/// A changed definition.
pub(super) fn check_update(new: &CustomResourceDefinition, old: &CustomResourceDefinition) -> FieldErrors {
    let mut errors = spec(new, Some(old));
    let path = FieldPath::root("spec");
    if is_true(old, "Established") {
        checks::immutable(&mut errors, &path.child("scope"), &new.spec.scope, &old.spec.scope);
        checks::immutable(&mut errors, &path.child("names").child("kind"), &new.spec.names.kind, &old.spec.names.kind);
    }
    checks::immutable(&mut errors, &path.child("group"), &new.spec.group, &old.spec.group);
    let plural = path.child("names").child("plural");
    checks::immutable(&mut errors, &plural, &new.spec.names.plural, &old.spec.names.plural);
    errors.extend(status(new));
    errors.extend(stored_versions(new));
    errors.extend(approval(new, Some(old)));
    errors.extend(preserve_unknown(new, Some(old)));
    errors
}

/// The accepted names of a status.
pub(super) fn status(definition: &CustomResourceDefinition) -> FieldErrors {
    let accepted = definition.status.as_ref().and_then(|status| status.accepted_names.as_ref());
    let path = FieldPath::root("status").child("acceptedNames");
    accepted.map(|accepted| names(&path, accepted)).unwrap_or_default()
}

fn name(definition: &CustomResourceDefinition) -> FieldErrors {
    let wanted = format!("{}.{}", definition.spec.names.plural, definition.spec.group);
    let (meta, mut errors) = (&definition.metadata, FieldErrors::new());
    for (field, name) in [("generateName", &meta.generate_name), ("name", &meta.name)] {
        let name = name.as_deref().unwrap_or_default();
        if !name.is_empty() && name != wanted {
            let detail = "must be spec.names.plural+\".\"+spec.group";
            errors.push(FieldError::invalid(&FieldPath::root("metadata").child(field), name, detail));
        }
    }
    errors
}

/// `Invalid value: shown: detail`, for values that are written as Go's internal types.
pub(super) fn shown(path: &FieldPath, shown: &str, detail: &str) -> FieldError {
    FieldError { kind: FieldErrorKind::Invalid, path: path.clone(), value: None, detail: format!("{shown}: {detail}") }
}

fn label(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    let wrong = is_dns1035_label(value);
    if !wrong.is_empty() {
        errors.push(FieldError::invalid(path, value, wrong.join(",")));
    }
}

fn spec(definition: &CustomResourceDefinition, old: Option<&CustomResourceDefinition>) -> FieldErrors {
    let (spec, internal) = (&definition.spec, Internal::of(definition));
    let path = FieldPath::root("spec");
    let mut errors = FieldErrors::new();
    group(spec, &path, &mut errors);
    let scope = path.child("scope");
    match spec.scope.as_str() {
        "" => errors.push(FieldError::required(&scope, "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(FieldError::not_supported(&scope, other, &["Cluster", "Namespaced"])),
    }
    versions(&internal, spec.preserve_unknown_fields == Some(true), &path, &mut errors);
    required_names(&spec.names, &path.child("names"), &mut errors);
    errors.extend(names(&path.child("names"), &spec.names));
    let any_status = has_status(internal.shared.subresources.as_ref())
        || internal.versions.iter().any(|version| has_status(version.own.subresources.as_ref()));
    schema(internal.shared.schema.as_ref(), any_status, &path.child("validation"), &mut errors);
    let lacking = "selectableFields may only be set when validations.schema is included";
    facets(&internal.shared, lacking, &path, &mut errors);
    conversion::check(spec, old, &path.child("conversion"), &mut errors);
    errors
}

fn group(spec: &CustomResourceDefinitionSpec, path: &FieldPath, errors: &mut FieldErrors) {
    let (path, group) = (path.child("group"), spec.group.as_str());
    let wrong = is_dns1123_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else if !wrong.is_empty() {
        errors.push(FieldError::invalid(&path, group, wrong.join(",")));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid(&path, group, "should be a domain with at least one dot"));
    }
}

fn has_status(subresources: Option<&Value>) -> bool {
    subresources.is_some_and(|subresources| subresources.get("status").is_some())
}

fn versions(internal: &Internal, preserves_unknown: bool, path: &FieldPath, errors: &mut FieldErrors) {
    let (list, at) = (&internal.versions, path.child("versions"));
    if internal.shared.schema.is_none() {
        for (i, _) in list.iter().enumerate().filter(|(_, version)| version.own.schema.is_none()) {
            errors.push(FieldError::required(&at.index(i).child("schema").child("openAPIV3Schema"), ""));
        }
    }
    let schemas = list.iter().filter_map(|version| version.own.schema.as_ref()).chain(&internal.shared.schema);
    if preserves_unknown && schemas.into_iter().any(has_default) {
        let detail = "must be false in order to use defaults in the schema";
        errors.push(FieldError::invalid(&path.child("preserveUnknownFields"), true, detail));
    }
    let per_version = list.iter().any(|version| version.own.subresources.is_some());
    for (i, version) in list.iter().enumerate() {
        label(errors, &at.index(i).child("name"), &version.name);
        let subresources =
            if per_version { version.own.subresources.as_ref() } else { internal.shared.subresources.as_ref() };
        one_version(version, has_status(subresources), &at.index(i), errors);
    }
    let shown_list = || if list.is_empty() { "[]".to_owned() } else { shown_versions(list) };
    if (1..list.len()).any(|i| list[..i].iter().any(|other| other.name == list[i].name)) {
        errors.push(shown(&at, &shown_list(), "must contain unique version names"));
    }
    if list.iter().filter(|version| version.storage).count() != 1 {
        errors.push(shown(&at, &shown_list(), "must have exactly one version marked as storage version"));
    }
    if let Some(first) = list.first().filter(|first| !first.name.is_empty()) {
        label(errors, &path.child("version"), &first.name);
    }
}

fn one_version(version: &Version, has_status: bool, path: &FieldPath, errors: &mut FieldErrors) {
    deprecation(version, &path.child("deprecationWarning"), errors);
    schema(version.own.schema.as_ref(), has_status, &path.child("schema"), errors);
    // Upstream's words; the "not" is not meant.
    let lacking = "selectableFields may only be set when version.schema.openAPIV3Schema is not included";
    facets(&version.own, lacking, path, errors);
}

fn deprecation(version: &Version, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(warning) = &version.deprecation_warning else { return };
    if !version.deprecated {
        return errors.push(FieldError::invalid(path, warning, "can only be set for deprecated versions"));
    }
    if warning.len() > 256 {
        errors.push(FieldError::invalid(path, warning, "must be <= 256 characters long"));
    }
    if warning.is_empty() {
        errors.push(FieldError::invalid(path, warning, "must not be an empty string"));
    }
    if let Some((at, _)) = warning.char_indices().find(|(_, c)| c.is_control() || (c.is_whitespace() && *c != ' ')) {
        let detail =
            format!("must only contain printable UTF-8 characters; non-printable character found at index {at}");
        errors.push(FieldError::invalid(path, warning, detail));
    }
}

fn required_names(names: &CustomResourceDefinitionNames, path: &FieldPath, errors: &mut FieldErrors) {
    let text = |name: &Option<String>| name.clone().unwrap_or_default();
    let wanted = [
        ("plural", names.plural.clone()),
        ("singular", text(&names.singular)),
        ("kind", names.kind.clone()),
        ("listKind", text(&names.list_kind)),
    ];
    for (name, _) in wanted.iter().filter(|(_, value)| value.is_empty()) {
        errors.push(FieldError::required(&path.child(name), ""));
    }
}

fn names(path: &FieldPath, names: &CustomResourceDefinitionNames) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let (singular, list_kind) =
        (names.singular.as_deref().unwrap_or_default(), names.list_kind.as_deref().unwrap_or_default());
    for (name, value) in [("plural", names.plural.as_str()), ("singular", singular)] {
        if !value.is_empty() {
            label(&mut errors, &path.child(name), value);
        }
    }
    for (name, value) in [("kind", names.kind.as_str()), ("listKind", list_kind)] {
        let wrong = is_dns1035_label(&value.to_lowercase());
        if !value.is_empty() && !wrong.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
            errors.push(FieldError::invalid(&path.child(name), value, detail));
        }
    }
    for (i, name) in names.short_names.iter().flatten().enumerate() {
        label(&mut errors, &path.child("shortNames").index(i), name);
    }
    if !names.kind.is_empty() && names.kind == list_kind {
        let detail = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&path.child("listKind"), list_kind, detail));
    }
    for (i, name) in names.categories.iter().flatten().enumerate() {
        label(&mut errors, &path.child("categories").index(i), name);
    }
    errors
}

/// A schema: `path` is `spec.validation`, or `schema` of a version.
fn schema(schema: Option<&Value>, has_status: bool, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(schema) = schema else { return };
    let at = path.child("openAPIV3Schema");
    if has_status {
        root_fields(schema, path, errors);
    }
    if schema.get("nullable") == Some(&Value::Bool(true)) {
        let detail = "nullable cannot be true at the root";
        errors.push(FieldError::forbidden(&path.child("openAPIV3Schema.nullable"), detail));
    }
    let unsupported = unsupported(schema);
    let mut is_sound = false;
    if unsupported.is_none() {
        let found = structural::check(&at, schema);
        let parsed = Schema::parse(schema).ok().filter(|_| found.is_empty());
        errors.extend(found);
        if let Some(parsed) = parsed {
            let found = default_values::check(&at, &parsed);
            is_sound = found.is_empty();
            errors.extend(found);
        }
    }
    let mut costs = Costs::default();
    let found = open_api::check(&at, schema, is_sound, &mut costs);
    errors.extend(found.schema);
    errors.extend(found.rules);
    if let (Some(why), true) = (unsupported, errors.is_empty()) {
        errors.push(FieldError::invalid(&at, "", why));
    }
    errors.extend(costs.check(&at));
}

/// The schemas that a schema is made of.
fn parts(schema: &Value) -> impl Iterator<Item = &Value> {
    let single = ["items", "not", "additionalProperties"].iter().filter_map(|name| schema.get(*name));
    let lists = ["allOf", "anyOf", "oneOf"].iter().filter_map(|name| schema.get(*name)?.as_array()).flatten();
    let fields = schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|fields| fields.values());
    single.chain(lists).chain(fields)
}

fn has_default(schema: &Value) -> bool {
    schema.get("default").is_some() || parts(schema).any(has_default)
}

/// Something that no structural schema has, at any depth; the text is upstream's.
fn unsupported(schema: &Value) -> Option<String> {
    let own = ["id", "$schema", "$ref", "patternProperties", "dependencies", "additionalItems", "definitions"];
    if let Some(name) = own.iter().find(|name| schema.get(**name).is_some()) {
        let name = name.strip_prefix("$s").map_or_else(|| (*name).to_owned(), |rest| format!("s{rest}"));
        return Some(format!("OpenAPIV3Schema '{name}' is not supported"));
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        return Some("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".to_owned());
    }
    if schema.get("items").is_some_and(Value::is_array) {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
    }
    parts(schema).find_map(unsupported)
}

fn root_fields(schema: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for name in fields_of(schema) {
        if name == "Type" {
            let found = schema["type"].as_str().unwrap_or_default();
            if found != "object" {
                let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
                return errors.push(FieldError::invalid(&path.child("openAPIV3Schema.type"), found, detail));
            }
        } else if !ALLOWED_AT_ROOT.contains(&name) {
            let detail = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                ALLOWED_AT_ROOT.join(" ")
            );
            return errors.push(shown(&path.child("openAPIV3Schema"), &shown_schema(schema), &detail));
        }
    }
}

/// Subresources, columns and selectable fields; `lacking` is said of such without a schema.
fn facets(facets: &Facets, lacking: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if let Some(scale) = facets.subresources.as_ref().and_then(|subresources| subresources.get("scale")) {
        scale_paths(scale, &path.child("subresources"), errors);
    }
    for (i, column_value) in facets.columns.iter().enumerate() {
        column(column_value, &path.child("additionalPrinterColumns").index(i), errors);
    }
    let at = path.child("selectableFields");
    match facets.schema.as_ref().map(Schema::parse) {
        None if !facets.selectable.is_empty() => errors.push(FieldError::invalid(&at, "", lacking)),
        Some(Ok(schema)) => selectable(&facets.selectable, &schema, &at, errors),
        Some(Err(_)) | None => {}
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// What is wrong with a path such as `.spec.replicas`, if anything.
fn simple_path(path: &str) -> Option<&'static str> {
    (!path.starts_with('.')).then_some("must be a simple json path starting with .")
}

fn scale_paths(scale: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for (name, within) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let (value, at) = (text(scale, name), path.child(&format!("scale.{name}")));
        match simple_path(value) {
            _ if value.is_empty() => errors.push(FieldError::required(&at, "")),
            Some(detail) => errors.push(FieldError::invalid(&at, value, detail)),
            None if !value.starts_with(within) => {
                let detail = format!("should be a json path under {}", within.trim_end_matches('.'));
                errors.push(FieldError::invalid(&at, value, detail));
            }
            None => {}
        }
    }
    let (value, at) = (text(scale, "labelSelectorPath"), path.child("scale.labelSelectorPath"));
    match simple_path(value) {
        _ if value.is_empty() => {}
        Some(detail) => errors.push(FieldError::invalid(&at, value, detail)),
        None if !value.starts_with(".spec.") && !value.starts_with(".status.") => {
            errors.push(FieldError::invalid(&at, value, "should be a json path under either .spec or .status"));
        }
        None => {}
    }
}

fn column(column: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if text(column, "name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    let one_of = |values: &[&str]| format!("must be one of {}", values.join(","));
    match text(column, "type") {
        "" => errors.push(FieldError::required(&path.child("type"), one_of(&COLUMN_TYPES))),
        known if COLUMN_TYPES.contains(&known) => {}
        other => errors.push(FieldError::invalid(&path.child("type"), other, one_of(&COLUMN_TYPES))),
    }
    let format = text(column, "format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        errors.push(FieldError::invalid(&path.child("format"), format, one_of(&COLUMN_FORMATS)));
    }
    let (value, at) = (text(column, "jsonPath"), path.child("JSONPath"));
    match simple_path(value) {
        _ if value.is_empty() => errors.push(FieldError::required(&at, "")),
        Some(detail) => errors.push(FieldError::invalid(&at, value, detail)),
        None => {}
    }
}

fn selectable(fields: &[Value], schema: &Schema, path: &FieldPath, errors: &mut FieldErrors) {
    let mut seen: Vec<FieldPath> = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let (value, at) = (text(field, "jsonPath"), path.index(i).child("jsonPath"));
        if value.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let (found, target) = match field_path::resolve(value, schema, false) {
            Ok(found) => found,
            Err(why) => {
                errors.push(FieldError::invalid(&at, value, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if found.as_str().split(['.', '[']).next() == Some("metadata") {
            errors.push(FieldError::invalid(&at, value, "must not point to fields in metadata"));
        }
        if !matches!(target.type_name.as_str(), "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(FieldError::invalid(&at, value, detail));
        }
        if seen.contains(&found) {
            errors.push(FieldError::duplicate(&at, value));
        } else {
            seen.push(found);
        }
    }
    if seen.len() > MAX_SELECTABLE {
        errors.push(FieldError::too_many(path, seen.len(), MAX_SELECTABLE));
    }
}

fn stored_versions(definition: &CustomResourceDefinition) -> FieldErrors {
    let path = FieldPath::root("status").child("storedVersions");
    let stored = definition.status.as_ref().and_then(|status| status.stored_versions.clone()).unwrap_or_default();
    let mut errors = FieldErrors::new();
    if stored.is_empty() {
        return FieldError::invalid(&path, Value::Null, "must have at least one stored version").into();
    }
    let versions = &definition.spec.versions;
    for version in versions.iter().filter(|version| version.storage && !stored.contains(&version.name)) {
        let detail = format!("must have the storage version {}", version.name);
        errors.push(FieldError::invalid(&path, json!(stored), detail));
    }
    for (i, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version.name == *name) {
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage \
                 migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(&path.index(i), name, detail));
        }
    }
    errors
}

/// How far the annotation about a review goes.
#[derive(PartialEq)]
enum Approval {
    Missing,
    Given,
    Bypassed,
    Malformed(String),
}

fn approval_of(definition: &CustomResourceDefinition) -> Approval {
    let annotation = definition.metadata.annotations.as_ref().and_then(|annotations| annotations.get(APPROVED));
    match annotation.map(String::as_str) {
        None | Some("") => Approval::Missing,
        Some(text) if text.starts_with("unapproved") => Approval::Bypassed,
        Some(text) if is_url(text) => Approval::Given,
        Some(text) => Approval::Malformed(text.to_owned()),
    }
}

fn is_url(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/'))
}

/// Groups of Kubernetes itself need a review that an annotation names.
fn approval(new: &CustomResourceDefinition, old: Option<&CustomResourceDefinition>) -> FieldErrors {
    let group = new.spec.group.as_str();
    let is_protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')));
    let state = approval_of(new);
    if !is_protected || old.is_some_and(|old| approval_of(old) == state) {
        return FieldErrors::new();
    }
    let path = FieldPath::root("metadata").child("annotations").key(APPROVED);
    let quoted = go_quote(APPROVED);
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match state {
        Approval::Given | Approval::Bypassed => FieldErrors::new(),
        Approval::Missing => {
            let detail = format!("protected groups must have approval annotation {quoted}, {see}");
            FieldError::required(&path, detail).into()
        }
        Approval::Malformed(text) => {
            let detail = format!(
                "protected groups must have approval annotation {quoted} with either a URL or a reason starting with \"unapproved\", {see}"
            );
            FieldError::invalid(&path, text, detail).into()
        }
    }
}

fn preserve_unknown(new: &CustomResourceDefinition, old: Option<&CustomResourceDefinition>) -> FieldErrors {
    let set = |definition: &CustomResourceDefinition| definition.spec.preserve_unknown_fields == Some(true);
    if !set(new) || old.is_some_and(set) {
        return FieldErrors::new();
    }
    let detail =
        "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
    FieldError::invalid(&FieldPath::root("spec").child("preserveUnknownFields"), true, detail).into()
}
