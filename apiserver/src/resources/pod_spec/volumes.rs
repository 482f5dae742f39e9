//! Volumes of pods: exactly one source each, and the sources' own fields.

use std::collections::{BTreeMap, BTreeSet};

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{
    AzureFileVolumeSource as AzureFile, CSIVolumeSource, CephFSVolumeSource as CephFs, CinderVolumeSource as Cinder,
    ClusterTrustBundleProjection, ConfigMapVolumeSource as ConfigMapSource, DownwardAPIVolumeFile,
    DownwardAPIVolumeSource as DownwardApi, EmptyDirVolumeSource as EmptyDir, EphemeralVolumeSource,
    FlexVolumeSource as Flex, GitRepoVolumeSource as GitRepo, GlusterfsVolumeSource as Glusterfs, ISCSIVolumeSource,
    ImageVolumeSource, KeyToPath, LocalObjectReference, PersistentVolumeClaimVolumeSource as Claim,
    PhotonPersistentDiskVolumeSource as Photon, PortworxVolumeSource as Portworx, ProjectedVolumeSource,
    RBDVolumeSource as Rbd, ScaleIOVolumeSource as ScaleIo, SecretVolumeSource as SecretSource,
    StorageOSVolumeSource as StorageOs, Volume, VsphereVirtualDiskVolumeSource as Vsphere,
};

use super::containers::Volumes;
use super::{Of, env};
use crate::resources::volume_sources::{self as shared, Iscsi, descending_path};
use crate::resources::{checks, internal, persistent_volume_claim};

const MAX_MODE: i32 = 0o777;
const MIN_TOKEN_SECONDS: i64 = 10 * 60;
const MAX_TOKEN_SECONDS: i64 = 1 << 32;

/// A type of volume: what it is called where it is one too many, and how it is checked, if the volume has it.
struct Source {
    refused: &'static str,
    validate: fn(&mut FieldErrors, &FieldPath, &Volume, Of<'_>) -> Option<()>,
    is_set: fn(&Volume) -> bool,
}

/// A row of [`SOURCES`]: the name, the field of the volume, and the check of the field's value.
macro_rules! source {
    ($refused:literal, $field:ident, $name:literal, $check:expr) => {
        Source {
            refused: $refused,
            is_set: |volume| volume.$field.is_some(),
            validate: |errors, path, volume, of| {
                let source = volume.$field.as_ref()?;
                let context = Context { volume, of, path };
                ($check)(errors, &path.child($name), source, &context);
                Some(())
            },
        }
    };
}

/// What of its surroundings a source is checked against.
struct Context<'a> {
    volume: &'a Volume,
    of: Of<'a>,
    /// Of the volume.
    path: &'a FieldPath,
}

/// Upstream's order of the sources, by which "more than one" is decided, with its names for them.
const SOURCES: &[Source] = &[
    source!("emptyDir", empty_dir, "emptyDir", |e: &mut _, p: &_, source: &EmptyDir, _: &_| empty_dir(e, p, source)),
    source!("hostPath", host_path, "hostPath", |e: &mut _, p: &_, source: &_, _: &_| shared::host_path(e, p, source)),
    source!("gitRepo", git_repo, "gitRepo", |e: &mut _, p: &FieldPath, source: &GitRepo, _: &_| {
        checks::required(e, &p.child("repository"), &source.repository);
        descending_path(e, &p.child("directory"), source.directory.as_deref().unwrap_or_default());
    }),
    source!("gcePersistentDisk", gce_persistent_disk, "persistentDisk", |e: &mut _, p: &_, source: &_, _: &_| {
        shared::gce_disk(e, p, source);
    }),
    source!(
        "awsElasticBlockStore",
        aws_elastic_block_store,
        "awsElasticBlockStore",
        |e: &mut _, p: &_, s: &_, _: &_| {
            shared::aws_disk(e, p, s);
        }
    ),
    source!("secret", secret, "secret", |e: &mut _, p: &FieldPath, source: &SecretSource, _: &_| {
        checks::required(e, &p.child("secretName"), source.secret_name.as_deref().unwrap_or_default());
        files(e, p, source.default_mode, source.items.as_deref());
    }),
    source!("nfs", nfs, "nfs", |e: &mut _, p: &_, source: &_, _: &_| shared::nfs(e, p, source)),
    source!("iscsi", iscsi, "iscsi", iscsi),
    source!("glusterfs", glusterfs, "glusterfs", |e: &mut _, p: &_, source: &Glusterfs, _: &_| {
        shared::glusterfs(e, p, &source.endpoints, &source.path);
    }),
    source!("flocker", flocker, "flocker", |e: &mut _, p: &_, source: &_, _: &_| shared::flocker(e, p, source)),
    source!(
        "persistentVolumeClaim",
        persistent_volume_claim,
        "persistentVolumeClaim",
        |e: &mut _, p: &FieldPath, s: &Claim, _: &_| {
            checks::required(e, &p.child("claimName"), &s.claim_name);
        }
    ),
    source!("rbd", rbd, "rbd", |e: &mut _, p: &_, s: &Rbd, _: &_| shared::rbd(e, p, &s.monitors, &s.image)),
    source!("cinder", cinder, "cinder", |e: &mut _, p: &FieldPath, source: &Cinder, _: &_| {
        checks::required(e, &p.child("volumeID"), &source.volume_id);
        named_secret(e, &p.child("secretRef"), source.secret_ref.as_ref());
    }),
    source!("cephFS", cephfs, "cephfs", |e: &mut FieldErrors, p: &FieldPath, source: &CephFs, _: &_| {
        if source.monitors.is_empty() {
            e.push(FieldError::required(&p.child("monitors"), ""));
        }
    }),
    source!("quobyte", quobyte, "quobyte", |e: &mut _, p: &_, source: &_, _: &_| shared::quobyte(e, p, source)),
    source!("downwarAPI", downward_api, "downwardAPI", |e: &mut _, p: &FieldPath, source: &DownwardApi, _: &_| {
        mode(e, &p.child("defaultMode"), source.default_mode);
        for file in source.items.iter().flatten() {
            downward_file(e, p, file);
        }
    }),
    source!("fc", fc, "fc", |e: &mut _, p: &_, source: &_, _: &_| shared::fibre_channel(e, p, source)),
    source!("flexVolume", flex_volume, "flexVolume", |e: &mut _, p: &_, source: &Flex, _: &_| {
        shared::flex(e, p, &source.driver, source.options.as_ref());
    }),
    source!("configMap", config_map, "configMap", |e: &mut _, p: &FieldPath, source: &ConfigMapSource, _: &_| {
        checks::required(e, &p.child("name"), &source.name);
        files(e, p, source.default_mode, source.items.as_deref());
    }),
    source!("azureFile", azure_file, "azureFile", |e: &mut _, p: &FieldPath, source: &AzureFile, _: &_| {
        checks::required(e, &p.child("secretName"), &source.secret_name);
        checks::required(e, &p.child("shareName"), &source.share_name);
    }),
    source!("vsphereVolume", vsphere_volume, "vsphereVolume", |e: &mut _, p: &FieldPath, source: &Vsphere, _: &_| {
        checks::required(e, &p.child("volumePath"), &source.volume_path);
    }),
    source!(
        "photonPersistentDisk",
        photon_persistent_disk,
        "photonPersistentDisk",
        |e: &mut _, p: &FieldPath, s: &Photon, _: &_| {
            checks::required(e, &p.child("pdID"), &s.pd_id);
        }
    ),
    source!(
        "portworxVolume",
        portworx_volume,
        "portworxVolume",
        |e: &mut _, p: &FieldPath, source: &Portworx, _: &_| {
            checks::required(e, &p.child("volumeID"), &source.volume_id);
        }
    ),
    source!("azureDisk", azure_disk, "azureDisk", |e: &mut _, p: &_, source: &_, _: &_| shared::azure_disk(
        e, p, source
    )),
    source!("storageos", storageos, "storageos", |e: &mut _, p: &FieldPath, source: &StorageOs, _: &_| {
        shared::storage_os(e, p, source.volume_name.as_deref(), source.volume_namespace.as_deref());
        named_secret(e, &p.child("secretRef"), source.secret_ref.as_ref());
    }),
    source!("projected", projected, "projected", |e: &mut _, p: &FieldPath, source: &ProjectedVolumeSource, _: &_| {
        mode(e, &p.child("defaultMode"), source.default_mode);
        projected(e, p, source);
    }),
    source!("scaleIO", scale_io, "scaleIO", |e: &mut _, p: &_, source: &ScaleIo, _: &_| {
        shared::scale_io(e, p, &source.gateway, &source.system, source.volume_name.as_deref());
    }),
    source!("csi", csi, "csi", |e: &mut _, p: &_, source: &_, _: &_| csi(e, p, source)),
    source!("ephemeral", ephemeral, "ephemeral", ephemeral),
    source!("image", image, "image", image),
];

/// All errors of the list; answers the volumes that are valid.
pub fn validate(errors: &mut FieldErrors, path: &FieldPath, volumes: &[Volume], of: Of<'_>) -> Volumes {
    let mut valid = BTreeMap::new();
    let made = |claim: &str| {
        let mut made = volumes.iter().filter(|volume| volume.ephemeral.is_some());
        of.pod().is_some_and(|pod| made.any(|volume| claim == format!("{pod}-{}", volume.name)))
    };
    for (i, volume) in volumes.iter().enumerate() {
        let path = path.index(i);
        let mut found = FieldErrors::new();
        sources(&mut found, &path, volume, of);
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
        if let Some(claim) = volume.persistent_volume_claim.as_ref().filter(|claim| made(&claim.claim_name)) {
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            let path = path.child("persistentVolumeClaim").child("claimName");
            errors.push(FieldError::invalid(&path, &claim.claim_name, detail));
        }
    }
    valid
}

fn sources(errors: &mut FieldErrors, path: &FieldPath, volume: &Volume, of: Of<'_>) {
    let mut set = SOURCES.iter().filter(|source| (source.is_set)(volume));
    match set.next() {
        Some(first) => {
            (first.validate)(errors, path, volume, of);
        }
        None => errors.push(FieldError::required(path, "must specify a volume type")),
    }
    for further in set {
        errors.push(FieldError::forbidden(&path.child(further.refused), "may not specify more than 1 volume type"));
    }
}

fn empty_dir(errors: &mut FieldErrors, path: &FieldPath, source: &EmptyDir) {
    if source.size_limit.as_ref().is_some_and(|limit| checks::quantity(limit).is_negative()) {
        let detail = "SizeLimit field must be a valid resource quantity";
        errors.push(FieldError::forbidden(&path.child("sizeLimit"), detail));
    }
}

fn iscsi(errors: &mut FieldErrors, path: &FieldPath, source: &ISCSIVolumeSource, context: &Context<'_>) {
    const MAX_TARGET: usize = 64;
    checks::required(errors, &path.child("targetPortal"), &source.target_portal);
    let common = Iscsi {
        iqn: &source.iqn,
        lun: source.lun,
        authenticates: source.chap_auth_discovery == Some(true) || source.chap_auth_session == Some(true),
        secret: source.secret_ref.as_ref().map(|secret| secret.name.as_str()),
        initiator: source.initiator_name.as_deref(),
        unknown_kind: "must be valid format starting with iqn, eui, or naa",
    };
    common.validate(errors, path);
    common.validate_initiator(errors, path);
    let name = &context.volume.name;
    if source.initiator_name.is_some() && name.len() + 1 + source.target_portal.len() > MAX_TARGET {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        errors.push(FieldError::invalid(&context.path.child("name"), name, detail));
    }
}

fn csi(errors: &mut FieldErrors, path: &FieldPath, source: &CSIVolumeSource) {
    shared::csi_driver(errors, &path.child("driver"), &source.driver);
    match source.node_publish_secret_ref.as_ref().map(|secret| secret.name.as_str()) {
        None => {}
        Some("") => errors.push(FieldError::required(&path.child("nodePublishSecretRef").child("name"), "")),
        Some(name) => errors.push_invalid(&path.child("name"), name, names::is_dns1123_subdomain(name)),
    }
}

fn ephemeral(errors: &mut FieldErrors, path: &FieldPath, source: &EphemeralVolumeSource, context: &Context<'_>) {
    let template_path = path.child("volumeClaimTemplate");
    match &source.volume_claim_template {
        None => errors.push(FieldError::required(&template_path, "")),
        Some(template) => {
            let meta = template.metadata.clone().unwrap_or_default();
            checks::template_metadata(errors, &template_path.child("metadata"), &meta);
            persistent_volume_claim::validate_spec(errors, &template_path.child("spec"), &template.spec);
        }
    }
    let name = &context.volume.name;
    if let Some(pod) = context.of.pod().filter(|_| !name.is_empty()) {
        let claim = format!("{pod}-{name}");
        for message in names::is_dns1123_subdomain(&claim) {
            let detail = format!("PVC name {}: {message}", api::field::go_quote(&claim));
            errors.push(FieldError::invalid(&context.path.child("name"), name, detail));
        }
    }
}

/// A template may leave the image to whoever makes pods of it.
fn image(errors: &mut FieldErrors, path: &FieldPath, source: &ImageVolumeSource, context: &Context<'_>) {
    if context.of.is_pod() {
        checks::required(errors, &path.child("reference"), source.reference.as_deref().unwrap_or_default());
    }
    let policy = source.pull_policy.as_deref().unwrap_or_default();
    checks::required_one_of(errors, &path.child("pullPolicy"), policy, &["Always", "IfNotPresent", "Never"]);
}

fn named_secret(errors: &mut FieldErrors, path: &FieldPath, secret: Option<&LocalObjectReference>) {
    if let Some(secret) = secret {
        checks::required(errors, &path.child("name"), &secret.name);
    }
}

fn files(errors: &mut FieldErrors, path: &FieldPath, default_mode: Option<i32>, files: Option<&[KeyToPath]>) {
    mode(errors, &path.child("defaultMode"), default_mode);
    items(errors, &path.child("items"), files.unwrap_or_default());
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
