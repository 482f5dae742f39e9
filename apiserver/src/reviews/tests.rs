//! Questions and their answers, as the real API server gives them.

use super::*;
use crate::authz::rbac::GROUP;
use crate::tokens::tests::{ISSUER, claims, tokens};
use crate::view::fixture::Objects;
use process::Clock;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::sync::Arc;

const REASON: &str = "RBAC: allowed by RoleBinding \"r/n\" of Role \"r\" to User \"alice\"";

struct World {
    authenticators: Authenticators,
    authorizers: Authorizers,
    token: String,
}

fn world() -> World {
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]);
    let objects = Arc::new(Objects::with(&[
        ("", "serviceaccounts", json!({"metadata": {"name": "sa", "namespace": "n", "uid": "u"}})),
        (GROUP, "roles", json!({"metadata": {"name": "r", "namespace": "n"}, "rules": rules})),
        (
            GROUP,
            "rolebindings",
            json!({"metadata": {"name": "r", "namespace": "n"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "alice"}]}),
        ),
    ]));
    let tokens = Arc::new(tokens());
    let token = tokens.sign(&claims()).expect("a token");
    let clock = Clock::starting_at(Timestamp::from_second(2000).unwrap());
    World {
        authenticators: Authenticators::new(tokens, objects.clone(), clock),
        authorizers: Authorizers::new(objects),
        token,
    }
}

impl World {
    fn ask<T: Object + DeserializeOwned>(&self, user: &str, spec: Value) -> Result<Value, ApiError> {
        let user = User { name: user.to_owned(), groups: vec!["system:authenticated".to_owned()], ..User::default() };
        let review: T =
            serde_json::from_value(json!({"metadata": {"namespace": spec["ns"], "name": spec["name"]}, "spec": spec}))
                .expect("a review");
        let now = Timestamp::from_second(2000).unwrap();
        let court = Court {
            authenticators: &self.authenticators,
            authorizers: &self.authorizers,
            user: &user,
            namespace: "n",
            now,
        };
        court.answer(&review)
    }
}

#[tokio::test(start_paused = true)]
async fn access_is_decided_as_requests_are() {
    let world = world();
    let pods = |verb: &str| json!({"namespace": "n", "verb": verb, "resource": "pods"});
    let yes = json!({"allowed": true, "reason": REASON});
    let no = json!({"allowed": false});
    let own = |verb| world.ask::<SelfSubjectAccessReview>("alice", json!({"resourceAttributes": pods(verb)}));
    assert_eq!(own("list").unwrap()["status"], yes);
    assert_eq!(own("delete").unwrap()["status"], no);
    let other =
        |user: &str| world.ask::<SubjectAccessReview>("x", json!({"user": user, "resourceAttributes": pods("list")}));
    assert_eq!(other("alice").unwrap()["status"], yes);
    assert_eq!(other("bob").unwrap()["status"], no);
    let local = world
        .ask::<LocalSubjectAccessReview>("x", json!({"ns": "n", "user": "alice", "resourceAttributes": pods("list")}));
    assert_eq!(local.unwrap()["status"], yes);
}

#[tokio::test(start_paused = true)]
async fn malformed_questions_are_refused() {
    let world = world();
    let refused = |answer: Result<Value, ApiError>| answer.map_err(|error| (error.code, error.message)).unwrap_err();
    let prefix = ".authorization.k8s.io \"\" is invalid: spec.";
    let table = [
        (world.ask::<SubjectAccessReview>("x", json!({"resourceAttributes": {"verb": "get"}})), "user: Invalid value: \"\": at least one of user or group must be specified"),
        (
            world.ask::<SubjectAccessReview>("x", json!({"user": "u", "resourceAttributes": {"verb": "get"}, "nonResourceAttributes": {"path": "/x", "verb": "get"}})),
            "nonResourceAttributes: Invalid value: {\"Path\":\"/x\",\"Verb\":\"get\"}: cannot be specified in combination with resourceAttributes",
        ),
        (
            world.ask::<LocalSubjectAccessReview>("x", json!({"ns": "n", "user": "u", "resourceAttributes": {"namespace": "default", "verb": "get"}})),
            "resourceAttributes.namespace: Invalid value: \"default\": must match metadata.namespace",
        ),
        (
            world.ask::<SelfSubjectAccessReview>("x", json!({"resourceAttributes": {"fieldSelector": {"rawSelector": "a", "requirements": [{"key": "", "operator": "New"}]}}})),
            "resourceAttributes.fieldSelector.rawSelector: Invalid value: \"a\": may not specified at the same time as requirements, spec.resourceAttributes.fieldSelector.requirements[0].key: Required value: must be specified",
        ),
        (
            world.ask::<SubjectAccessReview>("x", json!({"user": "u", "resourceAttributes": {"fieldSelector": {}, "labelSelector": {"requirements": [{"key": "a b", "operator": "In", "values": ["-"]}]}}})),
            "resourceAttributes.fieldSelector.requirements: Required value: when spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required, spec.resourceAttributes.labelSelector.requirements[0].key: Invalid value: \"a b\"",
        ),
    ];
    for (answer, message) in table {
        let (code, found) = refused(answer);
        assert!(
            code == 422 && found.replace('[', "").contains(&format!("{prefix}{message}").replace('[', "")),
            "{found}"
        );
    }
    let named = refused(world.ask::<SelfSubjectAccessReview>("x", json!({"name": "n", "resourceAttributes": {}})));
    assert!(named.1.ends_with("is invalid: metadata: Invalid value: {\"name\":\"n\"}: must be empty"), "{}", named.1);
    assert_eq!(
        refused(world.ask::<SelfSubjectRulesReview>("x", json!({}))),
        (400, "no namespace on request".to_owned())
    );
    assert_eq!(
        refused(world.ask::<TokenReview>("x", json!({"token": ""}))),
        (400, "token is required for TokenReview in authentication".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn tokens_are_told_apart() {
    let world = world();
    let status = |spec| world.ask::<TokenReview>("x", spec).expect("an answer")["status"].clone();
    let extra = json!({"authentication.kubernetes.io/credential-id": ["JTI=j"]});
    let groups = json!(["system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated"]);
    let user = json!({"username": "system:serviceaccount:n:sa", "uid": "u", "groups": groups, "extra": extra});
    assert_eq!(
        status(json!({"token": world.token})),
        json!({"authenticated": true, "audiences": [ISSUER], "user": user})
    );
    assert_eq!(status(json!({"token": "rubbish"})), json!({"error": "invalid bearer token", "user": {}}));
    let elsewhere = format!(
        "[invalid bearer token, token audiences [\"{ISSUER}\"] is invalid for the target audiences [\"other\"]]"
    );
    assert_eq!(status(json!({"token": world.token, "audiences": ["other"]})), json!({"error": elsewhere, "user": {}}));
}

#[tokio::test(start_paused = true)]
async fn users_learn_who_they_are_and_what_they_may() {
    let world = world();
    let me = world.ask::<SelfSubjectReview>("alice", json!({})).expect("an answer");
    assert_eq!(me["status"]["userInfo"], json!({"username": "alice", "groups": ["system:authenticated"]}));
    assert_eq!(me["metadata"]["creationTimestamp"], "1970-01-01T00:33:20Z");
    let rules = world.ask::<SelfSubjectRulesReview>("alice", json!({"namespace": "n"})).expect("an answer");
    let expected = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]);
    assert_eq!((&rules["status"]["resourceRules"], &rules["status"]["nonResourceRules"]), (&expected, &json!([])));
    assert_eq!((&rules["spec"], &rules["status"]["incomplete"]), (&json!({}), &json!(false)));
}
