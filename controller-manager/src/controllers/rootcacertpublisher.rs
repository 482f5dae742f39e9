//! Root CA publisher: every namespace has the ConfigMap `kube-root-ca.crt`, so that pods can verify the API server.
//!
//! Entry point: [`start`]. Without `--root-ca-file` there is nothing to publish.

use std::collections::BTreeMap;

use api::ObjectKey;
use api::well_known::ROOT_CA_CONFIG_MAP;
use client::{Change, Error, Outcome, Reconcile, WorkQueue, WrittenRevisions};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};

use super::serviceaccount::is_active;
use crate::context::{Context, writing};
use crate::stores::Stores;

const DATA_KEY: &str = "ca.crt";
const DESCRIPTION_KEY: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// Runs the controller; its keys are namespaces.
pub fn start(context: &mut Context) {
    let Some(root_ca) = context.config.root_ca.clone() else { return };
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    let keys = queue.clone();
    context.stores.namespaces.on_change(move |change| keys.add(ObjectKey::of(&change.object().metadata)));
    let keys = queue.clone();
    context.stores.root_cas.on_change(move |change: Change<ConfigMap>| {
        keys.add(ObjectKey::cluster(change.object().metadata.namespace.as_deref().unwrap_or_default()));
    });
    let (client, stores) = (context.client.clone(), context.stores.clone());
    context.run(RootCas { client, stores, root_ca, written: written.clone() }, queue, written, 1);
}

struct RootCas {
    client: Client,
    stores: Stores,
    root_ca: String,
    written: WrittenRevisions<ObjectKey>,
}

#[derive(Debug, PartialEq)]
enum Plan {
    Nothing,
    Create(ConfigMap),
    Update(ConfigMap),
}

fn plan(root_ca: &str, namespace: &Namespace, existing: Option<&ConfigMap>) -> Plan {
    if !is_active(namespace) {
        return Plan::Nothing;
    }
    let data: BTreeMap<_, _> = [(DATA_KEY.to_owned(), root_ca.to_owned())].into();
    let described = |existing: &ConfigMap| {
        let annotations = existing.metadata.annotations.as_ref();
        annotations.and_then(|annotations| annotations.get(DESCRIPTION_KEY)).is_some_and(|text| text == DESCRIPTION)
    };
    match existing {
        Some(existing) if existing.data.as_ref() == Some(&data) && described(existing) => Plan::Nothing,
        Some(existing) => {
            let mut wanted = ConfigMap { data: Some(data), ..existing.clone() };
            let annotations = wanted.metadata.annotations.get_or_insert_default();
            annotations.insert(DESCRIPTION_KEY.to_owned(), DESCRIPTION.to_owned());
            Plan::Update(wanted)
        }
        None => Plan::Create(ConfigMap {
            metadata: ObjectMeta {
                name: Some(ROOT_CA_CONFIG_MAP.to_owned()),
                namespace: namespace.metadata.name.clone(),
                annotations: Some([(DESCRIPTION_KEY.to_owned(), DESCRIPTION.to_owned())].into()),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        }),
    }
}

impl Reconcile for RootCas {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "rootcacertpublisher"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(namespace) = self.stores.namespaces.get(key) else { return Ok(Outcome::Done) };
        let existing = self.stores.root_cas.get(&ObjectKey::new(&key.name, ROOT_CA_CONFIG_MAP));
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.name);
        let answer = match plan(&self.root_ca, &namespace, existing.as_deref()) {
            Plan::Nothing => return Ok(Outcome::Done),
            Plan::Create(wanted) => api.create(&writing(), &wanted).await,
            Plan::Update(wanted) => api.replace(ROOT_CA_CONFIG_MAP, &writing(), &wanted).await,
        };
        match answer.map_err(Error::from) {
            Ok(new) => self.written.object(key, &self.stores.root_cas, &new),
            Err(error) if error.is_namespace_terminating() || error.is_not_found() => {}
            Err(error) => return Err(self.written.failed(key, &self.stores.root_cas, error)),
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_published_repaired_and_then_left_alone() {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("n".into());
        let Plan::Create(made) = plan("pem", &namespace, None) else { panic!("nothing made") };
        assert_eq!(plan("pem", &namespace, Some(&made)), Plan::Nothing);
        let mut damaged = made.clone();
        damaged.data.as_mut().unwrap().insert("more".into(), "1".into());
        assert_eq!(plan("pem", &namespace, Some(&damaged)), Plan::Update(made.clone()));
        let mut bare = made.clone();
        bare.metadata.annotations = None;
        assert_eq!(plan("pem", &namespace, Some(&bare)), Plan::Update(made));
    }
}
