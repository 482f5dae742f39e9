//! What things are called in the documents: definitions, operations, tags. Clients are generated from these names, so they are
//! upstream's. Entry points: [`definition`], [`Naming`].

use crate::resources::ResourceInfo;

/// The definition of a kind that has no Go type: the group reversed, version, kind.
pub fn definition(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').rev().collect();
    parts.extend([version, kind]);
    parts.join(".")
}

/// The names in one group and version.
#[derive(Clone, Debug)]
pub struct Naming {
    group: String,
    version: String,
}

impl Naming {
    /// For a group, empty for core, and a version, empty for documents about the group as a whole.
    pub fn new(group: &str, version: &str) -> Self {
        let group = if group.is_empty() { "core" } else { group.strip_suffix(".k8s.io").unwrap_or(group) };
        let group: String = group.split('.').map(title).collect();
        Self { group, version: title(version) }
    }

    /// For example `core_v1`, `rbacAuthorization_v1`.
    pub fn tag(&self) -> String {
        let group = change_first(&self.group, |c| c.to_ascii_lowercase());
        if self.version.is_empty() { group } else { format!("{group}_{}", self.version.to_lowercase()) }
    }

    /// For example `read` + `NamespacedPodStatus`.
    pub fn operation(&self, verb: &str, what: &str) -> String {
        format!("{verb}{}{}{what}", self.group, self.version)
    }
}

/// `NamespacedPod` or `Node`.
pub fn scoped(info: &ResourceInfo) -> String {
    if info.namespaced { format!("Namespaced{}", info.kind) } else { info.kind.clone() }
}

/// With a capital.
pub fn title(word: &str) -> String {
    change_first(word, |c| c.to_ascii_uppercase())
}

/// `a Pod`, `an Ingress`, `Endpoints`.
pub fn with_article(kind: &str) -> String {
    if kind.ends_with('s') && !kind.ends_with("ss") {
        return kind.to_owned();
    }
    let article = if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    format!("{article} {kind}")
}

fn change_first(word: &str, change: fn(char) -> char) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| change(first).to_string() + chars.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_upstreams() {
        for (group, version, tag, operation) in [
            ("", "v1", "core_v1", "readCoreV1NamespacedPod"),
            ("apps", "v1", "apps_v1", "readAppsV1NamespacedPod"),
            ("rbac.authorization.k8s.io", "v1", "rbacAuthorization_v1", "readRbacAuthorizationV1NamespacedPod"),
            (
                "flowcontrol.apiserver.k8s.io",
                "v1",
                "flowcontrolApiserver_v1",
                "readFlowcontrolApiserverV1NamespacedPod",
            ),
            ("stable.example.com", "v1beta1", "stableExampleCom_v1beta1", "readStableExampleComV1beta1NamespacedPod"),
        ] {
            let naming = Naming::new(group, version);
            assert_eq!((naming.tag().as_str(), naming.operation("read", "NamespacedPod").as_str()), (tag, operation));
        }
        assert_eq!(Naming::new("events.k8s.io", "").tag(), "events");
        assert_eq!(definition("stable.example.com", "v1", "CronTab"), "com.example.stable.v1.CronTab");
        let article = |kind| with_article(kind);
        assert_eq!([article("Pod"), article("Ingress"), article("Endpoints")], ["a Pod", "an Ingress", "Endpoints"]);
    }
}
