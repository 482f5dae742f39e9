//! Service account tokens in secrets: fills secrets of type `kubernetes.io/service-account-token`, and removes them with their account.
//!
//! Entry point: [`start`]. Without `--service-account-private-key-file` secrets are not filled. Invariant: a secret is
//! deleted only after a live look confirmed that its account is gone.

use std::path::PathBuf;
use std::sync::OnceLock;

use api::ObjectKey;
use api::well_known::annotations::{SERVICE_ACCOUNT_NAME, SERVICE_ACCOUNT_UID};
use api::well_known::users::SERVICE_ACCOUNT_PREFIX;
use client::{Change, Error, Outcome, Reconcile, WorkQueue, WrittenRevisions};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{Api, Client};
use serde_json::json;

use crate::context::{Context, deleting, writing};
use crate::stores::{BY_ACCOUNT, Stores, TOKEN_SECRET, account_of};

const TOKEN: &str = "token";
const CA: &str = "ca.crt";
const NAMESPACE: &str = "namespace";
/// The issuer of tokens without an expiry, by which the API server knows them.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// Runs the controller; its keys are secrets.
pub fn start(context: &mut Context) {
    let signer = context.config.service_account_key.clone().map(|file| Signer { file, key: OnceLock::new() });
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    let keys = queue.clone();
    context.stores.token_secrets.on_change(move |change| keys.add(ObjectKey::of(&change.object().metadata)));
    let (keys, secrets) = (queue.clone(), context.stores.token_secrets.clone());
    context.stores.accounts.on_change(move |change: Change<ServiceAccount>| {
        let account = ObjectKey::of(&change.object().metadata);
        for secret in secrets.by_index(BY_ACCOUNT, &account.to_string()) {
            keys.add(ObjectKey::of(&secret.metadata));
        }
    });
    let (client, stores, root_ca) = (context.client.clone(), context.stores.clone(), context.config.root_ca.clone());
    context.run(Tokens { client, stores, signer, root_ca, written: written.clone() }, queue, written, 1);
}

/// Signs tokens with the cluster's key, which may be written after this process has started.
struct Signer {
    file: PathBuf,
    key: OnceLock<(EncodingKey, Algorithm)>,
}

/// Why a token can't be signed.
#[derive(Debug, thiserror::Error)]
enum SignError {
    #[error("the service account key in {0} can't be read: {1}")]
    Read(PathBuf, std::io::Error),
    #[error("the service account key can't be used: {0}")]
    Key(#[from] jsonwebtoken::errors::Error),
}

impl Signer {
    fn key(&self) -> Result<&(EncodingKey, Algorithm), SignError> {
        if let Some(key) = self.key.get() {
            return Ok(key);
        }
        let pem = std::fs::read(&self.file).map_err(|error| SignError::Read(self.file.clone(), error))?;
        let key = match EncodingKey::from_rsa_pem(&pem) {
            Ok(key) => (key, Algorithm::RS256),
            Err(_) => (EncodingKey::from_ec_pem(&pem)?, Algorithm::ES256),
        };
        Ok(self.key.get_or_init(|| key))
    }

    fn token(&self, secret: &ObjectKey, account: &ServiceAccount) -> Result<String, SignError> {
        let (key, algorithm) = self.key()?;
        let name = account.metadata.name.as_deref().unwrap_or_default();
        let claims = json!({
            "iss": LEGACY_ISSUER,
            "kubernetes.io/serviceaccount/namespace": secret.namespace(),
            "kubernetes.io/serviceaccount/secret.name": secret.name,
            "kubernetes.io/serviceaccount/service-account.name": name,
            "kubernetes.io/serviceaccount/service-account.uid": account.metadata.uid,
            "sub": format!("{SERVICE_ACCOUNT_PREFIX}{}:{name}", secret.namespace()),
        });
        Ok(jsonwebtoken::encode(&Header { typ: None, ..Header::new(*algorithm) }, &claims, key)?)
    }
}

struct Tokens {
    client: Client,
    stores: Stores,
    signer: Option<Signer>,
    root_ca: Option<String>,
    written: WrittenRevisions<ObjectKey>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Plan {
    Nothing,
    /// Its account is not there, or is another one of that name.
    Delete,
    Fill,
}

fn plan(secret: &Secret, account: Option<&ServiceAccount>, root_ca: Option<&str>) -> Plan {
    if secret.type_.as_deref() != Some(TOKEN_SECRET) || secret.metadata.deletion_timestamp.is_some() {
        return Plan::Nothing;
    }
    let uid = secret.metadata.annotations.as_ref().and_then(|annotations| annotations.get(SERVICE_ACCOUNT_UID));
    let Some(account) =
        account.filter(|account| uid.is_none_or(|uid| uid.is_empty() || Some(uid) == account.metadata.uid.as_ref()))
    else {
        return Plan::Delete;
    };
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).filter(|value| !value.0.is_empty());
    let has_ca = root_ca.is_none_or(|ca| data(CA).is_some_and(|value| value.0 == ca.as_bytes()));
    let complete = has_ca && data(TOKEN).is_some() && data(NAMESPACE).is_some() && uid == account.metadata.uid.as_ref();
    if complete { Plan::Nothing } else { Plan::Fill }
}

impl Reconcile for Tokens {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "serviceaccount-token"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(secret) = self.stores.token_secrets.get(key) else { return Ok(Outcome::Done) };
        let Some(account_key) = account_of(&secret) else { return Ok(Outcome::Done) };
        let account = self.stores.accounts.get(&account_key);
        match plan(&secret, account.as_deref(), self.root_ca.as_deref()) {
            Plan::Nothing => {}
            Plan::Delete => self.delete(key, &secret, &account_key).await?,
            Plan::Fill => self.fill(key, &secret, account.as_deref()).await?,
        }
        Ok(Outcome::Done)
    }
}

impl Tokens {
    async fn delete(&self, key: &ObjectKey, secret: &Secret, account: &ObjectKey) -> Result<(), Error> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), account.namespace());
        let live = accounts.get_opt(&account.name).await?;
        if plan(secret, live.as_ref(), self.root_ca.as_deref()) != Plan::Delete {
            return Err(Error::Undecided(format!("service account {account} has come back")));
        }
        let uid = secret.metadata.uid.as_deref().unwrap_or_default();
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), key.namespace());
        match secrets.delete(&key.name, &deleting(uid)).await.map_err(Error::from) {
            Ok(answer) => {
                self.written.deletion(key, &self.stores.token_secrets, key, uid, &answer);
                Ok(())
            }
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn fill(&self, key: &ObjectKey, secret: &Secret, account: Option<&ServiceAccount>) -> Result<(), Error> {
        let (Some(signer), Some(account)) = (&self.signer, account) else { return Ok(()) };
        let mut wanted = secret.clone();
        let data = wanted.data.get_or_insert_default();
        if data.get(TOKEN).is_none_or(|token| token.0.is_empty()) {
            let token =
                signer.token(key, account).map_err(|error| Error::Undecided(format!("signing a token: {error}")))?;
            data.insert(TOKEN.to_owned(), ByteString(token.into_bytes()));
        }
        data.insert(NAMESPACE.to_owned(), ByteString(key.namespace().as_bytes().to_vec()));
        if let Some(ca) = &self.root_ca {
            data.insert(CA.to_owned(), ByteString(ca.as_bytes().to_vec()));
        }
        let annotations = wanted.metadata.annotations.get_or_insert_default();
        annotations.insert(SERVICE_ACCOUNT_NAME.to_owned(), account.metadata.name.clone().unwrap_or_default());
        annotations.insert(SERVICE_ACCOUNT_UID.to_owned(), account.metadata.uid.clone().unwrap_or_default());
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), key.namespace());
        match secrets.replace(&key.name, &writing(), &wanted).await.map_err(Error::from) {
            Ok(new) => {
                self.written.object(key, &self.stores.token_secrets, &new);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(self.written.failed(key, &self.stores.token_secrets, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(uid: Option<&str>, keys: &[&str]) -> Secret {
        let mut secret = Secret { type_: Some(TOKEN_SECRET.into()), ..Secret::default() };
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(SERVICE_ACCOUNT_NAME.into(), "a".into());
        if let Some(uid) = uid {
            annotations.insert(SERVICE_ACCOUNT_UID.into(), uid.into());
        }
        secret.data = Some(keys.iter().map(|key| ((*key).to_owned(), ByteString(b"x".to_vec()))).collect());
        secret
    }

    #[test]
    fn secrets_follow_their_account() {
        let mut account = ServiceAccount::default();
        account.metadata.uid = Some("u".into());
        let full = [TOKEN, CA, NAMESPACE];
        let table = [
            ("new", secret(None, &[]), Some(&account), Plan::Fill),
            ("complete", secret(Some("u"), &full), Some(&account), Plan::Nothing),
            ("without a token", secret(Some("u"), &full[1..]), Some(&account), Plan::Fill),
            ("of another account", secret(Some("v"), &full), Some(&account), Plan::Delete),
            ("of no account", secret(Some("u"), &full), None, Plan::Delete),
        ];
        for (what, secret, account, expected) in table {
            assert_eq!(plan(&secret, account, Some("x")), expected, "{what}");
        }
    }
}
