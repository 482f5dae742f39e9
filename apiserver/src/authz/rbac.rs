//! RBAC: who holds which rules by Roles, ClusterRoles and their bindings. Entry point: [`Rbac::authorize`].
//!
//! The bindings are indexed by subject; the index is made anew when one of the four kinds changed, and keeps every object that
//! did not. A decision looks only at the rules of the user and its groups.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::names::Revision;
use api::well_known::users;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use serde::de::DeserializeOwned;

use super::{Attributes, Decision, Target, rules};
use crate::authn::User;
use crate::view::{Item, View, get_as};

/// The API group of these kinds.
pub const GROUP: &str = "rbac.authorization.k8s.io";
const KINDS: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// See the module.
pub struct Rbac {
    objects: Arc<dyn View>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    versions: Option<[u64; 4]>,
    kept: Kept,
    index: Arc<Index>,
}

#[derive(Default)]
struct Kept {
    cluster_roles: Memo<ClusterRole>,
    cluster_bindings: Memo<ClusterRoleBinding>,
    roles: Memo<Role>,
    bindings: Memo<RoleBinding>,
}

/// Decoded objects by key, with the revision that was decoded.
type Memo<T> = BTreeMap<Arc<str>, (Revision, Arc<T>)>;

/// What one subject of one binding grants.
struct Grant {
    reason: String,
    rules: Result<Arc<Vec<PolicyRule>>, String>,
}

#[derive(Default)]
struct Grants {
    users: BTreeMap<String, Vec<Grant>>,
    groups: BTreeMap<String, Vec<Grant>>,
}

#[derive(Default)]
struct Index {
    cluster: Grants,
    namespaces: BTreeMap<String, Grants>,
}

type Rules = Arc<Vec<PolicyRule>>;

impl Rbac {
    /// Over these objects.
    pub fn new(objects: Arc<dyn View>) -> Self {
        Self { objects, state: Mutex::default() }
    }

    /// Decides.
    pub fn authorize(&self, attributes: &Attributes) -> Decision {
        let namespace = match &attributes.target {
            Target::Resource { namespace, .. } => namespace.as_str(),
            Target::Path(_) => "",
        };
        let index = self.index();
        let mut errors = Vec::new();
        for grant in index.grants(&attributes.user, namespace) {
            match &grant.rules {
                Ok(rules) if rules.iter().any(|rule| rules::allows(rule, attributes)) => {
                    return Decision::Allow(grant.reason.clone());
                }
                Ok(_) => {}
                Err(error) => errors.push(error.as_str()),
            }
        }
        errors.dedup();
        match errors.as_slice() {
            [] => Decision::NoOpinion(String::new()),
            [error] => Decision::NoOpinion(format!("RBAC: {error}")),
            errors => Decision::NoOpinion(format!("RBAC: [{}]", errors.join(", "))),
        }
    }

    /// All rules that a user holds in a namespace (empty: in the whole cluster), and what could not be resolved.
    pub fn rules_of(&self, user: &User, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
        let index = self.index();
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        for grant in index.grants(user, namespace) {
            match &grant.rules {
                Ok(granted) => rules.extend(granted.iter().cloned()),
                Err(error) => errors.push(error.clone()),
            }
        }
        (rules, errors)
    }

    /// The rules of the role that a binding in this namespace refers to.
    pub fn role_rules(&self, role: &RoleRef, namespace: &str) -> Result<Vec<PolicyRule>, String> {
        let objects = self.objects.as_ref();
        let rules = match role.kind.as_str() {
            "ClusterRole" => {
                get_as::<ClusterRole>(objects, GROUP, "clusterroles", "", &role.name).map(|role| role.rules)
            }
            _ => get_as::<Role>(objects, GROUP, "roles", namespace, &role.name).map(|role| role.rules),
        };
        let rules = rules.map(Option::unwrap_or_default);
        rules.ok_or_else(|| not_found(&role.kind, &role.name))
    }

    fn index(&self) -> Arc<Index> {
        let versions = KINDS.map(|plural| self.objects.version(GROUP, plural));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.versions != Some(versions) {
            state.kept.update(self.objects.as_ref());
            state.index = Arc::new(Index::build(&state.kept));
            state.versions = Some(versions);
        }
        Arc::clone(&state.index)
    }
}

impl Kept {
    fn update(&mut self, objects: &dyn View) {
        let list = |plural| objects.list(GROUP, plural, "");
        refresh(&mut self.cluster_roles, list("clusterroles"));
        refresh(&mut self.cluster_bindings, list("clusterrolebindings"));
        refresh(&mut self.roles, list("roles"));
        refresh(&mut self.bindings, list("rolebindings"));
    }
}

fn refresh<T: DeserializeOwned>(memo: &mut Memo<T>, items: Vec<Item>) {
    let mut next = BTreeMap::new();
    for item in items {
        let kept = memo.remove(&item.key).filter(|(revision, _)| *revision == item.revision);
        let decoded = kept.or_else(|| Some((item.revision, Arc::new(serde_json::from_slice(&item.bytes).ok()?))));
        if let Some(decoded) = decoded {
            next.insert(item.key, decoded);
        }
    }
    *memo = next;
}

impl Index {
    fn build(kept: &Kept) -> Self {
        let rules_of = |rules: &Option<Vec<PolicyRule>>| Arc::new(rules.clone().unwrap_or_default());
        let cluster_roles: BTreeMap<&str, Rules> =
            values(&kept.cluster_roles).map(|role| (text(&role.metadata.name), rules_of(&role.rules))).collect();
        let roles: BTreeMap<(&str, &str), Rules> = values(&kept.roles)
            .map(|role| ((text(&role.metadata.namespace), text(&role.metadata.name)), rules_of(&role.rules)))
            .collect();
        let mut index = Index::default();
        for binding in values(&kept.cluster_bindings) {
            let from = format!("ClusterRoleBinding \"{}\"", text(&binding.metadata.name));
            let rules = resolve(cluster_roles.get(binding.role_ref.name.as_str()), &binding.role_ref);
            index.cluster.add(&from, &binding.role_ref, &rules, binding.subjects.as_deref(), "");
        }
        for binding in values(&kept.bindings) {
            let (namespace, name) = (text(&binding.metadata.namespace), text(&binding.metadata.name));
            let found = match binding.role_ref.kind.as_str() {
                "ClusterRole" => cluster_roles.get(binding.role_ref.name.as_str()),
                _ => roles.get(&(namespace, binding.role_ref.name.as_str())),
            };
            let from = format!("RoleBinding \"{name}/{namespace}\"");
            let rules = resolve(found, &binding.role_ref);
            let grants = index.namespaces.entry(namespace.to_owned()).or_default();
            grants.add(&from, &binding.role_ref, &rules, binding.subjects.as_deref(), namespace);
        }
        index
    }

    fn grants<'a>(&'a self, user: &'a User, namespace: &str) -> impl Iterator<Item = &'a Grant> {
        let local = if namespace.is_empty() { None } else { self.namespaces.get(namespace) };
        std::iter::once(&self.cluster).chain(local).flat_map(move |grants| grants.of(user))
    }
}

impl Grants {
    fn add(
        &mut self,
        from: &str,
        role: &RoleRef,
        rules: &Result<Rules, String>,
        subjects: Option<&[Subject]>,
        namespace: &str,
    ) {
        for subject in subjects.unwrap_or_default() {
            let reason = |to: &str| {
                format!("RBAC: allowed by {from} of {} \"{}\" to {} \"{to}\"", role.kind, role.name, subject.kind)
            };
            let (holders, holder, to) = match subject.kind.as_str() {
                "User" => (&mut self.users, subject.name.clone(), subject.name.clone()),
                "Group" => (&mut self.groups, subject.name.clone(), subject.name.clone()),
                "ServiceAccount" => {
                    let of = subject.namespace.as_deref().filter(|of| !of.is_empty()).unwrap_or(namespace);
                    let holder = format!("{}{of}:{}", users::SERVICE_ACCOUNT_PREFIX, subject.name);
                    (&mut self.users, holder, format!("{}/{of}", subject.name))
                }
                _ => continue,
            };
            let grant = Grant { reason: reason(&to), rules: rules.clone() };
            holders.entry(holder).or_default().push(grant);
        }
    }

    fn of<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a Grant> {
        let by_name = self.users.get(&user.name);
        let by_group = user.groups.iter().filter_map(|group| self.groups.get(group));
        by_name.into_iter().chain(by_group).flatten()
    }
}

fn resolve(found: Option<&Rules>, role: &RoleRef) -> Result<Rules, String> {
    found.cloned().ok_or_else(|| not_found(&role.kind, &role.name))
}

fn not_found(kind: &str, name: &str) -> String {
    format!("{}.{GROUP} \"{name}\" not found", kind.to_lowercase())
}

fn values<T>(memo: &Memo<T>) -> impl Iterator<Item = &Arc<T>> {
    memo.values().map(|(_, value)| value)
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixture::Objects;
    use serde_json::json;

    fn cluster() -> Arc<Objects> {
        let pods = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]);
        Arc::new(Objects::with(&[
            (
                GROUP,
                "clusterroles",
                json!({"metadata": {"name": "all"}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}),
            ),
            (
                GROUP,
                "clusterrolebindings",
                json!({"metadata": {"name": "ops"}, "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "all"}, "subjects": [{"kind": "Group", "name": "ops"}]}),
            ),
            (GROUP, "roles", json!({"metadata": {"name": "r", "namespace": "n"}, "rules": pods})),
            (
                GROUP,
                "rolebindings",
                json!({"metadata": {"name": "b", "namespace": "n"}, "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "alice"}, {"kind": "ServiceAccount", "name": "sa", "namespace": "m"}]}),
            ),
            (
                GROUP,
                "rolebindings",
                json!({"metadata": {"name": "broken", "namespace": "n"}, "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": "gone"}, "subjects": [{"kind": "User", "name": "bob"}]}),
            ),
        ]))
    }

    fn list_pods(rbac: &Rbac, name: &str, groups: &[&str], namespace: &str) -> Decision {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let user = User { name: name.to_owned(), groups, ..User::default() };
        rbac.authorize(&Attributes::new(&user, "list", Target::resource("", "pods", "", namespace, "")))
    }

    #[test]
    fn bindings_grant_and_say_why() {
        let rbac = Rbac::new(cluster());
        let table: [(&str, &[&str], &str, Decision); 6] = [
            (
                "alice",
                &[],
                "n",
                Decision::Allow(r#"RBAC: allowed by RoleBinding "b/n" of Role "r" to User "alice""#.to_owned()),
            ),
            ("alice", &[], "m", Decision::NoOpinion(String::new())),
            ("alice", &[], "", Decision::NoOpinion(String::new())),
            (
                "carol",
                &["ops"],
                "",
                Decision::Allow(
                    r#"RBAC: allowed by ClusterRoleBinding "ops" of ClusterRole "all" to Group "ops""#.to_owned(),
                ),
            ),
            (
                "system:serviceaccount:m:sa",
                &[],
                "n",
                Decision::Allow(
                    r#"RBAC: allowed by RoleBinding "b/n" of Role "r" to ServiceAccount "sa/m""#.to_owned(),
                ),
            ),
            (
                "bob",
                &[],
                "n",
                Decision::NoOpinion(r#"RBAC: role.rbac.authorization.k8s.io "gone" not found"#.to_owned()),
            ),
        ];
        for (name, groups, namespace, decision) in table {
            assert_eq!(list_pods(&rbac, name, groups, namespace), decision, "{name} in {namespace}");
        }
    }

    #[test]
    fn changes_count_at_once() {
        let objects = cluster();
        let rbac = Rbac::new(objects.clone());
        assert!(matches!(list_pods(&rbac, "alice", &[], "n"), Decision::Allow(_)));
        objects.remove(GROUP, "rolebindings", "n", "b");
        assert!(matches!(list_pods(&rbac, "alice", &[], "n"), Decision::NoOpinion(_)));
    }
}
