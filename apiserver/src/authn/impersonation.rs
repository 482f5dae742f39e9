//! Impersonation: a request that says `Impersonate-User` is carried out as that user, if the requester may.
//! Entry point: [`impersonate`], after authentication and before authorization.
//!
//! Two ways lead there, as in upstream: constrained (`impersonate:user-info` on the user *and* `impersonate-on:user-info:VERB` on
//! what is asked), then the old one (`impersonate` on the user). Oddity kept: a refusal tells what the first way lacked.

use std::collections::BTreeMap;

use api::error::ApiError;
use api::field::go_quote;
use api::well_known::{groups, users};
use http::HeaderMap;

use super::User;
use super::service_account::account_groups;
use crate::authz::{Attributes, Authorizers, Decision, Target, forbidden};
use crate::http::query::percent_decode;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Who the headers ask to be, before anything is added.
#[derive(Debug, Default)]
struct Wanted {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// The user that the request is carried out as: the requester, or the one that the headers name. `asked` is the request itself.
pub fn impersonate(authorizers: &Authorizers, headers: &HeaderMap, asked: &Attributes) -> Result<User, ApiError> {
    let wanted = read(headers);
    if wanted.is_empty() {
        return Ok(asked.user.clone());
    }
    if wanted.name.is_empty() {
        return Err(ApiError::bad_request(format!("requested {} without impersonating a user name", wanted.as_go())));
    }
    let constrained = check_constrained(authorizers, &wanted, asked);
    if let Err(refused) = constrained {
        check_all(authorizers, &wanted.legacy_targets(), "impersonate", &asked.user).map_err(|_| refused)?;
    }
    Ok(wanted.into_user())
}

/// Headers that must not reach a server behind us once impersonation is done.
pub fn is_impersonation_header(name: &str) -> bool {
    name == USER || name == GROUP || name == UID || name.starts_with(EXTRA)
}

fn read(headers: &HeaderMap) -> Wanted {
    let one = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let all =
        |name: &str| headers.get_all(name).iter().filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
    let mut extra = BTreeMap::new();
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            extra.insert(percent_decode(key, false), all(name.as_str()));
        }
    }
    Wanted { name: one(USER), uid: one(UID), groups: all(GROUP), extra }
}

fn check_constrained(authorizers: &Authorizers, wanted: &Wanted, asked: &Attributes) -> Result<(), ApiError> {
    let mode = wanted.mode();
    let verb = format!("impersonate-on:{mode}:{}", asked.verb);
    require(authorizers, &Attributes { verb, ..asked.clone() })?;
    check_all(authorizers, &wanted.constrained_targets(), &format!("impersonate:{mode}"), &asked.user)
}

fn check_all(authorizers: &Authorizers, targets: &[Target], verb: &str, user: &User) -> Result<(), ApiError> {
    targets.iter().try_for_each(|target| require(authorizers, &Attributes::new(user, verb, target.clone())))
}

fn require(authorizers: &Authorizers, attributes: &Attributes) -> Result<(), ApiError> {
    match authorizers.authorize(attributes) {
        Decision::Allow(_) => Ok(()),
        Decision::NoOpinion(reason) => Err(forbidden(attributes, &reason)),
    }
}

impl Wanted {
    fn is_empty(&self) -> bool {
        self.name.is_empty() && self.uid.is_empty() && self.groups.is_empty() && self.extra.is_empty()
    }

    /// Namespace and name of the service account that the name means.
    fn account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix(users::SERVICE_ACCOUNT_PREFIX)?.split_once(':')
    }

    fn only_named(&self) -> bool {
        self.uid.is_empty() && self.groups.is_empty() && self.extra.is_empty()
    }

    fn mode(&self) -> &'static str {
        match (self.account(), self.name.starts_with(users::NODE_PREFIX)) {
            (Some(_), _) if self.only_named() => "serviceaccount",
            (None, true) if self.only_named() => "arbitrary-node",
            _ => "user-info",
        }
    }

    fn constrained_targets(&self) -> Vec<Target> {
        match (self.mode(), self.account()) {
            ("serviceaccount", Some((namespace, name))) => {
                vec![Target::resource(AUTHENTICATION, "serviceaccounts", "", namespace, name)]
            }
            ("arbitrary-node", _) => {
                let node = self.name.strip_prefix(users::NODE_PREFIX).unwrap_or_default();
                vec![Target::resource(AUTHENTICATION, "nodes", "", "", node)]
            }
            _ => self.targets(AUTHENTICATION, Target::resource(AUTHENTICATION, "users", "", "", &self.name)),
        }
    }

    fn legacy_targets(&self) -> Vec<Target> {
        let who = match self.account() {
            Some((namespace, name)) => Target::resource("", "serviceaccounts", "", namespace, name),
            None => Target::resource("", "users", "", "", &self.name),
        };
        self.targets("", who)
    }

    fn targets(&self, group: &str, who: Target) -> Vec<Target> {
        let mut targets = vec![who];
        targets.extend(self.groups.iter().map(|name| Target::resource(group, "groups", "", "", name)));
        if !self.uid.is_empty() {
            targets.push(Target::resource(AUTHENTICATION, "uids", "", "", &self.uid));
        }
        for (key, values) in &self.extra {
            targets.extend(values.iter().map(|value| Target::resource(AUTHENTICATION, "userextras", key, "", value)));
        }
        targets
    }

    fn into_user(self) -> User {
        let mut groups = match self.account() {
            Some((namespace, _)) if self.groups.is_empty() => account_groups(namespace),
            _ => self.groups.clone(),
        };
        let has = |group: &str| groups.iter().any(|known| known == group);
        if self.name == users::ANONYMOUS {
            if !has(groups::UNAUTHENTICATED) {
                groups.push(groups::UNAUTHENTICATED.to_owned());
            }
        } else if !has(groups::AUTHENTICATED) && !has(groups::UNAUTHENTICATED) {
            groups.push(groups::AUTHENTICATED.to_owned());
        }
        User { name: self.name, uid: self.uid, groups, extra: self.extra }
    }

    /// As Go prints it, which upstream does in its answer.
    fn as_go(&self) -> String {
        let strings = |values: &[String]| {
            let values: Vec<_> = values.iter().map(|value| go_quote(value)).collect();
            if values.is_empty() { "[]string(nil)".to_owned() } else { format!("[]string{{{}}}", values.join(", ")) }
        };
        let extra: Vec<_> =
            self.extra.iter().map(|(key, values)| format!("{}:{}", go_quote(key), strings(values))).collect();
        let extra = match extra.as_slice() {
            [] => "map[string][]string(nil)".to_owned(),
            pairs => format!("map[string][]string{{{}}}", pairs.join(", ")),
        };
        let (name, uid, groups) = (go_quote(&self.name), go_quote(&self.uid), strings(&self.groups));
        format!("&user.DefaultInfo{{Name:{name}, UID:{uid}, Groups:{groups}, Extra:{extra}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::rbac;
    use crate::view::fixture::Objects;
    use serde_json::json;
    use std::sync::Arc;

    fn authorizers() -> Authorizers {
        let role = |name: &str, rules: serde_json::Value| {
            (rbac::GROUP, "clusterroles", json!({"metadata": {"name": name}, "rules": rules}))
        };
        let binding = |name: &str| {
            let role = json!({"apiGroup": rbac::GROUP, "kind": "ClusterRole", "name": name});
            (
                rbac::GROUP,
                "clusterrolebindings",
                json!({"metadata": {"name": name}, "roleRef": role, "subjects": [{"kind": "User", "name": name}]}),
            )
        };
        Authorizers::new(Arc::new(Objects::with(&[
            role(
                "old",
                json!([{"apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"], "verbs": ["impersonate"]}]),
            ),
            binding("old"),
            role(
                "new",
                json!([
                    {"apiGroups": [AUTHENTICATION], "resources": ["users"], "verbs": ["impersonate:user-info"]},
                    {"apiGroups": [""], "resources": ["pods"], "verbs": ["impersonate-on:user-info:list"]},
                ]),
            ),
            binding("new"),
        ])))
    }

    fn carried_out_as(who: &str, group: &str, verb: &str, headers: &[(&'static str, &str)]) -> Result<User, String> {
        let user = User { name: who.to_owned(), groups: vec![group.to_owned()], ..User::default() };
        let asked = Attributes::new(&user, verb, Target::resource("", "pods", "", "n", ""));
        let headers =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect();
        impersonate(&authorizers(), &headers, &asked).map_err(|error| format!("{} {}", error.code, error.message))
    }

    #[test]
    fn rights_decide() {
        let denied = |who: &str, verb: &str| {
            let what = format!(
                "cannot impersonate-on:user-info:{verb} resource \"pods\" in API group \"\" in the namespace \"n\""
            );
            Err(format!("403 pods is forbidden: User \"{who}\" {what}"))
        };
        let bob: &[_] = &[("impersonate-user", "bob")];
        let table = [
            ("old", "create", bob, Ok("bob")),
            ("old", "create", &[("impersonate-user", "eve")], denied("old", "create")),
            ("old", "create", &[("impersonate-user", "bob"), ("impersonate-group", "g")], denied("old", "create")),
            ("new", "list", bob, Ok("bob")),
            ("new", "create", bob, denied("new", "create")),
            ("nobody", "create", bob, denied("nobody", "create")),
            ("nobody", "create", &[], Ok("nobody")),
        ];
        for (who, verb, headers, expected) in table {
            let answer = carried_out_as(who, "system:authenticated", verb, headers);
            assert_eq!(answer.map(|user| user.name), expected.map(str::to_owned), "{who} {verb} {headers:?}");
        }
    }

    #[test]
    fn everything_of_the_user_is_taken_over() {
        let admin = |headers: &[_]| carried_out_as("admin", groups::MASTERS, "get", headers);
        let headers = [
            ("impersonate-user", "alice"),
            ("impersonate-group", "g1"),
            ("impersonate-uid", "u"),
            ("impersonate-extra-a%2fb", "c"),
        ];
        let user = admin(&headers).expect("allowed");
        let extra = BTreeMap::from([("a/b".to_owned(), vec!["c".to_owned()])]);
        let groups = vec!["g1".to_owned(), "system:authenticated".to_owned()];
        assert_eq!(user, User { name: "alice".to_owned(), uid: "u".to_owned(), groups, extra });
        let account = admin(&[("impersonate-user", "system:serviceaccount:n:sa")]).expect("allowed");
        assert_eq!(account.groups, ["system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated"]);
        assert_eq!(
            admin(&[("impersonate-user", "system:anonymous")]).expect("allowed").groups,
            ["system:unauthenticated"]
        );
        let error = admin(&[("impersonate-group", "g")]).unwrap_err();
        let said = "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"g\"}, Extra:map[string][]string(nil)} without impersonating a user name";
        assert_eq!(error, format!("400 {said}"));
    }
}
