//! The sources that volumes of pods and PersistentVolumes share: disks, networks, drivers. One function each, which adds what
//! is wrong with the source's own fields.
//!
//! Invariant: order and paths are upstream's, oddities included.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{
    AWSElasticBlockStoreVolumeSource, AzureDiskVolumeSource, FCVolumeSource, FlockerVolumeSource,
    GCEPersistentDiskVolumeSource, HostPathVolumeSource, NFSVolumeSource, QuobyteVolumeSource,
};
use regex::Regex;

use super::checks;

const MAX_PARTITION: i32 = 255;
const MAX_LUN: i64 = 255;
const MAX_DRIVER: usize = 63;

/// A relative path that stays below where it starts.
pub fn descending_path(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    if value.starts_with('/') {
        errors.push(FieldError::invalid(path, value, "must be a relative path"));
    }
    no_backsteps(errors, path, value);
}

/// A path without `..`.
pub fn no_backsteps(errors: &mut FieldErrors, path: &FieldPath, value: &str) {
    if value.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, value, "must not contain '..'"));
    }
}

/// A directory or file of the node.
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

/// A Google disk.
pub fn gce_disk(errors: &mut FieldErrors, path: &FieldPath, source: &GCEPersistentDiskVolumeSource) {
    checks::required(errors, &path.child("pdName"), &source.pd_name);
    partition(errors, &path.child("partition"), source.partition);
}

/// An Amazon disk.
pub fn aws_disk(errors: &mut FieldErrors, path: &FieldPath, source: &AWSElasticBlockStoreVolumeSource) {
    checks::required(errors, &path.child("volumeID"), &source.volume_id);
    partition(errors, &path.child("partition"), source.partition);
}

/// Zero is fine, whatever the message says.
fn partition(errors: &mut FieldErrors, path: &FieldPath, partition: Option<i32>) {
    if let Some(partition) = partition.filter(|partition| !(0..=MAX_PARTITION).contains(partition)) {
        errors.push(FieldError::invalid(path, partition, "must be between 1 and 255, inclusive"));
    }
}

/// A directory of an NFS server.
pub fn nfs(errors: &mut FieldErrors, path: &FieldPath, source: &NFSVolumeSource) {
    checks::required(errors, &path.child("server"), &source.server);
    checks::required(errors, &path.child("path"), &source.path);
    if !source.path.starts_with('/') {
        errors.push(FieldError::invalid(&path.child("path"), &source.path, "must be an absolute path"));
    }
}

/// What both forms of an iSCSI disk say.
pub struct Iscsi<'a> {
    /// Qualified name of the target.
    pub iqn: &'a str,
    /// Number of the unit.
    pub lun: i32,
    /// Whether discovery or sessions authenticate.
    pub authenticates: bool,
    /// Name of the secret for that.
    pub secret: Option<&'a str>,
    /// Name of the initiator.
    pub initiator: Option<&'a str>,
    /// What is said of a name of no known kind: PersistentVolumes have fewer words for it.
    pub unknown_kind: &'static str,
}

impl Iscsi<'_> {
    /// All errors but those of the portal.
    pub fn validate(&self, errors: &mut FieldErrors, path: &FieldPath) {
        if self.iqn.is_empty() {
            errors.push(FieldError::required(&path.child("iqn"), ""));
        } else {
            self.qualified(errors, &path.child("iqn"), self.iqn);
        }
        checks::in_range(errors, &path.child("lun"), self.lun, 0, MAX_LUN);
        if self.authenticates && self.secret.is_none() {
            errors.push(FieldError::required(&path.child("secretRef"), ""));
        }
    }

    /// All errors of the initiator's name.
    pub fn validate_initiator(&self, errors: &mut FieldErrors, path: &FieldPath) {
        if let Some(initiator) = self.initiator {
            self.qualified(errors, &path.child("initiatorname"), initiator);
        }
    }

    fn qualified(&self, errors: &mut FieldErrors, path: &FieldPath, name: &str) {
        static KINDS: LazyLock<[(&str, Option<Regex>); 3]> = LazyLock::new(|| {
            [
                ("iqn", Regex::new(r"iqn\.\d{4}-\d{2}\.([[:alnum:].-]+)(:[^,;*&$|\s]+)$").ok()),
                ("eui", Regex::new("^eui.[[:alnum:]]{16}$").ok()),
                ("naa", Regex::new("^naa.[[:alnum:]]{32}$").ok()),
            ]
        });
        match KINDS.iter().find(|(kind, _)| name.starts_with(kind)) {
            None => errors.push(FieldError::invalid(path, name, self.unknown_kind)),
            Some((_, form)) if form.as_ref().is_some_and(|form| !form.is_match(name)) => {
                errors.push(FieldError::invalid(path, name, "must be valid format"));
            }
            Some(_) => {}
        }
    }
}

/// A Fibre Channel disk.
pub fn fibre_channel(errors: &mut FieldErrors, path: &FieldPath, source: &FCVolumeSource) {
    let names = source.target_wwns.as_deref().unwrap_or_default();
    let ids = source.wwids.as_deref().unwrap_or_default();
    let at = path.child("targetWWNs");
    if names.is_empty() && ids.is_empty() {
        errors.push(FieldError::required(&at, "must specify either targetWWNs or wwids, but not both"));
    }
    if !names.is_empty() && !ids.is_empty() {
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        errors.push(FieldError::invalid(&at, names, detail));
    }
    match source.lun {
        _ if names.is_empty() => {}
        None => errors.push(FieldError::required(&path.child("lun"), "lun is required if targetWWNs is specified")),
        Some(lun) => checks::in_range(errors, &path.child("lun"), lun, 0, MAX_LUN),
    }
}

/// A Glusterfs volume.
pub fn glusterfs(errors: &mut FieldErrors, path: &FieldPath, endpoints: &str, volume: &str) {
    checks::required(errors, &path.child("endpoints"), endpoints);
    checks::required(errors, &path.child("path"), volume);
}

/// A Flocker dataset.
pub fn flocker(errors: &mut FieldErrors, path: &FieldPath, source: &FlockerVolumeSource) {
    let name = source.dataset_name.as_deref().unwrap_or_default();
    let uuid = source.dataset_uuid.as_deref().unwrap_or_default();
    if name.is_empty() && uuid.is_empty() {
        errors.push(FieldError::required(path, "one of datasetName and datasetUUID is required"));
    }
    if !name.is_empty() && !uuid.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(FieldError::invalid(path, "resource", detail));
    }
    if name.contains('/') {
        errors.push(FieldError::invalid(&path.child("datasetName"), name, "must not contain '/'"));
    }
}

/// A Ceph block device.
pub fn rbd(errors: &mut FieldErrors, path: &FieldPath, monitors: &[String], image: &str) {
    if monitors.is_empty() {
        errors.push(FieldError::required(&path.child("monitors"), ""));
    }
    checks::required(errors, &path.child("image"), image);
}

/// A Quobyte volume.
pub fn quobyte(errors: &mut FieldErrors, path: &FieldPath, source: &QuobyteVolumeSource) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    const MAX_TENANT: usize = 64;
    let registry = path.child("registry");
    if source.registry.is_empty() {
        errors.push(FieldError::required(&registry, PAIRS));
    } else if source.tenant.as_ref().is_some_and(|tenant| tenant.len() > MAX_TENANT) {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(FieldError::required(&path.child("tenant"), detail));
    } else {
        for _ in source.registry.split(',').filter(|pair| !is_host_and_port(pair)) {
            errors.push(FieldError::invalid(&registry, &source.registry, PAIRS));
        }
    }
    checks::required(errors, &path.child("volume"), &source.volume);
}

fn is_host_and_port(pair: &str) -> bool {
    match pair.rsplit_once(':') {
        Some((host, _)) if host.starts_with('[') => host.ends_with(']'),
        Some((host, port)) => !host.contains([':', '[', ']']) && !port.contains(['[', ']']),
        None => false,
    }
}

/// A driver outside of Kubernetes, of the oldest kind.
pub fn flex(errors: &mut FieldErrors, path: &FieldPath, driver: &str, options: Option<&BTreeMap<String, String>>) {
    checks::required(errors, &path.child("driver"), driver);
    for key in options.into_iter().flatten().map(|(key, _)| key) {
        let domain = format!(".{}", key.split_once('/').map_or(key.as_str(), |(domain, _)| domain).to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(FieldError::invalid(&path.child("options").key(key), key, detail));
        }
    }
}

/// An Azure disk.
pub fn azure_disk(errors: &mut FieldErrors, path: &FieldPath, source: &AzureDiskVolumeSource) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    let (name, uri) = (source.disk_name.as_str(), source.disk_uri.as_str());
    checks::required(errors, &path.child("diskName"), name);
    checks::required(errors, &path.child("diskURI"), uri);
    if let Some(mode) = &source.caching_mode {
        checks::one_of(errors, &path.child("cachingMode"), mode, &["None", "ReadOnly", "ReadWrite"]);
    }
    let Some(kind) = source.kind.as_deref() else { return };
    checks::one_of(errors, &path.child("kind"), kind, &["Dedicated", "Managed", "Shared"]);
    let (prefix, form) = if kind == "Managed" { ("/subscriptions/", MANAGED) } else { ("https://", BLOB) };
    if !uri.starts_with(prefix) {
        errors.push(checks::unsupported(&path.child("diskURI"), uri, &[form]));
    }
}

/// A ScaleIO volume.
pub fn scale_io(errors: &mut FieldErrors, path: &FieldPath, gateway: &str, system: &str, volume: Option<&str>) {
    checks::required(errors, &path.child("gateway"), gateway);
    checks::required(errors, &path.child("system"), system);
    checks::required(errors, &path.child("volumeName"), volume.unwrap_or_default());
}

/// A StorageOS volume.
pub fn storage_os(errors: &mut FieldErrors, path: &FieldPath, volume: Option<&str>, namespace: Option<&str>) {
    match volume.unwrap_or_default() {
        "" => errors.push(FieldError::required(&path.child("volumeName"), "")),
        name => errors.push_invalid(&path.child("volumeName"), name, names::is_dns1123_label(name)),
    }
    if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
        errors.push_invalid(&path.child("volumeNamespace"), namespace, names::is_dns1123_label(namespace));
    }
}

/// The name of a CSI driver; an empty one is also malformed.
pub fn csi_driver(errors: &mut FieldErrors, path: &FieldPath, driver: &str) {
    checks::required(errors, path, driver);
    if driver.len() > MAX_DRIVER {
        errors.push(FieldError::too_long(path, MAX_DRIVER));
    }
    errors.push_invalid(path, driver, names::is_dns1123_subdomain(&driver.to_lowercase()));
}

/// A secret in a namespace, as PersistentVolumes name it; both names are only asked for.
pub fn secret_in_namespace(errors: &mut FieldErrors, path: &FieldPath, name: Option<&str>, namespace: Option<&str>) {
    checks::required(errors, &path.child("name"), name.unwrap_or_default());
    checks::required(errors, &path.child("namespace"), namespace.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn found(check: impl FnOnce(&mut FieldErrors, &FieldPath)) -> String {
        let mut errors = FieldErrors::new();
        check(&mut errors, &FieldPath::root("s"));
        errors.to_string()
    }

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("a source")
    }

    fn iscsi(iqn: &str) -> String {
        let source =
            Iscsi { iqn, lun: 256, authenticates: true, secret: None, initiator: Some("xyz"), unknown_kind: "?" };
        found(|errors, path| {
            source.validate(errors, path);
            source.validate_initiator(errors, path);
        })
    }

    #[test]
    fn what_is_refused() {
        let table = [
            (
                found(|e, p| gce_disk(e, p, &read(json!({"pdName": "", "partition": 256})))),
                "[s.pdName: Required value, s.partition: Invalid value: 256: must be between 1 and 255, inclusive]",
            ),
            (
                found(|e, p| nfs(e, p, &read(json!({"server": "s", "path": ""})))),
                "[s.path: Required value, s.path: Invalid value: \"\": must be an absolute path]",
            ),
            (
                iscsi("iqn.x"),
                "[s.iqn: Invalid value: \"iqn.x\": must be valid format, s.lun: Invalid value: 256: must be between 0 and 255, inclusive, s.secretRef: Required value, s.initiatorname: Invalid value: \"xyz\": ?]",
            ),
            (
                found(|e, p| fibre_channel(e, p, &read(json!({"targetWWNs": ["a"], "wwids": ["b"]})))),
                "[s.targetWWNs: Invalid value: [\"a\"]: targetWWNs and wwids can not be specified simultaneously, s.lun: Required value: lun is required if targetWWNs is specified]",
            ),
            (
                found(|e, p| quobyte(e, p, &read(json!({"registry": "a:1,b", "volume": ""})))),
                "[s.registry: Invalid value: \"a:1,b\": must be a host:port pair or multiple pairs separated by commas, s.volume: Required value]",
            ),
            (
                found(|e, p| flex(e, p, "d", Some(&BTreeMap::from([("x.K8s.io/a".to_owned(), String::new())])))),
                "s.options[x.K8s.io/a]: Invalid value: \"x.K8s.io/a\": kubernetes.io and k8s.io namespaces are reserved",
            ),
            (
                found(|e, p| azure_disk(e, p, &read(json!({"diskName": "d", "diskURI": "u", "kind": "Managed"})))),
                "s.diskURI: Unsupported value: \"u\": supported values: \"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}\"",
            ),
            (
                found(|e, p| csi_driver(e, p, "")),
                "[s: Required value, s: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')]",
            ),
        ];
        for (found, expected) in table {
            assert_eq!(found, expected);
        }
        assert!(iscsi("iqn.2001-04.com.example:storage.disk1").starts_with("[s.lun"));
    }
}
