//! Environment variables of containers, and the field selectors they share with downward API volumes.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, EnvVarSource, FileKeySelector, ObjectFieldSelector, PodSpec, ResourceFieldSelector,
};

use crate::resources::checks::{self, quantity};
use crate::resources::name_or_prefix;
use crate::resources::volume_sources::no_backsteps;

/// Fields that a variable can show.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that a file can show.
pub const VOLUME_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const KNOWN_FIELDS: &[&str] = &["spec.restartPolicy", "spec.schedulerName", "status.phase", "spec.host"];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// All errors of `env`.
pub fn variables(errors: &mut FieldErrors, path: &FieldPath, variables: &[EnvVar]) {
    for (i, variable) in variables.iter().enumerate() {
        let path = path.index(i);
        if variable.name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else {
            errors.push_invalid(&path.child("name"), &variable.name, names::env_var_name(&variable.name));
        }
        if let Some(source) = &variable.value_from {
            value_from(errors, &path.child("valueFrom"), source, variable.value.as_deref().unwrap_or_default());
        }
    }
}

fn value_from(errors: &mut FieldErrors, path: &FieldPath, source: &EnvVarSource, value: &str) {
    let mut sources = 0;
    if let Some(field) = &source.field_ref {
        sources += 1;
        field_ref(errors, &path.child("fieldRef"), field, ENV_FIELDS);
    }
    if let Some(resource) = &source.resource_field_ref {
        sources += 1;
        resource_field_ref(errors, &path.child("resourceFieldRef"), resource, false);
    }
    if let Some(reference) = &source.config_map_key_ref {
        sources += 1;
        key_ref(errors, &path.child("configMapKeyRef"), &reference.name, &reference.key);
    }
    if let Some(reference) = &source.secret_key_ref {
        sources += 1;
        key_ref(errors, &path.child("secretKeyRef"), &reference.name, &reference.key);
    }
    if let Some(file) = &source.file_key_ref {
        sources += 1;
        file_key_ref(errors, &path.child("fileKeyRef"), file);
    }
    if sources == 0 {
        let detail =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(FieldError::invalid(path, "", detail));
    } else if !value.is_empty() {
        errors.push(FieldError::invalid(path, "", "may not be specified when `value` is not empty"));
    } else if sources > 1 {
        errors.push(FieldError::invalid(path, "", "may not have more than one field specified at a time"));
    }
}

fn key_ref(errors: &mut FieldErrors, path: &FieldPath, name: &str, key: &str) {
    errors.push_invalid(&path.child("name"), name, names::is_dns1123_subdomain(name));
    if key.is_empty() {
        errors.push(FieldError::required(&path.child("key"), ""));
    } else {
        errors.push_invalid(&path.child("key"), key, names::config_key(key));
    }
}

fn file_key_ref(errors: &mut FieldErrors, path: &FieldPath, file: &FileKeySelector) {
    let mut given = |field: &str, value: &str, rule: fn(&str) -> Vec<String>| match value {
        "" => errors.push(FieldError::required(&path.child(field), "")),
        value => errors.push_invalid(&path.child(field), value, rule(value)),
    };
    given("key", &file.key, names::env_var_name);
    given("volumeName", &file.volume_name, names::is_dns1123_label);
    checks::required(errors, &path.child("path"), &file.path);
    no_backsteps(errors, &path.child("path"), &file.path);
}

/// Variables come from files in volumes that the pod has, and that begin empty.
pub fn files(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec) {
    let init = spec.init_containers.iter().flatten().map(|container| container.env.as_deref());
    let main = spec.containers.iter().map(|container| container.env.as_deref());
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| container.env.as_deref());
    let mut check = |list: &str, i: usize, variables: Option<&[EnvVar]>| {
        for (j, variable) in variables.unwrap_or_default().iter().enumerate() {
            let Some(file) = variable.value_from.as_ref().and_then(|source| source.file_key_ref.as_ref()) else {
                continue;
            };
            let path = path.child(list).index(i).child("env").index(j).child("valueFrom").child("fileKeyRef");
            let path = path.child("volumeName");
            match spec.volumes.iter().flatten().find(|volume| volume.name == file.volume_name) {
                None => errors.push(FieldError::not_found(&path, &file.volume_name)),
                Some(volume) if volume.empty_dir.is_none() => {
                    let detail = "referenced volume must be of type emptyDir";
                    errors.push(FieldError::invalid(&path, &file.volume_name, detail));
                }
                Some(_) => {}
            }
        }
    };
    init.enumerate().for_each(|(i, variables)| check("initContainers", i, variables));
    main.enumerate().for_each(|(i, variables)| check("containers", i, variables));
    ephemeral.enumerate().for_each(|(i, variables)| check("ephemeralContainers", i, variables));
}

/// A field of the pod: known, and one of those that can be shown here.
pub fn field_ref(errors: &mut FieldErrors, path: &FieldPath, selector: &ObjectFieldSelector, allowed: &[&str]) {
    let whole = path;
    let version = selector.api_version.as_deref().unwrap_or_default();
    if version.is_empty() {
        errors.push(FieldError::required(&path.child("apiVersion"), ""));
        return;
    }
    let path = path.child("fieldPath");
    let field = selector.field_path.as_str();
    if field.is_empty() {
        errors.push(FieldError::required(&path, ""));
        return;
    }
    if version != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {version}");
        errors.push(FieldError::invalid(&path, field, detail));
        return;
    }
    if let Some((map, key)) = field.strip_suffix("']").and_then(|field| field.split_once("['")) {
        match map {
            "metadata.annotations" => {
                let key = key.to_lowercase();
                errors.push_invalid(whole, &key, names::qualified_name(&key));
            }
            "metadata.labels" => errors.push_invalid(whole, key, names::qualified_name(key)),
            map => {
                let detail = format!("error converting fieldPath: field label does not support subscript: {map}");
                errors.push(FieldError::invalid(&path, field, detail));
            }
        }
        return;
    }
    let field = if field == "spec.host" { "spec.nodeName" } else { field };
    if !(ENV_FIELDS.contains(&field) || VOLUME_FIELDS.contains(&field) || KNOWN_FIELDS.contains(&field)) {
        let detail = format!("error converting fieldPath: field label not supported: {field}");
        errors.push(FieldError::invalid(&path, field, detail));
    } else {
        checks::one_of(errors, &path, field, allowed);
    }
}

/// A resource of a container.
pub fn resource_field_ref(
    errors: &mut FieldErrors,
    path: &FieldPath,
    selector: &ResourceFieldSelector,
    in_volume: bool,
) {
    let resource = selector.resource.as_str();
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if in_volume && selector.container_name.as_deref().unwrap_or_default().is_empty() {
        errors.push(FieldError::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(FieldError::required(&path.child("resource"), ""));
    } else if !huge {
        checks::one_of(errors, &path.child("resource"), resource, RESOURCES);
    }
    let Some(divisor) = selector.divisor.as_ref().map(quantity).filter(|divisor| !divisor.is_zero()) else { return };
    let (allowed, what): (&[&str], &str) = match resource.split_once('.').map(|(_, resource)| resource) {
        Some("cpu") => (&["1m", "1"], "1m and 1 are supported with the cpu resource"),
        Some(_) if resource.ends_with("memory") || resource.ends_with("ephemeral-storage") || huge => (
            &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"],
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource",
        ),
        Some(_) | None => return,
    };
    if !allowed.contains(&divisor.to_string().as_str()) {
        let what = match resource {
            _ if huge => what.replace("memory", "hugepages"),
            resource if resource.ends_with("ephemeral-storage") => what.replace("memory", "local ephemeral storage"),
            _ => what.to_owned(),
        };
        errors.push(FieldError::invalid(&path.child("divisor"), resource, format!("only divisor's values {what}")));
    }
}

/// All errors of `envFrom`.
pub fn sources(errors: &mut FieldErrors, path: &FieldPath, sources: &[EnvFromSource]) {
    let reference = |errors: &mut FieldErrors, path: FieldPath, name: &str| {
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else {
            errors.push_invalid(&path, name, name_or_prefix(names::is_dns1123_subdomain, name, true));
        }
    };
    // Upstream says of the whole list what is wrong with the number of sources.
    let list = path;
    for (i, source) in sources.iter().enumerate() {
        let path = path.index(i);
        if let Some(prefix) = source.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
            errors.push_invalid(&path.child("prefix"), prefix, names::env_var_name(prefix));
        }
        if let Some(map) = &source.config_map_ref {
            reference(errors, path.child("configMapRef").child("name"), &map.name);
        }
        if let Some(secret) = &source.secret_ref {
            reference(errors, path.child("secretRef").child("name"), &secret.name);
        }
        match (&source.config_map_ref, &source.secret_ref) {
            (None, None) => {
                errors.push(FieldError::invalid(list, "", "must specify one of: `configMapRef` or `secretRef`"))
            }
            (Some(_), Some(_)) => {
                errors.push(FieldError::invalid(list, "", "may not have more than one field specified at a time"));
            }
            (Some(_), None) | (None, Some(_)) => {}
        }
    }
}
