//! Volumes of pods: exactly one source each, and the sources' own fields.

use std::collections::{BTreeMap, BTreeSet};

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, PersistentVolumeSpec, ProjectedVolumeSource, Volume,
};
use serde::Serialize;
use serde_json::Value;

use super::containers::{Volumes, descending_path, no_backsteps};
use super::env;
use crate::resources::checks;

const MAX_MODE: i32 = 0o777;
const MIN_TOKEN_SECONDS: i64 = 10 * 60;
const MAX_TOKEN_SECONDS: i64 = 1 << 32;

/// Upstream's order of the sources, by which "more than one" is decided.
const SOURCES: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "scaleIO",
    "local",
    "projected",
    "csi",
    "ephemeral",
    "image",
];

/// A source of a volume: its field and its JSON.
pub struct SourceRef {
    /// For example `hostPath`.
    pub name: &'static str,
    /// Its fields.
    pub fields: Value,
}

impl SourceRef {
    /// The sources that are set, in upstream's order.
    pub fn all(spec: &impl Serialize) -> Vec<Self> {
        let mut spec = serde_json::to_value(spec).unwrap_or(Value::Null);
        let set = |name: &&'static str| spec.get_mut(*name).map(|fields| Self { name, fields: fields.take() });
        SOURCES.iter().filter_map(set).collect()
    }

    /// The sources of a PersistentVolume.
    pub fn of_persistent_volume(spec: &PersistentVolumeSpec) -> Vec<Self> {
        Self::all(spec)
    }

    /// The names of required fields that are empty.
    pub fn check_required(&self, errors: &mut FieldErrors, path: &FieldPath) {
        let required: &[&str] = match self.name {
            "gcePersistentDisk" => &["pdName"],
            "awsElasticBlockStore" | "cinder" => &["volumeID"],
            "nfs" => &["server", "path"],
            "iscsi" => &["targetPortal", "iqn"],
            "glusterfs" => &["endpoints", "path"],
            "persistentVolumeClaim" => &["claimName"],
            "rbd" => &["image"],
            "flexVolume" | "csi" => &["driver"],
            "azureFile" => &["secretName", "shareName"],
            "vsphereVolume" => &["volumePath"],
            "azureDisk" => &["diskName", "diskURI"],
            "photonPersistentDisk" => &["pdID"],
            "portworxVolume" => &["volumeID"],
            "gitRepo" => &["repository"],
            "local" => &["path"],
            "image" => &["reference"],
            _ => &[],
        };
        for field in required {
            let value = self.fields.get(field).and_then(Value::as_str).unwrap_or_default();
            checks::required(errors, &path.child(self.name).child(field), value);
        }
        if self.name == "nfs" {
            let value = self.fields.get("path").and_then(Value::as_str).unwrap_or_default();
            if !value.starts_with('/') {
                errors.push(FieldError::invalid(&path.child("nfs").child("path"), value, "must be an absolute path"));
            }
        }
    }
}

/// All errors of the list; answers the volumes that are valid.
pub fn validate(errors: &mut FieldErrors, path: &FieldPath, volumes: &[Volume]) -> Volumes {
    let mut valid = BTreeMap::new();
    for (i, volume) in volumes.iter().enumerate() {
        let path = path.index(i);
        let mut found = FieldErrors::new();
        sources(&mut found, &path, volume);
        if volume.name.is_empty() {
            found.push(FieldError::required(&path.child("name"), ""));
        } else {
            found.push_invalid(&path.child("name"), &volume.name, names::is_dns1123_label(&volume.name));
        }
        if valid.contains_key(&volume.name) {
            found.push(FieldError::duplicate(&path.child("name"), &volume.name));
        }
        if found.is_empty() {
            let claim = volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some();
            valid.insert(volume.name.clone(), claim);
        }
        errors.extend(found);
    }
    valid
}

fn sources(errors: &mut FieldErrors, path: &FieldPath, volume: &Volume) {
    let sources = SourceRef::all(volume);
    for (i, source) in sources.iter().enumerate() {
        if i > 0 {
            errors.push(FieldError::forbidden(&path.child(source.name), "may not specify more than 1 volume type"));
        } else {
            source.check_required(errors, path);
            one_source(errors, path, volume, source.name);
        }
    }
    if sources.is_empty() {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
}

fn one_source(errors: &mut FieldErrors, path: &FieldPath, volume: &Volume, name: &str) {
    let path = path.child(name);
    if let (Some(source), "emptyDir") = (&volume.empty_dir, name)
        && source.size_limit.as_ref().is_some_and(|limit| checks::quantity(limit).is_negative())
    {
        errors
            .push(FieldError::forbidden(&path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity"));
    }
    if let (Some(source), "hostPath") = (&volume.host_path, name) {
        host_path(errors, &path, source);
    }
    if let (Some(source), "secret") = (&volume.secret, name) {
        checks::required(errors, &path.child("secretName"), source.secret_name.as_deref().unwrap_or_default());
        mode(errors, &path.child("defaultMode"), source.default_mode);
        items(errors, &path.child("items"), source.items.as_deref().unwrap_or_default());
    }
    if let (Some(source), "configMap") = (&volume.config_map, name) {
        checks::required(errors, &path.child("name"), &source.name);
        mode(errors, &path.child("defaultMode"), source.default_mode);
        items(errors, &path.child("items"), source.items.as_deref().unwrap_or_default());
    }
    if let (Some(source), "downwardAPI") = (&volume.downward_api, name) {
        mode(errors, &path.child("defaultMode"), source.default_mode);
        for file in source.items.iter().flatten() {
            downward_file(errors, &path, file);
        }
    }
    if let (Some(source), "projected") = (&volume.projected, name) {
        mode(errors, &path.child("defaultMode"), source.default_mode);
        projected(errors, &path.child("sources"), source);
    }
    if let (Some(source), "ephemeral") = (&volume.ephemeral, name)
        && source.volume_claim_template.is_none()
    {
        errors.push(FieldError::required(&path.child("volumeClaimTemplate"), ""));
    }
}

/// All errors of a `hostPath`.
pub fn host_path(errors: &mut FieldErrors, path: &FieldPath, source: &HostPathVolumeSource) {
    const TYPES: &[&str] =
        &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    if source.path.is_empty() {
        errors.push(FieldError::required(&path.child("path"), ""));
        return;
    }
    no_backsteps(errors, &path.child("path"), &source.path);
    if let Some(kind) = &source.type_ {
        checks::one_of(errors, &path.child("type"), kind, TYPES);
    }
}

/// A file mode.
pub fn mode(errors: &mut FieldErrors, path: &FieldPath, mode: Option<i32>) {
    if let Some(mode) = mode.filter(|mode| !(0..=MAX_MODE).contains(mode)) {
        errors.push(FieldError::invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive"));
    }
}

fn items(errors: &mut FieldErrors, path: &FieldPath, items: &[KeyToPath]) {
    for (i, item) in items.iter().enumerate() {
        let path = path.index(i);
        checks::required(errors, &path.child("key"), &item.key);
        file_path(errors, &path.child("path"), &item.path);
        mode(errors, &path.child("mode"), item.mode);
    }
}

fn file_path(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    descending_path(errors, path, value);
    if value.starts_with("..") && !value.starts_with("../") {
        errors.push(FieldError::invalid(path, value, "must not start with '..'"));
    }
}

fn downward_file(errors: &mut FieldErrors, path: &FieldPath, file: &DownwardAPIVolumeFile) {
    file_path(errors, &path.child("path"), &file.path);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), other) => {
            env::field_ref(errors, &path.child("fieldRef"), field, env::VOLUME_FIELDS);
            if other.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(path, "resource", detail));
            }
        }
        (None, Some(resource)) => env::resource_field_ref(errors, &path.child("resourceFieldRef"), resource, true),
        (None, None) => errors.push(FieldError::required(path, "one of fieldRef and resourceFieldRef is required")),
    }
    mode(errors, &path.child("mode"), file.mode);
}

fn projected(errors: &mut FieldErrors, path: &FieldPath, volume: &ProjectedVolumeSource) {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (i, source) in volume.sources.iter().flatten().enumerate() {
        let path = path.index(i);
        let mut files = Vec::new();
        let mut kinds = 0;
        if let Some(secret) = &source.secret {
            kinds += 1;
            checks::required(errors, &path.child("secret").child("name"), &secret.name);
            items(errors, &path.child("secret").child("items"), secret.items.as_deref().unwrap_or_default());
            files.extend(secret.items.iter().flatten().map(|item| item.path.clone()));
        }
        if let Some(map) = &source.config_map {
            kinds += 1;
            checks::required(errors, &path.child("configMap").child("name"), &map.name);
            items(errors, &path.child("configMap").child("items"), map.items.as_deref().unwrap_or_default());
            files.extend(map.items.iter().flatten().map(|item| item.path.clone()));
        }
        if let Some(downward) = &source.downward_api {
            kinds += 1;
            for file in downward.items.iter().flatten() {
                downward_file(errors, &path.child("downwardAPI"), file);
                files.push(file.path.clone());
            }
        }
        if let Some(token) = &source.service_account_token {
            kinds += 1;
            let path = path.child("serviceAccountToken");
            token_seconds(errors, &path.child("expirationSeconds"), token.expiration_seconds);
            checks::required(errors, &path.child("path"), &token.path);
            files.push(token.path.clone());
        }
        kinds += i32::from(source.cluster_trust_bundle.is_some()) + i32::from(source.pod_certificate.is_some());
        if kinds > 1 {
            errors.push(FieldError::forbidden(&path, "may not specify more than 1 volume type"));
        }
        for file in files.into_iter().filter(|file| !file.is_empty()) {
            if !taken.insert(file.clone()) {
                errors.push(FieldError::invalid(&path, file, "conflicting duplicate paths"));
            }
        }
    }
}

fn token_seconds(errors: &mut FieldErrors, path: &FieldPath, seconds: Option<i64>) {
    match seconds {
        Some(seconds) if seconds < MIN_TOKEN_SECONDS => {
            errors.push(FieldError::invalid(path, seconds, "may not specify a duration less than 10 minutes"));
        }
        Some(seconds) if seconds > MAX_TOKEN_SECONDS => {
            errors.push(FieldError::invalid(path, seconds, "may not specify a duration larger than 2^32 seconds"));
        }
        Some(_) | None => {}
    }
}
