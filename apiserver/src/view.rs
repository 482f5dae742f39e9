//! What access control reads of the cluster: objects as the watch cache holds them, at once and without waiting.
//!
//! Authentication and authorization decide on [`View`], never on the store: a decision costs no I/O. Invariant: `version` of a
//! kind changes whenever an object of that kind does, so whoever derives something from a kind knows when to derive it again.

use std::sync::Arc;

use api::names::Revision;
use bytes::Bytes;
use serde::de::DeserializeOwned;

/// One object as the cache holds it.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its key in the store.
    pub key: Arc<str>,
    /// The revision of its last write.
    pub revision: Revision,
    /// Its JSON.
    pub bytes: Bytes,
}

/// See the module. An empty namespace means cluster scope for `get` and everywhere for `list`.
pub trait View: Send + Sync + 'static {
    /// One object.
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Bytes>;
    /// All objects of a kind in key order.
    fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Item>;
    /// The pods that are bound to a node, in key order.
    fn pods_on(&self, node: &str) -> Vec<Item>;
    /// Grows with each change of an object of this kind.
    fn version(&self, group: &str, plural: &str) -> u64;
}

/// One object with its type; objects that do not decode are as good as absent.
pub fn get_as<T: DeserializeOwned>(
    view: &dyn View,
    group: &str,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Option<T> {
    serde_json::from_slice(&view.get(group, plural, namespace, name)?).ok()
}

/// What the keys of a kind begin with; of one namespace if it is not empty.
pub fn prefix(group: &str, plural: &str, namespace: &str) -> String {
    let mut prefix = String::from("/registry/");
    for part in [group, plural, namespace] {
        if !part.is_empty() {
            prefix.push_str(part);
            prefix.push('/');
        }
    }
    prefix
}

#[cfg(test)]
pub(crate) mod fixture {
    //! A cluster on paper for the tables of tests.

    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use api::error::ApiError;
    use serde_json::Value;

    use super::*;
    use crate::admission::Lookup;

    /// Objects by key.
    #[derive(Default)]
    pub(crate) struct Objects(Mutex<(u64, BTreeMap<String, Item>)>);

    impl Objects {
        /// With these objects: (group, plural, object).
        pub(crate) fn with(objects: &[(&str, &str, Value)]) -> Self {
            let all = Self::default();
            for (group, plural, value) in objects {
                all.put(group, plural, value.clone());
            }
            all
        }

        /// Adds or replaces an object.
        pub(crate) fn put(&self, group: &str, plural: &str, value: Value) {
            let part = |name: &str| value["metadata"][name].as_str().unwrap_or_default().to_owned();
            let key = format!("{}{}", prefix(group, plural, &part("namespace")), part("name"));
            let mut all = self.0.lock().unwrap();
            all.0 += 1;
            let item = Item {
                key: key.as_str().into(),
                revision: Revision(all.0),
                bytes: serde_json::to_vec(&value).unwrap().into(),
            };
            all.1.insert(key, item);
        }

        /// Removes an object.
        pub(crate) fn remove(&self, group: &str, plural: &str, namespace: &str, name: &str) {
            let mut all = self.0.lock().unwrap();
            all.0 += 1;
            all.1.remove(&format!("{}{name}", prefix(group, plural, namespace)));
        }
    }

    impl View for Objects {
        fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Bytes> {
            let key = format!("{}{name}", prefix(group, plural, namespace));
            self.0.lock().unwrap().1.get(&key).map(|item| item.bytes.clone())
        }

        fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Item> {
            let start = prefix(group, plural, namespace);
            self.0.lock().unwrap().1.values().filter(|item| item.key.starts_with(&start)).cloned().collect()
        }

        fn pods_on(&self, node: &str) -> Vec<Item> {
            let on_node =
                |item: &Item| serde_json::from_slice::<Value>(&item.bytes).unwrap()["spec"]["nodeName"] == node;
            View::list(self, "", "pods", "").into_iter().filter(on_node).collect()
        }

        fn version(&self, _: &str, _: &str) -> u64 {
            self.0.lock().unwrap().0
        }
    }

    #[async_trait::async_trait]
    impl Lookup for Objects {
        async fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Result<Option<Bytes>, ApiError> {
            Ok(View::get(self, group, plural, namespace, name))
        }

        async fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Bytes>, ApiError> {
            Ok(View::list(self, group, plural, namespace).into_iter().map(|item| item.bytes).collect())
        }
    }
}
