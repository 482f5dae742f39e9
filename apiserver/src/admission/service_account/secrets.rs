//! Accounts that name all the secrets their pods may use: `kubernetes.io/enforce-mountable-secrets`. Entry point: [`forbidden`]. Pure.

use k8s_openapi::api::core::v1::{EnvVar, PodSpec, ServiceAccount};

const ENFORCED: &str = "kubernetes.io/enforce-mountable-secrets";

/// What a pod uses that its account does not name, in upstream's words. Of a change of its ephemeral containers only these count.
pub fn forbidden(spec: &PodSpec, account: &ServiceAccount, only_ephemeral: bool) -> Option<String> {
    let annotation = account.metadata.annotations.as_ref().and_then(|all| all.get(ENFORCED));
    // The spellings of Go's ParseBool.
    if !annotation.is_some_and(|value| ["1", "t", "T", "TRUE", "true", "True"].contains(&value.as_str())) {
        return None;
    }
    let allowed = Allowed { account };
    if only_ephemeral {
        let mut containers = spec.ephemeral_containers.iter().flatten();
        return containers.find_map(|one| allowed.env("ephemeral container", &one.name, one.env.as_deref()));
    }
    let mut inits = spec.init_containers.iter().flatten();
    allowed
        .volumes(spec)
        .or_else(|| inits.find_map(|one| allowed.env("init container", &one.name, one.env.as_deref())))
        .or_else(|| spec.containers.iter().find_map(|one| allowed.env("container", &one.name, one.env.as_deref())))
        .or_else(|| allowed.pull_secrets(spec))
}

struct Allowed<'a> {
    account: &'a ServiceAccount,
}

impl Allowed<'_> {
    fn name(&self) -> &str {
        self.account.metadata.name.as_deref().unwrap_or_default()
    }

    fn mounts(&self, secret: &str) -> bool {
        self.account.secrets.iter().flatten().any(|named| named.name.as_deref() == Some(secret))
    }

    fn volumes(&self, spec: &PodSpec) -> Option<String> {
        let secrets = spec.volumes.iter().flatten().filter_map(|volume| volume.secret.as_ref()?.secret_name.as_deref());
        let secret = secrets.into_iter().find(|secret| !self.mounts(secret))?;
        let account = self.name();
        let rule = format!("is not allowed because service account {account} does not reference that secret");
        Some(format!("volume with secret.secretName=\"{secret}\" {rule}"))
    }

    fn env(&self, what: &str, container: &str, env: Option<&[EnvVar]>) -> Option<String> {
        let secret_of = |variable: &EnvVar| Some(variable.value_from.as_ref()?.secret_key_ref.as_ref()?.name.clone());
        let refers = env?.iter().filter_map(|variable| Some((variable.name.as_str(), secret_of(variable)?)));
        let (variable, secret) = refers.into_iter().find(|(_, secret)| !self.mounts(secret))?;
        let account = self.name();
        let rule = format!("is not allowed because service account {account} does not reference that secret");
        Some(format!("{what} {container} with envVar {variable} referencing secret.secretName=\"{secret}\" {rule}"))
    }

    fn pull_secrets(&self, spec: &PodSpec) -> Option<String> {
        let own = |secret: &str| self.account.image_pull_secrets.iter().flatten().any(|named| named.name == secret);
        let mut wanted = spec.image_pull_secrets.iter().flatten().enumerate();
        let (i, secret) = wanted.find(|(_, secret)| !own(&secret.name))?;
        let account = self.name();
        let rule = format!("is not allowed because service account {account} does not reference that imagePullSecret");
        Some(format!("imagePullSecrets[{i}].name=\"{}\" {rule}", secret.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_use_what_their_account_names() {
        let account = |enforced: &str| -> ServiceAccount {
            let meta = json!({"name": "a", "annotations": {ENFORCED: enforced}});
            let named = json!([{"name": "mine"}]);
            serde_json::from_value(json!({"metadata": meta, "secrets": named, "imagePullSecrets": named}))
                .expect("an account")
        };
        let env = |secret: &str| json!([{"name": "V", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}]);
        let rule = "is not allowed because service account a does not reference that";
        let table = [
            (json!({"containers": [], "volumes": [{"name": "v", "secret": {"secretName": "mine"}}]}), None),
            (
                json!({"containers": [], "volumes": [{"name": "v", "secret": {"secretName": "other"}}]}),
                Some(format!("volume with secret.secretName=\"other\" {rule} secret")),
            ),
            (json!({"containers": [{"name": "c", "env": env("mine")}]}), None),
            (
                json!({"containers": [{"name": "c", "env": env("other")}]}),
                Some(format!("container c with envVar V referencing secret.secretName=\"other\" {rule} secret")),
            ),
            (
                json!({"containers": [], "initContainers": [{"name": "i", "env": env("other")}]}),
                Some(format!("init container i with envVar V referencing secret.secretName=\"other\" {rule} secret")),
            ),
            (
                json!({"containers": [], "imagePullSecrets": [{"name": "mine"}, {"name": "other"}]}),
                Some(format!("imagePullSecrets[1].name=\"other\" {rule} imagePullSecret")),
            ),
        ];
        for (spec, expected) in table {
            let parsed: PodSpec = serde_json::from_value(spec.clone()).expect("a spec");
            assert_eq!(forbidden(&parsed, &account("true"), false), expected, "{spec}");
            assert_eq!(forbidden(&parsed, &account("false"), false), None, "{spec}");
        }
    }
}
