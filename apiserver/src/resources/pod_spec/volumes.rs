//! Volumes of pods: exactly one source each, and the sources' own fields.

use std::collections::{BTreeMap, BTreeSet};

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{
    ClusterTrustBundleProjection, DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, PersistentVolumeSpec,
    ProjectedVolumeSource, Volume,
};
use serde::Serialize;
use serde_json::Value;

use super::containers::{Volumes, descending_path, no_backsteps};
use super::env;
use crate::resources::{checks, internal, persistent_volume_claim};

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
        projected(errors, &path, source);
    }
    if let (Some(source), "ephemeral") = (&volume.ephemeral, name) {
        let path = path.child("volumeClaimTemplate");
        match &source.volume_claim_template {
            None => errors.push(FieldError::required(&path, "")),
            Some(template) => {
                let meta = template.metadata.clone().unwrap_or_default();
                checks::template_metadata(errors, &path.child("metadata"), &meta);
                persistent_volume_claim::validate_spec(errors, &path.child("spec"), &template.spec);
            }
        }
    }
    if let (Some(source), "iscsi") = (&volume.iscsi, name) {
        checks::in_range(errors, &path.child("lun"), source.lun, 0, 255);
    }
    if let (Some(source), "image") = (&volume.image, name) {
        let policy = source.pull_policy.as_deref().unwrap_or_default();
        checks::required_one_of(errors, &path.child("pullPolicy"), policy, &["Always", "IfNotPresent", "Never"]);
    }
    if let (Some(source), "gitRepo") = (&volume.git_repo, name) {
        descending_path(errors, &path.child("directory"), source.directory.as_deref().unwrap_or_default());
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
        items_item(errors, &path.index(i), item);
    }
}

fn items_item(errors: &mut FieldErrors, path: &FieldPath, item: &KeyToPath) {
    checks::required(errors, &path.child("key"), &item.key);
    file_path(errors, &path.child("path"), &item.path);
    mode(errors, &path.child("mode"), item.mode);
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

fn projected(errors: &mut FieldErrors, whole: &FieldPath, volume: &ProjectedVolumeSource) {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    // Upstream says of the whole volume which paths collide, and names the source instead of the path.
    let mut place = |errors: &mut FieldErrors, file: &str, shown: &str| {
        if !file.is_empty() && !taken.insert(file.to_owned()) {
            errors.push(FieldError::invalid(whole, shown, "conflicting duplicate paths"));
        }
    };
    for (i, source) in volume.sources.iter().flatten().enumerate() {
        let path = whole.child("sources").index(i);
        let mut kinds = 0;
        let named = [
            ("secret", source.secret.as_ref().map(|secret| (&secret.name, &secret.items))),
            ("configMap", source.config_map.as_ref().map(|map| (&map.name, &map.items))),
        ];
        for (kind, source) in named {
            let Some((name, list)) = source else { continue };
            kinds += 1;
            let path = path.child(kind);
            checks::required(errors, &path.child("name"), name);
            for (i, item) in list.iter().flatten().enumerate() {
                items_item(errors, &path.child("items").index(i), item);
                place(errors, &item.path, name);
            }
        }
        if let Some(downward) = &source.downward_api {
            kinds += 1;
            for file in downward.items.iter().flatten() {
                downward_file(errors, &path.child("downwardAPI"), file);
                place(errors, &file.path, &file.path);
            }
        }
        if let Some(token) = &source.service_account_token {
            kinds += 1;
            token_seconds(
                errors,
                &path.child("serviceAccountToken").child("expirationSeconds"),
                token.expiration_seconds,
            );
            file_path(errors, &whole.child("path"), &token.path);
        }
        if let Some(bundle) = &source.cluster_trust_bundle {
            kinds += 1;
            trust_bundle(errors, &path.child("clusterTrustBundle"), bundle);
            place(errors, &bundle.path, &bundle.path);
        }
        kinds += i32::from(source.pod_certificate.is_some());
        if kinds > 1 {
            errors.push(FieldError::forbidden(&path, "may not specify more than 1 volume type per source"));
        }
    }
}

fn trust_bundle(errors: &mut FieldErrors, path: &FieldPath, bundle: &ClusterTrustBundleProjection) {
    match (&bundle.name, &bundle.signer_name) {
        (Some(_), Some(_)) => {
            let detail = "only one of name and signerName may be used";
            errors.push(internal::invalid(path, "v1.ClusterTrustBundleProjection", bundle, detail));
        }
        (Some(name), None) if name.is_empty() => {
            errors.push(FieldError::required(&path.child("name"), "must be a valid object name"));
        }
        (None, Some(signer)) if signer.is_empty() => {
            errors.push(FieldError::required(&path.child("signerName"), "must be a valid signer name"));
        }
        (None, None) => errors.push(FieldError::required(path, "either name or signerName must be specified")),
        (Some(_), None) | (None, Some(_)) => {}
    }
    file_path(errors, &path.child("path"), &bundle.path);
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
