//! Which objects a pod refers to by its spec: what its node must be able to read. Pure. Entry point: [`references`].

use api::well_known::annotations;
use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, Pod, Volume, VolumeProjection};

/// An object that a pod needs: namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// Mounted, in the environment, or to pull images.
    Secret(String, String),
    /// Mounted or in the environment.
    ConfigMap(String, String),
    /// The account that the pod runs as.
    ServiceAccount(String, String),
    /// A mounted claim.
    Claim(String, String),
    /// A claimed device.
    ResourceClaim(String, String),
}

/// All references of a pod, sorted; mirrors of static pods refer to nothing.
pub fn references(pod: &Pod) -> Vec<Reference> {
    let mirror = pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(annotations::CONFIG_MIRROR));
    let (Some(spec), false) = (&pod.spec, mirror) else { return Vec::new() };
    let mut found = Found { namespace: pod.metadata.namespace.clone().unwrap_or_default(), all: Vec::new() };
    found.add(Reference::ServiceAccount, spec.service_account_name.as_deref());
    for secret in spec.image_pull_secrets.iter().flatten() {
        found.add(Reference::Secret, Some(&secret.name));
    }
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        found.container(container);
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        found.environment(container.env.as_deref(), container.env_from.as_deref());
    }
    for volume in spec.volumes.iter().flatten() {
        found.volume(volume, pod.metadata.name.as_deref().unwrap_or_default());
    }
    for claim in spec.resource_claims.iter().flatten() {
        found.add(Reference::ResourceClaim, claim.resource_claim_name.as_deref());
    }
    for claim in pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten()) {
        found.add(Reference::ResourceClaim, claim.resource_claim_name.as_deref());
    }
    found.all.sort();
    found.all.dedup();
    found.all
}

struct Found {
    namespace: String,
    all: Vec<Reference>,
}

impl Found {
    fn add(&mut self, kind: fn(String, String) -> Reference, name: Option<&str>) {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            self.all.push(kind(self.namespace.clone(), name.to_owned()));
        }
    }

    fn container(&mut self, container: &Container) {
        self.environment(container.env.as_deref(), container.env_from.as_deref());
    }

    fn environment(&mut self, env: Option<&[EnvVar]>, env_from: Option<&[EnvFromSource]>) {
        for source in env.unwrap_or_default().iter().filter_map(|variable| variable.value_from.as_ref()) {
            self.add(Reference::Secret, source.secret_key_ref.as_ref().map(|key| key.name.as_str()));
            self.add(Reference::ConfigMap, source.config_map_key_ref.as_ref().map(|key| key.name.as_str()));
        }
        for source in env_from.unwrap_or_default() {
            self.add(Reference::Secret, source.secret_ref.as_ref().map(|secret| secret.name.as_str()));
            self.add(Reference::ConfigMap, source.config_map_ref.as_ref().map(|map| map.name.as_str()));
        }
    }

    fn volume(&mut self, volume: &Volume, pod: &str) {
        self.add(Reference::Secret, volume.secret.as_ref().and_then(|source| source.secret_name.as_deref()));
        self.add(Reference::ConfigMap, volume.config_map.as_ref().map(|source| source.name.as_str()));
        self.add(Reference::Claim, volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.as_str()));
        if volume.ephemeral.is_some() {
            self.add(Reference::Claim, Some(&format!("{pod}-{}", volume.name)));
        }
        let publish = volume.csi.as_ref().and_then(|source| source.node_publish_secret_ref.as_ref());
        self.add(Reference::Secret, publish.map(|secret| secret.name.as_str()));
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            self.projection(source);
        }
    }

    fn projection(&mut self, source: &VolumeProjection) {
        self.add(Reference::Secret, source.secret.as_ref().map(|secret| secret.name.as_str()));
        self.add(Reference::ConfigMap, source.config_map.as_ref().map(|map| map.name.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn everything_a_pod_names_is_found_once() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n"},
            "spec": {
                "serviceAccountName": "sa",
                "imagePullSecrets": [{"name": "pull"}],
                "initContainers": [{"name": "i", "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s1", "key": "k"}}}]}],
                "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "m1"}}, {"secretRef": {"name": "s1"}}]}],
                "volumes": [
                    {"name": "a", "secret": {"secretName": "s2"}},
                    {"name": "b", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
                    {"name": "c", "ephemeral": {}},
                ],
            },
        }))
        .expect("a pod");
        let n = || "n".to_owned();
        let expected = vec![
            Reference::Secret(n(), "pull".to_owned()),
            Reference::Secret(n(), "s1".to_owned()),
            Reference::Secret(n(), "s2".to_owned()),
            Reference::ConfigMap(n(), "kube-root-ca.crt".to_owned()),
            Reference::ConfigMap(n(), "m1".to_owned()),
            Reference::ServiceAccount(n(), "sa".to_owned()),
            Reference::Claim(n(), "p-c".to_owned()),
        ];
        assert_eq!(references(&pod), expected);
        let mut mirror = pod;
        mirror.metadata.annotations = Some([(annotations::CONFIG_MIRROR.to_owned(), String::new())].into());
        assert_eq!(references(&mirror), Vec::new());
    }
}
