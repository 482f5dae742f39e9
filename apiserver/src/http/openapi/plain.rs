//! The paths that are no resources. Entry points: [`of_group_version`], [`of_group`], [`of_server`].

use super::definitions::{self, VERSION_INFO};
use super::names::Naming;
use super::operation::{Answer, Body, OBJECT, Operation, PathItem};
use super::operations::root;

/// The list of the resources of a group and version.
pub fn of_group_version(group: &str, version: &str) -> PathItem {
    let naming = Naming::new(group, version);
    let id = format!("{}APIResources", naming.operation("get", ""));
    let answer = definitions::name_of("meta/v1.APIResourceList");
    plain(format!("{}/", root(group, version)), naming.tag(), id, "get available resources", Some(answer), OBJECT)
}

/// The group itself, or with an empty name the versions of the core group.
pub fn of_group(group: &str) -> PathItem {
    let naming = Naming::new(group, "");
    let (path, what, kind, text) = match group {
        "" => ("/api/".to_owned(), "APIVersions", "APIVersions", "get available API versions"),
        group => (format!("/apis/{group}/"), "APIGroup", "APIGroup", "get information of a group"),
    };
    let answer = definitions::name_of(&format!("meta/v1.{kind}"));
    plain(path, naming.tag(), naming.operation("get", what), text, Some(answer), OBJECT)
}

/// Paths of the server itself: the key is what the document of version 3 is called.
pub fn of_server() -> Vec<(&'static str, PathItem)> {
    let groups = definitions::name_of("meta/v1.APIGroupList");
    let item = |path: &str, tag: &str, id: &str, text, answer, produces| {
        plain(path.to_owned(), tag.to_owned(), id.to_owned(), text, answer, produces)
    };
    vec![
        (
            ".well-known/openid-configuration",
            item(
                "/.well-known/openid-configuration/",
                "WellKnown",
                "getServiceAccountIssuerOpenIDConfiguration",
                "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
                None,
                &["application/json"],
            ),
        ),
        ("apis", item("/apis/", "apis", "getAPIVersions", "get available API versions", Some(groups), OBJECT)),
        (
            "openid/v1/jwks",
            item(
                "/openid/v1/jwks/",
                "openid",
                "getServiceAccountIssuerOpenIDKeyset",
                "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
                None,
                &["application/jwk-set+json"],
            ),
        ),
        (
            "version",
            item(
                "/version/",
                "version",
                "getCodeVersion",
                "get the version information for this server",
                Some(VERSION_INFO.to_owned()),
                &["application/json"],
            ),
        ),
    ]
}

fn plain(
    path: String,
    tag: String,
    id: String,
    text: &str,
    answer: Option<String>,
    produces: &'static [&'static str],
) -> PathItem {
    let operation = Operation {
        method: "get",
        id,
        description: text.to_owned(),
        action: "",
        kind: None,
        tag,
        parameters: Vec::new(),
        body: Body::None,
        codes: &[200],
        answer: answer.map_or(Answer::Text, Answer::Object),
        produces,
    };
    PathItem { path, operations: vec![operation] }
}
