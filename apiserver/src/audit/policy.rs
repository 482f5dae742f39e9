//! `audit.k8s.io/v1` Policy: what is recorded of which request. The first rule that matches decides; without one, nothing is.
//!
//! Entry points: [`Policy::parse`], [`Policy::rule`].
//! Reference: <https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/>.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use serde::Deserialize;

use super::{Level, Stage};
use crate::authn::User;
use crate::http::request_info::{RequestInfo, ResourcePath};

const STAGES: [&str; 4] = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"];
const LEVELS: [&str; 4] = ["None", "Metadata", "Request", "RequestResponse"];

/// A policy that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is no YAML, or not of this form.
    #[error("failed decoding: {0}")]
    Malformed(#[from] serde_yaml::Error),
    /// It is something else.
    #[error("unknown group version field {0:?} in policy")]
    Unknown(String),
    /// It says nothing.
    #[error("loaded illegal policy with 0 rules")]
    Empty,
    /// It contradicts itself.
    #[error("{0}")]
    Invalid(FieldErrors),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Vec<Rule>,
}

/// What is recorded of some requests.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) level: Level,
    pub(super) omit_stages: Vec<Stage>,
    pub(super) omit_managed_fields: bool,
    wire: WireRule,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    api_version: String,
    kind: String,
    #[serde(default)]
    #[allow(dead_code, reason = "a policy may have metadata, which says nothing to us")]
    metadata: serde_yaml::Value,
    #[serde(default)]
    rules: Vec<WireRule>,
    #[serde(default)]
    omit_stages: Vec<String>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WireRule {
    level: String,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Group>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Group {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

impl Policy {
    /// Reads a policy from YAML.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let wire: Wire = serde_yaml::from_str(text)?;
        if (wire.api_version.as_str(), wire.kind.as_str()) != ("audit.k8s.io/v1", "Policy") {
            return Err(PolicyError::Unknown(format!("{}, Kind={}", wire.api_version, wire.kind)));
        }
        if wire.rules.is_empty() {
            return Err(PolicyError::Empty);
        }
        let mut errors = FieldErrors::new();
        for (i, rule) in wire.rules.iter().enumerate() {
            rule.validate(&mut errors, &FieldPath::root("rules").index(i));
        }
        if !errors.is_empty() {
            return Err(PolicyError::Invalid(errors));
        }
        let rules = wire.rules.into_iter().map(|rule| Rule {
            level: level(&rule.level),
            omit_stages: wire.omit_stages.iter().chain(&rule.omit_stages).filter_map(|stage| stage_of(stage)).collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(wire.omit_managed_fields),
            wire: rule,
        });
        Ok(Self { rules: rules.collect() })
    }

    /// How a request is recorded; none if it is not.
    pub(super) fn rule(&self, user: &User, info: &RequestInfo) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.wire.matches(user, info)).filter(|rule| rule.level > Level::None)
    }
}

fn level(text: &str) -> Level {
    match text {
        "Metadata" => Level::Metadata,
        "Request" => Level::Request,
        "RequestResponse" => Level::RequestResponse,
        _ => Level::None,
    }
}

fn stage_of(text: &str) -> Option<Stage> {
    match text {
        "RequestReceived" => Some(Stage::RequestReceived),
        "ResponseStarted" => Some(Stage::ResponseStarted),
        "ResponseComplete" => Some(Stage::ResponseComplete),
        "Panic" => Some(Stage::Panic),
        _ => None,
    }
}

fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|item| item == text)
}

impl WireRule {
    fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        let of_user = self.users.is_empty() || has(&self.users, &user.name);
        let of_group = self.user_groups.is_empty() || user.groups.iter().any(|group| has(&self.user_groups, group));
        let of_verb = self.verbs.is_empty() || has(&self.verbs, info.verb);
        if !(of_user && of_group && of_verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return info.resource.as_ref().is_some_and(|at| self.means(at));
        }
        if !self.non_resource_urls.is_empty() {
            return info.resource.is_none() && self.non_resource_urls.iter().any(|url| path_matches(&info.path, url));
        }
        true
    }

    fn means(&self, at: &ResourcePath) -> bool {
        let in_namespace = self.namespaces.is_empty() || has(&self.namespaces, &at.namespace);
        in_namespace && (self.resources.is_empty() || self.resources.iter().any(|group| group.means(at)))
    }

    fn validate(&self, errors: &mut FieldErrors, path: &FieldPath) {
        if self.level.is_empty() {
            errors.push(FieldError::required(&path.child("level"), ""));
        } else if !LEVELS.contains(&self.level.as_str()) {
            errors.push(FieldError::not_supported(&path.child("level"), &self.level, &LEVELS));
        }
        let at = path.child("nonResourceURLs");
        for (i, url) in self.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
            if !url.starts_with('/') {
                let detail = "non-resource URL rules must begin with a '/' character";
                errors.push(FieldError::invalid(&at.index(i), url, detail));
            }
            if url.strip_suffix('*').unwrap_or(url).contains('*') {
                let detail = "non-resource URL wildcards '*' must be the final character of the rule";
                errors.push(FieldError::invalid(&at.index(i), url, detail));
            }
        }
        for group in &self.resources {
            let at = path.child("resources");
            let wrong = if group.group.is_empty() { Vec::new() } else { names::is_dns1123_subdomain(&group.group) };
            if !wrong.is_empty() {
                errors.push(FieldError::invalid(&at.child("group"), &group.group, wrong.join(",")));
            }
            if !group.resource_names.is_empty() && group.resources.is_empty() {
                let detail = "using resourceNames requires at least one resource";
                errors.push(FieldError::invalid(&at.child("resourceNames"), &group.resource_names, detail));
            }
        }
        for (i, stage) in self.omit_stages.iter().enumerate().filter(|(_, stage)| !STAGES.contains(&stage.as_str())) {
            let detail = format!("allowed stages are {}", STAGES.join(","));
            errors.push(FieldError::invalid(&path.child("omitStages").index(i), stage, detail));
        }
        let selects_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if selects_resources && !self.non_resource_urls.is_empty() {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(FieldError::invalid(&path.child("nonResourceURLs"), &self.non_resource_urls, detail));
        }
    }
}

impl Group {
    fn means(&self, at: &ResourcePath) -> bool {
        if self.group != at.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let named = self.resource_names.is_empty() || has(&self.resource_names, &at.name);
        let whole = match at.subresource.as_str() {
            "" => at.resource.clone(),
            subresource => format!("{}/{subresource}", at.resource),
        };
        named
            && self.resources.iter().any(|text| {
                *text == whole
                    || text == "*"
                    || (!at.subresource.is_empty() && text.strip_prefix("*/") == Some(at.subresource.as_str()))
                    || text.strip_suffix("/*") == Some(at.resource.as_str())
            })
    }
}

fn path_matches(path: &str, url: &str) -> bool {
    url == "*" || url == path || (url.ends_with('*') && path.starts_with(url.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::query::Query;
    use axum::http::Method;

    const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: [system:kube-proxy], verbs: [watch]}
- {level: RequestResponse, resources: [{group: '', resources: [pods]}]}
- {level: Metadata, resources: [{group: '', resources: ['pods/log', 'pods/status']}], omitStages: [Panic]}
- {level: None, resources: [{group: '', resources: [configmaps], resourceNames: [quiet]}]}
- {level: Request, namespaces: [kube-system]}
- {level: None, nonResourceURLs: ['/healthz*', /version]}
- {level: Metadata, userGroups: [system:masters]}
";

    #[test]
    fn the_first_rule_that_matches_decides() {
        let policy = Policy::parse(POLICY).expect("a policy");
        let user = |name: &str, group: &str| User { name: name.into(), groups: vec![group.into()], ..User::default() };
        let (proxy, admin, other) =
            (user("system:kube-proxy", "g"), user("admin", "system:masters"), user("other", "g"));
        let table = [
            (&proxy, "/api/v1/pods?watch=true", None),
            (&proxy, "/api/v1/pods", Some(Level::RequestResponse)),
            (&other, "/api/v1/namespaces/n/pods/p/log", Some(Level::Metadata)),
            (&other, "/api/v1/namespaces/n/pods/p/exec", None),
            (&other, "/api/v1/namespaces/kube-system/configmaps/quiet", None),
            (&other, "/api/v1/namespaces/kube-system/configmaps/loud", Some(Level::Request)),
            (&admin, "/healthz/ping", None),
            (&admin, "/version", None),
            (&admin, "/metrics", Some(Level::Metadata)),
            (&other, "/metrics", None),
        ];
        for (user, uri, expected) in table {
            let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
            let info = RequestInfo::parse(&Method::GET, path, &Query::parse(query));
            assert_eq!(policy.rule(user, &info).map(|rule| rule.level), expected, "{uri}");
        }
        let info = RequestInfo::parse(&Method::GET, "/api/v1/namespaces/n/pods/p/log", &Query::parse(""));
        let rule = policy.rule(&other, &info).expect("it is recorded");
        assert_eq!(rule.omit_stages, [Stage::RequestReceived, Stage::Panic]);
    }

    #[test]
    fn policies_that_make_no_sense() {
        let of = |rules: &str| {
            let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {rules}\n");
            Policy::parse(&text).map(drop).map_err(|error| error.to_string()).expect_err("it is refused")
        };
        let table = [
            ("[]", "loaded illegal policy with 0 rules"),
            ("[{}]", "rules[0].level: Required value"),
            (
                "[{level: Metadata, nonResourceURLs: ['x', '/a*b']}]",
                "[rules[0].nonResourceURLs[0]: Invalid value: \"x\": non-resource URL rules must begin with a '/' character, \
                 rules[0].nonResourceURLs[1]: Invalid value: \"/a*b\": non-resource URL wildcards '*' must be the final character of the rule]",
            ),
            (
                "[{level: Metadata, omitStages: [Later]}]",
                "rules[0].omitStages[0]: Invalid value: \"Later\": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic",
            ),
            (
                "[{level: Metadata, nonResourceURLs: ['/x'], namespaces: [n]}]",
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and non-resource URLs",
            ),
        ];
        for (rules, expected) in table {
            assert_eq!(of(rules), expected);
        }
        assert!(of("[{level: Metadata, colour: red}]").contains("unknown field `colour`"));
    }
}
