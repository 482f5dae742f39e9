//! What plugins that ask others (webhooks, policies) need to know of a request besides its object.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::object::Object;
use crate::write::Place;

/// See the module.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Where and for whom it happens: the server, the kind, warnings, annotations, options.
    pub place: &'a Place<'a>,
    /// What the request is about, where that is no object of the resource's kind.
    pub other: Option<&'a Other>,
    /// Whether plugins are asked a second time.
    pub rounds: &'a Rounds,
}

/// The object of a request for a subresource that has a kind of its own: a Scale, a Binding, an Eviction, the options of exec.
pub struct Other {
    /// Its API group.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// Itself, as the client sent it.
    pub object: Value,
    /// What it was before, for updates.
    pub old: Option<Value>,
}

impl Other {
    /// A new one.
    pub fn of<T: k8s_openapi::Resource + Object>(object: &T) -> Self {
        Self { group: T::GROUP, version: T::VERSION, kind: T::KIND, object: object.to_value(), old: None }
    }

    /// Group and version as objects name them.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The labels of itself and of what it was before.
    pub fn labels(&self) -> [BTreeMap<String, String>; 2] {
        let labels = |object: &Value| {
            object.pointer("/metadata/labels").and_then(|labels| serde_json::from_value(labels.clone()).ok())
        };
        [labels(&self.object), self.old.as_ref().and_then(labels)].map(Option::unwrap_or_default)
    }
}

/// Mutating plugins are asked again, once, when one that asks others has changed the object: upstream's reinvocation.
#[derive(Default)]
pub struct Rounds {
    wanted: AtomicBool,
    second: AtomicBool,
    kept: Mutex<BTreeMap<&'static str, Box<dyn Any + Send>>>,
}

impl Rounds {
    /// This is the second time.
    pub fn is_second(&self) -> bool {
        self.second.load(Ordering::Relaxed)
    }

    /// The object changed: ask again.
    pub fn want_second(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Begins the second round, if one is wanted and this was the first.
    pub(crate) fn begin_second(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) && !self.second.swap(true, Ordering::Relaxed)
    }

    /// What a plugin keeps from the first round to the second, made when it is first asked for.
    pub fn with<T: Default + Send + 'static, R>(&self, plugin: &'static str, act: impl FnOnce(&mut T) -> R) -> R {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.entry(plugin).or_insert_with(|| Box::<T>::default());
        if !kept.is::<T>() {
            *kept = Box::<T>::default();
        }
        act(kept.downcast_mut().expect("it was just made sure of"))
    }
}
