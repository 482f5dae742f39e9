//! Which labels a kubelet may give its own node: not those that steer workloads. Pure.

use std::collections::BTreeMap;

type Labels = BTreeMap<String, String>;

const RESTRICTED: &str = "node-restriction.kubernetes.io";
const KUBERNETES: [&str; 2] = ["kubernetes.io", "k8s.io"];
const KUBELET: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const KNOWN: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// The labels that are changed though they may not be, sorted.
pub fn forbidden(new: Option<&Labels>, old: Option<&Labels>) -> Vec<String> {
    let empty = Labels::new();
    let (new, old) = (new.unwrap_or(&empty), old.unwrap_or(&empty));
    let mut changed: Vec<&String> = new.keys().chain(old.keys()).filter(|key| new.get(*key) != old.get(*key)).collect();
    changed.sort();
    changed.dedup();
    changed.into_iter().filter(|key| !allowed(key)).cloned().collect()
}

fn allowed(key: &str) -> bool {
    let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
    let within =
        |domain: &&str| namespace.strip_suffix(*domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if within(&RESTRICTED) {
        return false;
    }
    !KUBERNETES.iter().any(within) || KNOWN.contains(&key) || KUBELET.iter().any(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kubelet_may_label() {
        let table = [
            ("team", true),
            ("example.org/x", true),
            ("kubernetes.io/hostname", true),
            ("node.kubernetes.io/anything", true),
            ("x.kubelet.kubernetes.io/y", true),
            ("node-role.kubernetes.io/control-plane", false),
            ("x.node-restriction.kubernetes.io/y", false),
            ("k8s.io/x", false),
            ("notk8s.io/x", true),
        ];
        for (key, expected) in table {
            assert_eq!(allowed(key), expected, "{key}");
        }
    }

    #[test]
    fn only_changes_count() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Labels>()
        };
        let (old, new) =
            (labels(&[("k8s.io/a", "1"), ("k8s.io/b", "1")]), labels(&[("k8s.io/a", "1"), ("k8s.io/c", "1")]));
        assert_eq!(forbidden(Some(&new), Some(&old)), ["k8s.io/b", "k8s.io/c"]);
    }
}
