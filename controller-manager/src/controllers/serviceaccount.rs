//! Service accounts: every namespace that is not being deleted has the account `default`.
//!
//! Entry point: [`start`]. Invariant: an account that exists is never changed.

use api::ObjectKey;
use api::well_known::DEFAULT_SERVICE_ACCOUNT;
use client::{Change, Error, Outcome, Reconcile, WorkQueue, WrittenRevisions};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};

use crate::context::{Context, writing};
use crate::stores::Stores;

/// Runs the controller; its keys are namespaces.
pub fn start(context: &mut Context) {
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    let keys = queue.clone();
    context.stores.namespaces.on_change(move |change| keys.add(ObjectKey::of(&change.object().metadata)));
    let keys = queue.clone();
    context.stores.accounts.on_change(move |change: Change<ServiceAccount>| {
        if let Change::Delete { old } = &change {
            keys.add(ObjectKey::cluster(old.metadata.namespace.as_deref().unwrap_or_default()));
        }
    });
    let reconciler =
        ServiceAccounts { client: context.client.clone(), stores: context.stores.clone(), written: written.clone() };
    context.run(reconciler, queue, written, 1);
}

struct ServiceAccounts {
    client: Client,
    stores: Stores,
    written: WrittenRevisions<ObjectKey>,
}

/// Whether new objects may be put into the namespace.
pub(super) fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
}

/// The account to create, if one is missing.
fn plan(namespace: &Namespace, existing: Option<&ServiceAccount>) -> Option<ServiceAccount> {
    (is_active(namespace) && existing.is_none()).then(|| ServiceAccount {
        metadata: ObjectMeta {
            name: Some(DEFAULT_SERVICE_ACCOUNT.to_owned()),
            namespace: namespace.metadata.name.clone(),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    })
}

impl Reconcile for ServiceAccounts {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "serviceaccount"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(namespace) = self.stores.namespaces.get(key) else { return Ok(Outcome::Done) };
        let existing = self.stores.accounts.get(&ObjectKey::new(&key.name, DEFAULT_SERVICE_ACCOUNT));
        let Some(account) = plan(&namespace, existing.as_deref()) else { return Ok(Outcome::Done) };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.name);
        match api.create(&writing(), &account).await.map_err(Error::from) {
            Ok(account) => self.written.object(key, &self.stores.accounts, &account),
            Err(error) if error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found() => {}
            Err(error) => return Err(self.written.failed(key, &self.stores.accounts, error)),
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_account_is_made_once_and_not_in_a_dying_namespace() {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("n".into());
        let made = plan(&namespace, None).unwrap();
        assert_eq!(made.metadata.namespace.as_deref(), Some("n"));
        assert_eq!(plan(&namespace, Some(&made)), None);
        namespace.status.get_or_insert_default().phase = Some("Terminating".into());
        assert_eq!(plan(&namespace, None), None);
    }
}
