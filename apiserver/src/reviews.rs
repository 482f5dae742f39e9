//! Kinds that are questions: who is this, may they, what may I. They are answered, never stored. Entry point: [`create`].
//!
//! Invariant: a review is decided by the very authenticators and authorizers that decide about requests.

mod access;

use api::error::ApiError;
use api::field::FieldErrors;
use api::names::GroupKind;
use k8s_openapi::api::authentication::v1::{
    SelfSubjectReview, SelfSubjectReviewStatus, TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo,
};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, NonResourceRule, ResourceRule, SelfSubjectAccessReview, SelfSubjectRulesReview,
    SelfSubjectRulesReviewSpec, SubjectAccessReview, SubjectRulesReviewStatus,
};
use k8s_openapi::api::core::v1::Binding;
use k8s_openapi::api::rbac::v1::PolicyRule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::authn::{Authenticators, User};
use crate::authz::{Authorizers, node};
use crate::object::{Object, downcast};
use crate::write::{Place, binding, metadata, tracking};

/// What reviews are decided with.
struct Court<'a> {
    authenticators: &'a Authenticators,
    authorizers: &'a Authorizers,
    user: &'a User,
    namespace: &'a str,
    now: Timestamp,
}

/// Answers a review; who asked owns the fields of the question, as in any other object.
pub async fn create(at: &Place<'_>, mut question: Box<dyn Object>) -> Result<Value, ApiError> {
    if let Some(order) = downcast::<Binding>(question.as_ref()) {
        return binding::create(at, order).await;
    }
    metadata::match_namespace(question.metadata_mut(), at.info(), at.namespace)?;
    tracking::track(at, None, question.as_mut())?;
    let court = Court {
        authenticators: &at.server.authenticators,
        authorizers: &at.server.authorizers,
        user: at.user,
        namespace: at.namespace,
        now: at.server.clock.now_seconds(),
    };
    court.answer(question.as_ref())
}

impl Court<'_> {
    fn answer(&self, question: &dyn Object) -> Result<Value, ApiError> {
        if let Some(review) = downcast::<TokenReview>(question) {
            return Ok(self.token(review.clone())?.to_value());
        }
        if downcast::<SelfSubjectReview>(question).is_some() {
            return Ok(self.who_am_i().to_value());
        }
        if let Some(review) = downcast::<SubjectAccessReview>(question) {
            return Ok(access::subject(self, review.clone())?.to_value());
        }
        if let Some(review) = downcast::<LocalSubjectAccessReview>(question) {
            return Ok(access::local(self, review.clone())?.to_value());
        }
        if let Some(review) = downcast::<SelfSubjectAccessReview>(question) {
            return Ok(access::own(self, review.clone())?.to_value());
        }
        if let Some(review) = downcast::<SelfSubjectRulesReview>(question) {
            return Ok(with_lists(self.rules(review)?.to_value()));
        }
        Err(ApiError::internal("this kind has no answer"))
    }

    fn token(&self, review: TokenReview) -> Result<TokenReview, ApiError> {
        let TokenReviewSpec { token, audiences } = &review.spec;
        if token.is_empty() {
            return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
        }
        let wanted = audiences.as_deref().filter(|audiences| !audiences.is_empty());
        let status =
            match self.authenticators.token_user(token, wanted.unwrap_or_else(|| self.authenticators.audiences())) {
                Ok((user, audiences)) => TokenReviewStatus {
                    authenticated: Some(true),
                    user: Some(user_info(&user)),
                    audiences: Some(audiences),
                    error: None,
                },
                Err(refused) => TokenReviewStatus {
                    error: Some(refused.to_string()),
                    user: Some(UserInfo::default()),
                    ..TokenReviewStatus::default()
                },
            };
        Ok(TokenReview { status: Some(status), ..review })
    }

    /// The answer does not repeat the question, as upstream's does not.
    fn who_am_i(&self) -> SelfSubjectReview {
        let metadata = ObjectMeta { creation_timestamp: Some(Time(self.now)), ..ObjectMeta::default() };
        SelfSubjectReview { metadata, status: Some(SelfSubjectReviewStatus { user_info: Some(user_info(self.user)) }) }
    }

    /// The answer does not repeat the question, as upstream's does not.
    fn rules(&self, review: &SelfSubjectRulesReview) -> Result<SelfSubjectRulesReview, ApiError> {
        let namespace = review.spec.namespace.as_deref().unwrap_or_default();
        if namespace.is_empty() {
            return Err(ApiError::bad_request("no namespace on request"));
        }
        let (mut rules, mut errors) = self.authorizers.rbac().rules_of(self.user, namespace);
        if self.user.groups.iter().any(|group| group == api::well_known::groups::MASTERS) {
            rules.splice(..0, everything());
        }
        let is_node = node::node_of(self.user).is_some();
        if is_node {
            errors.push("node authorizer does not support user rule resolution".to_owned());
        }
        let status = SubjectRulesReviewStatus {
            evaluation_error: if errors.is_empty() { None } else { Some(errors.join("; ")) },
            incomplete: !errors.is_empty(),
            resource_rules: rules.iter().filter_map(resource_rule).collect(),
            non_resource_rules: rules.iter().filter_map(path_rule).collect(),
        };
        Ok(SelfSubjectRulesReview {
            spec: SelfSubjectRulesReviewSpec::default(),
            status: Some(status),
            metadata: ObjectMeta::default(),
        })
    }
}

/// Upstream's lists of rules are empty, not missing, where there are none.
fn with_lists(mut answer: Value) -> Value {
    for field in ["resourceRules", "nonResourceRules"] {
        if answer["status"][field].is_null() {
            answer["status"][field] = Value::Array(Vec::new());
        }
    }
    answer
}

fn user_info(user: &User) -> UserInfo {
    let some = |text: &str| if text.is_empty() { None } else { Some(text.to_owned()) };
    UserInfo {
        username: some(&user.name),
        uid: some(&user.uid),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
    }
}

fn everything() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    [
        PolicyRule { api_groups: Some(all()), resources: Some(all()), verbs: all(), ..PolicyRule::default() },
        PolicyRule { non_resource_urls: Some(all()), verbs: all(), ..PolicyRule::default() },
    ]
}

fn resource_rule(rule: &PolicyRule) -> Option<ResourceRule> {
    let resources = rule.resources.clone().filter(|resources| !resources.is_empty())?;
    Some(ResourceRule {
        verbs: rule.verbs.clone(),
        api_groups: rule.api_groups.clone(),
        resources: Some(resources),
        resource_names: rule.resource_names.clone(),
    })
}

fn path_rule(rule: &PolicyRule) -> Option<NonResourceRule> {
    let paths = rule.non_resource_urls.clone().filter(|paths| !paths.is_empty())?;
    Some(NonResourceRule { verbs: rule.verbs.clone(), non_resource_urls: Some(paths) })
}

/// Oddity kept: these errors name the group but no kind.
fn invalid(errors: FieldErrors) -> Result<(), ApiError> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(&GroupKind::new("authorization.k8s.io", ""), "", errors))
}

#[cfg(test)]
mod tests;
