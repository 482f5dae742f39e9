//! The RBAC roles and bindings of a new cluster, read from `manifests/bootstrap/`. Entry point: [`policy`].
//!
//! Invariant: the files are part of the program, and a test reads them all, so reading them does not fail.

use std::collections::BTreeMap;

use api::well_known::{annotations, labels};
use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::authz::rbac::GROUP;

const CLUSTER_ROLES: &str = include_str!("../../../manifests/bootstrap/cluster-roles.yaml");
const CLUSTER_BINDINGS: &str = include_str!("../../../manifests/bootstrap/cluster-role-bindings.yaml");
const CONTROLLERS: &str = include_str!("../../../manifests/bootstrap/controller-roles.yaml");
const NAMESPACED: &str = include_str!("../../../manifests/bootstrap/namespaced-roles.yaml");

const CONTROLLER: &str = "system:controller:";
/// Bindings that upstream does not have: its controllers have identities of their own.
const OWN_CONTROLLER: &str = "kubelab:controller:";
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
const NODE: &str = "system:node";

/// All roles and bindings, in the order in which they are written.
pub struct Policy {
    /// Roles for the whole cluster.
    pub cluster_roles: Vec<ClusterRole>,
    /// Their bindings.
    pub cluster_bindings: Vec<ClusterRoleBinding>,
    /// Roles in namespaces.
    pub roles: Vec<Role>,
    /// Their bindings.
    pub bindings: Vec<RoleBinding>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RoleEntry {
    #[serde(default)]
    namespace: Option<String>,
    name: String,
    #[serde(default)]
    aggregate: Option<String>,
    #[serde(default)]
    aggregated_from: Option<String>,
    #[serde(default)]
    runs: bool,
    #[serde(default)]
    rules: Option<Vec<PolicyRule>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BindingEntry {
    namespace: Option<String>,
    name: Option<String>,
    role: String,
    users: Vec<String>,
    groups: Vec<String>,
    accounts: Vec<String>,
}

#[derive(Deserialize)]
struct Namespaced {
    roles: Vec<RoleEntry>,
    bindings: Vec<BindingEntry>,
}

/// Reads the files.
pub fn policy() -> Policy {
    let namespaced: Namespaced = read(NAMESPACED);
    let controllers: Vec<RoleEntry> = read(CONTROLLERS);
    let mut cluster_bindings: Vec<_> =
        read::<Vec<BindingEntry>>(CLUSTER_BINDINGS).into_iter().map(cluster_binding).collect();
    cluster_bindings.extend(controllers.iter().flat_map(controller_bindings).map(cluster_binding));
    let controllers =
        controllers.into_iter().map(|entry| RoleEntry { name: format!("{CONTROLLER}{}", entry.name), ..entry });
    Policy {
        cluster_roles: read::<Vec<RoleEntry>>(CLUSTER_ROLES).into_iter().chain(controllers).map(cluster_role).collect(),
        cluster_bindings,
        roles: namespaced.roles.into_iter().map(role).collect(),
        bindings: namespaced.bindings.into_iter().map(binding).collect(),
    }
}

/// What the Node authorizer allows every kubelet.
pub fn node_rules() -> Vec<PolicyRule> {
    let entries: Vec<RoleEntry> = read(CLUSTER_ROLES);
    entries.into_iter().find(|entry| entry.name == NODE).and_then(|entry| entry.rules).unwrap_or_default()
}

fn read<T: DeserializeOwned>(file: &str) -> T {
    serde_yaml::from_str(file).expect("the bootstrap policy is well-formed")
}

fn meta(name: String, namespace: Option<String>, aggregate: Option<&str>) -> ObjectMeta {
    let mut all = BTreeMap::from([(labels::RBAC_DEFAULTS.to_owned(), "rbac-defaults".to_owned())]);
    if let Some(to) = aggregate {
        all.insert(format!("{GROUP}/aggregate-to-{to}"), "true".to_owned());
    }
    let annotations = BTreeMap::from([(annotations::RBAC_AUTOUPDATE.to_owned(), "true".to_owned())]);
    ObjectMeta {
        name: Some(name),
        namespace,
        labels: Some(all),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}

fn cluster_role(entry: RoleEntry) -> ClusterRole {
    let selector = |from: String| LabelSelector {
        match_labels: Some(BTreeMap::from([(format!("{GROUP}/aggregate-to-{from}"), "true".to_owned())])),
        match_expressions: None,
    };
    let aggregation_rule =
        entry.aggregated_from.map(|from| AggregationRule { cluster_role_selectors: Some(vec![selector(from)]) });
    ClusterRole { metadata: meta(entry.name, None, entry.aggregate.as_deref()), rules: entry.rules, aggregation_rule }
}

fn role(entry: RoleEntry) -> Role {
    Role { metadata: meta(entry.name, entry.namespace, None), rules: entry.rules }
}

fn cluster_binding(entry: BindingEntry) -> ClusterRoleBinding {
    let (role_ref, subjects) = (role_ref("ClusterRole", &entry.role), subjects(&entry));
    ClusterRoleBinding { metadata: meta(entry.name.unwrap_or(entry.role), None, None), role_ref, subjects }
}

fn binding(entry: BindingEntry) -> RoleBinding {
    let (role_ref, subjects) = (role_ref("Role", &entry.role), subjects(&entry));
    RoleBinding { metadata: meta(entry.name.unwrap_or(entry.role), entry.namespace, None), role_ref, subjects }
}

fn controller_bindings(entry: &RoleEntry) -> Vec<BindingEntry> {
    let role = format!("{CONTROLLER}{}", entry.name);
    let account = vec![format!("kube-system/{}", entry.name)];
    let mut bindings = vec![BindingEntry { role: role.clone(), accounts: account, ..BindingEntry::default() }];
    if entry.runs {
        let (name, users) = (Some(format!("{OWN_CONTROLLER}{}", entry.name)), vec![CONTROLLER_MANAGER.to_owned()]);
        bindings.push(BindingEntry { name, role, users, ..BindingEntry::default() });
    }
    bindings
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: Some(GROUP.to_owned()), kind: kind.to_owned(), name: name.to_owned() }
}

fn subjects(entry: &BindingEntry) -> Option<Vec<Subject>> {
    let of_group = |kind: &str, name: &String| Subject {
        api_group: Some(GROUP.to_owned()),
        kind: kind.to_owned(),
        name: name.clone(),
        namespace: None,
    };
    let account = |path: &String| {
        let (namespace, name) = path.split_once('/').unwrap_or(("", path));
        Subject {
            api_group: None,
            kind: "ServiceAccount".to_owned(),
            name: name.to_owned(),
            namespace: Some(namespace.to_owned()),
        }
    };
    let users = entry.users.iter().map(|name| of_group("User", name));
    let groups = entry.groups.iter().map(|name| of_group("Group", name));
    let all: Vec<_> = users.chain(groups).chain(entry.accounts.iter().map(account)).collect();
    if all.is_empty() { None } else { Some(all) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_binding_has_its_role_and_every_name_is_used_once() {
        let policy = policy();
        let names: BTreeSet<_> = policy.cluster_roles.iter().map(|role| role.metadata.name.clone().unwrap()).collect();
        assert_eq!(names.len(), policy.cluster_roles.len());
        let bindings: BTreeSet<_> =
            policy.cluster_bindings.iter().map(|binding| binding.metadata.name.clone().unwrap()).collect();
        assert_eq!(bindings.len(), policy.cluster_bindings.len());
        for binding in &policy.cluster_bindings {
            assert!(names.contains(&binding.role_ref.name), "{}", binding.role_ref.name);
        }
        for binding in &policy.bindings {
            let here = |role: &&Role| role.metadata.namespace == binding.metadata.namespace;
            let mut roles = policy.roles.iter().filter(here);
            assert!(
                roles.any(|role| role.metadata.name.as_ref() == Some(&binding.role_ref.name)),
                "{}",
                binding.role_ref.name
            );
        }
    }

    #[test]
    fn roles_look_as_upstreams() {
        let policy = policy();
        let role = |name: &str| {
            let role =
                policy.cluster_roles.iter().find(|role| role.metadata.name.as_deref() == Some(name)).expect(name);
            serde_json::to_value(role).unwrap()
        };
        let view = role("view");
        assert_eq!(view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"], "true");
        assert_eq!(view["metadata"]["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults");
        assert_eq!(view["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"], "true");
        assert_eq!(
            view["aggregationRule"]["clusterRoleSelectors"][0]["matchLabels"]["rbac.authorization.k8s.io/aggregate-to-view"],
            "true"
        );
        assert_eq!(role("cluster-admin")["rules"][1]["nonResourceURLs"][0], "*");
        assert!(!node_rules().is_empty());
    }
}
