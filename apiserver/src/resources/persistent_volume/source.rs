//! What a PersistentVolume stands for: one disk, share or driver. Entry points: [`validate`], [`of`], [`warnings`].

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{
    AzureFilePersistentVolumeSource, CSIPersistentVolumeSource, GlusterfsPersistentVolumeSource,
    ISCSIPersistentVolumeSource, LocalVolumeSource, PersistentVolumeSpec, SecretReference,
};

use crate::resources::checks;
use crate::resources::volume_sources::{self as shared, Iscsi};

type Spec = PersistentVolumeSpec;

/// A type of volume: how upstream calls it where it is one too many, whether a spec has it, and its check.
struct Source {
    refused: &'static str,
    is_set: fn(&Spec) -> bool,
    validate: fn(&mut FieldErrors, &FieldPath, &Spec, &str) -> Option<()>,
}

/// Calls the check, whose closure learns from the source of what type it is.
fn run<T>(
    errors: &mut FieldErrors,
    path: &FieldPath,
    source: &T,
    volume: &str,
    check: impl FnOnce(&mut FieldErrors, &FieldPath, &T, &str),
) {
    check(errors, path, source, volume);
}

/// A row of [`SOURCES`]; the check gets the source, its path, and the name of the volume.
macro_rules! source {
    ($refused:literal, $field:ident, $name:literal, $check:expr) => {
        Source {
            refused: $refused,
            is_set: |spec| spec.$field.is_some(),
            validate: |errors, path, spec, volume| {
                let source = spec.$field.as_ref()?;
                run(errors, &path.child($name), source, volume, $check);
                Some(())
            },
        }
    };
}

/// In upstream's order.
const SOURCES: &[Source] = &[
    source!("hostPath", host_path, "hostPath", |e, p, s, _| shared::host_path(e, p, s)),
    source!("gcePersistentDisk", gce_persistent_disk, "persistentDisk", |e, p, s, _| shared::gce_disk(e, p, s)),
    source!("awsElasticBlockStore", aws_elastic_block_store, "awsElasticBlockStore", |e, p, s, _| shared::aws_disk(
        e, p, s
    )),
    source!("glusterfs", glusterfs, "glusterfs", |e, p, s, _| glusterfs(e, p, s)),
    source!("flocker", flocker, "flocker", |e, p, s, _| shared::flocker(e, p, s)),
    source!("nfs", nfs, "nfs", |e, p, s, _| shared::nfs(e, p, s)),
    source!("rbd", rbd, "rbd", |e, p, s, _| shared::rbd(e, p, &s.monitors, &s.image)),
    source!("quobyte", quobyte, "quobyte", |e, p, s, _| shared::quobyte(e, p, s)),
    source!("cephFS", cephfs, "cephfs", |e, p, s, _| {
        if s.monitors.is_empty() {
            e.push(FieldError::required(&p.child("monitors"), ""));
        }
    }),
    source!("iscsi", iscsi, "iscsi", iscsi),
    source!("cinder", cinder, "cinder", |e, p, s, _| {
        checks::required(e, &p.child("volumeID"), &s.volume_id);
        old_secret(e, &p.child("secretRef"), s.secret_ref.as_ref());
    }),
    source!("fc", fc, "fc", |e, p, s, _| shared::fibre_channel(e, p, s)),
    source!("flexVolume", flex_volume, "flexVolume", |e, p, s, _| shared::flex(e, p, &s.driver, s.options.as_ref())),
    source!("azureFile", azure_file, "azureFile", |e, p, s, _| azure_file(e, p, s)),
    source!("vsphereVolume", vsphere_volume, "vsphereVolume", |e, p, s, _| {
        checks::required(e, &p.child("volumePath"), &s.volume_path);
    }),
    source!("photonPersistentDisk", photon_persistent_disk, "photonPersistentDisk", |e, p, s, _| {
        checks::required(e, &p.child("pdID"), &s.pd_id);
    }),
    source!("portworxVolume", portworx_volume, "portworxVolume", |e, p, s, _| {
        checks::required(e, &p.child("volumeID"), &s.volume_id);
    }),
    source!("azureDisk", azure_disk, "azureDisk", |e, p, s, _| shared::azure_disk(e, p, s)),
    source!("scaleIO", scale_io, "scaleIO", |e, p, s, _| {
        shared::scale_io(e, p, &s.gateway, &s.system, s.volume_name.as_deref());
    }),
    source!("local", local, "local", |e, p, s, _| local(e, p, s)),
    source!("storageos", storageos, "storageos", |e, p, s, _| {
        shared::storage_os(e, p, s.volume_name.as_deref(), s.volume_namespace.as_deref());
        let secret = s.secret_ref.as_ref();
        if let Some(secret) = secret {
            shared::secret_in_namespace(e, &p.child("secretRef"), secret.name.as_deref(), secret.namespace.as_deref());
        }
    }),
    source!("csi", csi, "csi", |e, p, s, _| csi(e, p, s)),
];

/// All errors of the source; there is exactly one. `name` is the volume's.
pub fn validate(errors: &mut FieldErrors, path: &FieldPath, spec: &Spec, name: &str) {
    let mut set = SOURCES.iter().filter(|source| (source.is_set)(spec));
    let Some(first) = set.next() else {
        errors.push(FieldError::required(path, "must specify a volume type"));
        return;
    };
    (first.validate)(errors, path, spec, name);
    if first.refused == "local" && spec.node_affinity.is_none() {
        errors.push(FieldError::required(&path.child("nodeAffinity"), "Local volume requires node affinity"));
    }
    for further in set {
        // Upstream looks at these drivers' options however many sources there are.
        if further.refused == "flexVolume" {
            (further.validate)(errors, path, spec, name);
        } else {
            errors.push(FieldError::forbidden(&path.child(further.refused), "may not specify more than 1 volume type"));
        }
    }
}

/// The spec with nothing but its source.
pub fn of(spec: &Spec) -> Spec {
    Spec {
        access_modes: None,
        capacity: None,
        claim_ref: None,
        mount_options: None,
        node_affinity: None,
        persistent_volume_reclaim_policy: None,
        storage_class_name: None,
        volume_attributes_class_name: None,
        volume_mode: None,
        ..spec.clone()
    }
}

/// Sources that nothing serves any more.
pub fn warnings(path: &FieldPath, spec: &Spec) -> Vec<String> {
    let old = [
        (spec.cephfs.is_some(), "cephfs", "v1.28, non-functional in v1.31+"),
        (spec.photon_persistent_disk.is_some(), "photonPersistentDisk", "v1.11, non-functional in v1.16+"),
        (spec.scale_io.is_some(), "scaleIO", "v1.16, non-functional in v1.22+"),
        (spec.storageos.is_some(), "storageOS", "v1.22, non-functional in v1.25+"),
        (spec.glusterfs.is_some(), "glusterfs", "v1.25, non-functional in v1.26+"),
        (spec.rbd.is_some(), "rbd", "v1.28, non-functional in v1.31+"),
    ];
    let set = old.iter().filter(|(set, _, _)| *set);
    set.map(|(_, field, since)| format!("{}: deprecated in {since}", path.child(field))).collect()
}

fn glusterfs(errors: &mut FieldErrors, path: &FieldPath, source: &GlusterfsPersistentVolumeSource) {
    shared::glusterfs(errors, path, &source.endpoints, &source.path);
    let path = path.child("endpointsNamespace");
    match source.endpoints_namespace.as_deref() {
        None => {}
        Some("") => {
            let detail = "if the endpointnamespace is set, it must be a valid namespace name";
            errors.push(FieldError::invalid(&path, "", detail));
        }
        Some(namespace) => errors.push_invalid(&path, namespace, names::is_dns1123_label(namespace)),
    }
}

fn iscsi(errors: &mut FieldErrors, path: &FieldPath, source: &ISCSIPersistentVolumeSource, volume: &str) {
    const MAX_TARGET: usize = 64;
    let portal = &source.target_portal;
    checks::required(errors, &path.child("targetPortal"), portal);
    if source.initiator_name.is_some() && volume.len() + 1 + portal.len() > MAX_TARGET {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        errors.push(FieldError::invalid(&path.child("targetportal"), portal, detail));
    }
    let secret = source.secret_ref.as_ref().map(|secret| secret.name.as_deref().unwrap_or_default());
    let common = Iscsi {
        iqn: &source.iqn,
        lun: source.lun,
        authenticates: source.chap_auth_discovery == Some(true) || source.chap_auth_session == Some(true),
        secret,
        initiator: source.initiator_name.as_deref(),
        unknown_kind: "must be valid format",
    };
    common.validate(errors, path);
    if secret == Some("") {
        errors.push(FieldError::required(&path.child("secretRef").child("name"), ""));
    }
    common.validate_initiator(errors, path);
}

fn azure_file(errors: &mut FieldErrors, path: &FieldPath, source: &AzureFilePersistentVolumeSource) {
    checks::required(errors, &path.child("secretName"), &source.secret_name);
    checks::required(errors, &path.child("shareName"), &source.share_name);
    if source.secret_namespace.as_deref() == Some("") {
        errors.push(FieldError::required(&path.child("secretNamespace"), ""));
    }
}

fn local(errors: &mut FieldErrors, path: &FieldPath, source: &LocalVolumeSource) {
    checks::required(errors, &path.child("path"), &source.path);
    shared::no_backsteps(errors, &path.child("path"), &source.path);
}

fn old_secret(errors: &mut FieldErrors, path: &FieldPath, secret: Option<&SecretReference>) {
    if let Some(secret) = secret {
        shared::secret_in_namespace(errors, path, secret.name.as_deref(), secret.namespace.as_deref());
    }
}

fn csi(errors: &mut FieldErrors, path: &FieldPath, source: &CSIPersistentVolumeSource) {
    shared::csi_driver(errors, &path.child("driver"), &source.driver);
    checks::required(errors, &path.child("volumeHandle"), &source.volume_handle);
    let secrets = [
        ("controllerPublishSecretRef", &source.controller_publish_secret_ref),
        ("controllerExpandSecretRef", &source.controller_expand_secret_ref),
        ("nodePublishSecretRef", &source.node_publish_secret_ref),
        ("nodeExpandSecretRef", &source.node_expand_secret_ref),
    ];
    for (field, secret) in secrets {
        let Some(secret) = secret else { continue };
        let path = path.child(field);
        let name = secret.name.as_deref().unwrap_or_default();
        let namespace = secret.namespace.as_deref().unwrap_or_default();
        let rules: [(&str, &str, fn(&str) -> Vec<String>); 2] =
            [("name", name, names::is_dns1123_subdomain), ("namespace", namespace, names::is_dns1123_label)];
        for (field, value, rule) in rules {
            match value {
                "" => errors.push(FieldError::required(&path.child(field), "")),
                value => errors.push_invalid(&path.child(field), value, rule(value)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn one_source_with_its_fields() {
        let table = [
            (json!({}), "spec: Required value: must specify a volume type"),
            (
                json!({"local": {"path": "/a/../b"}}),
                "[spec.local.path: Invalid value: \"/a/../b\": must not contain '..', spec.nodeAffinity: Required value: Local volume requires node affinity]",
            ),
            (
                json!({"hostPath": {"path": "/a"}, "flexVolume": {"driver": ""}, "cephfs": {"monitors": []}}),
                "[spec.cephFS: Forbidden: may not specify more than 1 volume type, spec.flexVolume.driver: Required value]",
            ),
            (
                json!({"csi": {"driver": "d.example.org", "volumeHandle": "", "nodePublishSecretRef": {"name": "n"}}}),
                "[spec.csi.volumeHandle: Required value, spec.csi.nodePublishSecretRef.namespace: Required value]",
            ),
            (
                json!({"glusterfs": {"endpoints": "e", "path": "p", "endpointsNamespace": ""}}),
                "spec.glusterfs.endpointsNamespace: Invalid value: \"\": if the endpointnamespace is set, it must be a valid namespace name",
            ),
        ];
        for (spec, expected) in table {
            let spec: Spec = serde_json::from_value::<Value>(spec).and_then(serde_json::from_value).expect("a spec");
            let mut errors = FieldErrors::new();
            validate(&mut errors, &FieldPath::root("spec"), &spec, "v");
            assert_eq!(errors.to_string(), expected);
        }
    }

    #[test]
    fn the_source_alone() {
        let spec: Spec = serde_json::from_value(json!({"nfs": {"server": "s", "path": "/"}, "volumeMode": "Block",
            "capacity": {"storage": "1"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "c"}))
        .expect("a spec");
        assert_eq!(serde_json::to_value(of(&spec)).expect("json"), json!({"nfs": {"server": "s", "path": "/"}}));
    }
}
