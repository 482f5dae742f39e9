//! ServiceAccount: every pod runs as an account that exists, and gets a token of it unless somebody said no.

mod secrets;

use api::error::ApiError;
use api::well_known::annotations;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath, ObjectFieldSelector, Pod,
    PodSpec, ProjectedVolumeSource, ServiceAccount, ServiceAccountTokenProjection, Volume, VolumeMount,
    VolumeProjection,
};
use process::rng::Rng;

use super::{Attributes, Lookup, Operation, Plugin, find};
use crate::object::{Object, downcast, downcast_mut};
use crate::resources::Subresource;

const DEFAULT_ACCOUNT: &str = "default";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ROOT_CA: &str = "kube-root-ca.crt";
const FILE_MODE: i32 = 0o644;
/// An hour and seven seconds: by this number the server knows tokens that may live longer.
const EXPIRATION_SECONDS: i64 = 3607;

/// See the module.
pub struct ServiceAccounts {
    rng: Rng,
}

impl ServiceAccounts {
    /// Volume names come from this.
    pub fn new(rng: Rng) -> Self {
        Self { rng }
    }
}

#[async_trait]
impl Plugin for ServiceAccounts {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        let create = attributes.operation == Operation::Create && attributes.subresource.is_none();
        (create || is_debug(attributes)) && attributes.is_any("", "pods")
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        if attributes.subresource.is_some() {
            return Ok(());
        }
        let Some(pod) = object.and_then(downcast_mut::<Pod>) else { return Ok(()) };
        if is_mirror(pod) {
            return check_mirror(attributes, pod);
        }
        let spec = pod.spec.get_or_insert_default();
        let name = spec
            .service_account_name
            .clone()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned());
        spec.service_account_name = Some(name.clone());
        spec.service_account = Some(name.clone());
        let account = account_of(attributes, pod, &name, lookup).await?;
        let spec = pod.spec.get_or_insert_default();
        apply(spec, &account, || format!("{VOLUME_PREFIX}{}", self.rng.suffix(5)));
        Ok(())
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let Some(pod) = object.and_then(downcast::<Pod>) else { return Ok(()) };
        let debug = is_debug(attributes);
        if !debug && is_mirror(pod) {
            return check_mirror(attributes, pod);
        }
        let name = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or_default();
        let Some(spec) = pod.spec.as_ref().filter(|_| !name.is_empty()) else {
            let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
            let why = format!("no service account specified for pod {}/{pod_name}", attributes.namespace);
            return Err(attributes.forbidden(Some(pod), &why));
        };
        let account = account_of(attributes, pod, name, lookup).await?;
        match secrets::forbidden(spec, &account, debug) {
            Some(why) => Err(attributes.forbidden(Some(pod), &why)),
            None => Ok(()),
        }
    }
}

/// Whether ephemeral containers are added to a pod.
fn is_debug(attributes: &Attributes<'_>) -> bool {
    attributes.operation == Operation::Update && attributes.subresource == Some(Subresource::EphemeralContainers)
}

async fn account_of(
    attributes: &Attributes<'_>,
    pod: &Pod,
    name: &str,
    lookup: &dyn Lookup,
) -> Result<ServiceAccount, ApiError> {
    let namespace = attributes.namespace;
    let found = find::<ServiceAccount>(lookup, "", "serviceaccounts", namespace, name).await?;
    found.ok_or_else(|| {
        let missing = format!("serviceaccount \"{name}\" not found");
        attributes.forbidden(Some(pod), &format!("error looking up service account {namespace}/{name}: {missing}"))
    })
}

fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(annotations::CONFIG_MIRROR))
}

/// The mirror of a static pod shows what a node runs by itself; it may not reach for anything.
fn check_mirror(attributes: &Attributes<'_>, pod: &Pod) -> Result<(), ApiError> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let named = spec.service_account_name.as_deref().is_some_and(|name| !name.is_empty());
    let references = crate::authz::node::references(&Pod { metadata: Default::default(), ..pod.clone() });
    let secret = references.iter().any(|one| matches!(one, crate::authz::node::Reference::Secret(..)));
    let sources = || {
        spec.volumes
            .iter()
            .flatten()
            .filter_map(|volume| volume.projected.as_ref())
            .flat_map(|source| source.sources.iter().flatten())
    };
    let why = match () {
        () if named => "a mirror pod may not reference service accounts",
        () if secret => "a mirror pod may not reference secrets",
        () if sources().any(|source| source.service_account_token.is_some()) => {
            "a mirror pod may not use ServiceAccountToken volume projections"
        }
        () => return Ok(()),
    };
    Err(attributes.forbidden(Some(pod), why))
}

/// Gives the pod what its account has: a token, and secrets to pull images.
fn apply(spec: &mut PodSpec, account: &ServiceAccount, volume_name: impl FnOnce() -> String) {
    let automount = spec.automount_service_account_token.or(account.automount_service_account_token);
    if automount.unwrap_or(true) {
        mount_token(spec, volume_name);
    }
    if spec.image_pull_secrets.as_ref().is_none_or(Vec::is_empty) {
        let secrets = account.image_pull_secrets.clone().filter(|secrets| !secrets.is_empty());
        spec.image_pull_secrets = secrets.or(spec.image_pull_secrets.take());
    }
}

fn mount_token(spec: &mut PodSpec, volume_name: impl FnOnce() -> String) {
    let present =
        spec.volumes.iter().flatten().map(|volume| &volume.name).find(|name| name.starts_with(VOLUME_PREFIX)).cloned();
    let has_volume = present.is_some();
    let name = present.unwrap_or_else(volume_name);
    let mut needed = false;
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        needed |= mount(container, &name);
    }
    if needed && !has_volume {
        spec.volumes.get_or_insert_default().push(token_volume(name));
    }
}

fn mount(container: &mut Container, volume: &str) -> bool {
    let mounts = container.volume_mounts.get_or_insert_default();
    let occupied = mounts.iter().any(|mount| mount.mount_path == MOUNT_PATH);
    if !occupied {
        let mount = VolumeMount {
            name: volume.to_owned(),
            mount_path: MOUNT_PATH.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        };
        mounts.push(mount);
    }
    !occupied
}

fn token_volume(name: String) -> Volume {
    let token = ServiceAccountTokenProjection {
        path: "token".to_owned(),
        expiration_seconds: Some(EXPIRATION_SECONDS),
        audience: None,
    };
    let ca = KeyToPath { key: "ca.crt".to_owned(), path: "ca.crt".to_owned(), mode: None };
    let field = ObjectFieldSelector { api_version: Some("v1".to_owned()), field_path: "metadata.namespace".to_owned() };
    let namespace = DownwardAPIVolumeFile {
        path: "namespace".to_owned(),
        field_ref: Some(field),
        ..DownwardAPIVolumeFile::default()
    };
    let sources = vec![
        VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
        VolumeProjection {
            config_map: Some(ConfigMapProjection { name: ROOT_CA.to_owned(), items: Some(vec![ca]), optional: None }),
            ..VolumeProjection::default()
        },
        VolumeProjection {
            downward_api: Some(DownwardAPIProjection { items: Some(vec![namespace]) }),
            ..VolumeProjection::default()
        },
    ];
    let projected = ProjectedVolumeSource { default_mode: Some(FILE_MODE), sources: Some(sources) };
    Volume { name, projected: Some(projected), ..Volume::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::fixture::{create, resource};
    use crate::authn::User;
    use crate::view::fixture::Objects;
    use serde_json::{Value, json};

    async fn admit(spec: Value, annotations: Value) -> Result<Value, String> {
        let objects = Objects::with(&[
            ("", "serviceaccounts", json!({"metadata": {"name": "default", "namespace": "n"}})),
            (
                "",
                "serviceaccounts",
                json!({"metadata": {"name": "quiet", "namespace": "n"}, "automountServiceAccountToken": false, "imagePullSecrets": [{"name": "p"}]}),
            ),
        ]);
        let (pods, user) = (resource("", "pods", "Pod", true), User::default());
        let mut pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "x", "annotations": annotations}, "spec": spec}))
                .expect("a pod");
        let plugin = ServiceAccounts::new(Rng::seeded(1));
        let answer = plugin.mutate(&create(&pods, &user, "n"), Some(&mut pod), &objects).await;
        answer.map(|()| serde_json::to_value(&pod.spec).unwrap()).map_err(|error| error.message)
    }

    #[tokio::test]
    async fn pods_get_an_account_and_its_token() {
        let spec = admit(json!({"containers": [{"name": "c"}, {"name": "d", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}]}), json!({})).await.expect("admitted");
        assert_eq!((&spec["serviceAccountName"], &spec["serviceAccount"]), (&json!("default"), &json!("default")));
        let volume = spec["volumes"][0]["name"].as_str().expect("a volume");
        assert!(volume.starts_with(VOLUME_PREFIX) && volume.len() == VOLUME_PREFIX.len() + 5);
        assert_eq!(
            spec["containers"][0]["volumeMounts"],
            json!([{"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}])
        );
        assert_eq!(spec["containers"][1]["volumeMounts"].as_array().map(Vec::len), Some(1));
        assert_eq!(
            spec["volumes"][0]["projected"],
            json!({"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
                {"downwardAPI": {"items": [{"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"}]}},
            ]})
        );
    }

    #[tokio::test]
    async fn accounts_and_pods_may_decline() {
        let containers = json!([{"name": "c"}]);
        let spec =
            admit(json!({"containers": containers, "serviceAccountName": "quiet"}), json!({})).await.expect("admitted");
        assert_eq!((&spec["volumes"], &spec["imagePullSecrets"]), (&Value::Null, &json!([{"name": "p"}])));
        let spec = admit(json!({"containers": containers, "automountServiceAccountToken": false}), json!({}))
            .await
            .expect("admitted");
        assert_eq!(spec["volumes"], Value::Null);
        let missing = admit(json!({"containers": containers, "serviceAccountName": "zz"}), json!({})).await;
        assert_eq!(
            missing,
            Err("pods \"x\" is forbidden: error looking up service account n/zz: serviceaccount \"zz\" not found"
                .to_owned())
        );
        let mirror = admit(
            json!({"containers": containers, "serviceAccountName": "quiet"}),
            json!({"kubernetes.io/config.mirror": "h"}),
        )
        .await;
        assert_eq!(mirror, Err("pods \"x\" is forbidden: a mirror pod may not reference service accounts".to_owned()));
    }
}
