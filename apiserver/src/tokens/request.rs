//! TokenRequest: what `POST …/serviceaccounts/NAME/token` answers. Entry points: [`prepare`] and, after admission, [`issue`].

use api::error::ApiError;
use api::field::{FieldError, FieldErrors, FieldPath};
use api::names::{GroupKind, GroupResource};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestStatus};
use k8s_openapi::api::core::v1::{Node, Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use process::rng::Rng;
use serde::de::DeserializeOwned;

use super::{Claims, Identity, Named, Tokens};
use crate::admission::Lookup;

const GROUP: &str = "authentication.k8s.io";
/// How long a token lives if the request does not say.
pub const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// What projected volumes ask for by default; such tokens live a year, so that old clients that never reread them survive.
const WARN_ONLY_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// What a token is bound to.
#[derive(Default)]
struct Bound {
    pod: Option<Named>,
    secret: Option<Named>,
    node: Option<Named>,
}

/// Fills in what is left open and refuses what is never valid; admission comes after this.
pub async fn prepare(
    mut request: TokenRequest,
    tokens: &Tokens,
    namespace: &str,
    name: &str,
    now: Timestamp,
    lookup: &dyn Lookup,
) -> Result<TokenRequest, ApiError> {
    must_match(request.metadata.name.as_deref(), name, "name", name)?;
    must_match(request.metadata.namespace.as_deref(), namespace, "namespace", name)?;
    let account: ServiceAccount = find(lookup, "serviceaccounts", namespace, name).await?;
    request.metadata = ObjectMeta {
        name: account.metadata.name,
        namespace: account.metadata.namespace,
        uid: account.metadata.uid,
        creation_timestamp: Some(Time(truncated(now))),
        ..request.metadata
    };
    let spec = request.spec.get_or_insert_default();
    let audiences = spec.audiences.take().filter(|audiences| !audiences.is_empty());
    spec.audiences = Some(audiences.unwrap_or_else(|| tokens.audiences().to_vec()));
    validate(*spec.expiration_seconds.get_or_insert(DEFAULT_SECONDS))?;
    request.status = None;
    Ok(request)
}

/// Signs the token and answers the request with it.
pub async fn issue(
    mut request: TokenRequest,
    tokens: &Tokens,
    rng: &Rng,
    now: Timestamp,
    lookup: &dyn Lookup,
) -> Result<TokenRequest, ApiError> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (namespace, name) = (text(&request.metadata.namespace), text(&request.metadata.name));
    let spec = request.spec.clone().unwrap_or_default();
    let bound = match &spec.bound_object_ref {
        Some(reference) => bind(reference, &namespace, &name, lookup).await?,
        None => Bound::default(),
    };
    let wanted = spec.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
    let audiences = spec.audiences.unwrap_or_default();
    let for_us = audiences.iter().all(|audience| tokens.audiences().contains(audience));
    let extended = bound.pod.is_some() && wanted == WARN_ONLY_SECONDS && for_us;
    let iat = now.as_second();
    let claims = Claims {
        aud: audiences,
        exp: iat + if extended { EXTENDED_SECONDS } else { wanted },
        iat,
        nbf: iat,
        iss: tokens.issuer().to_owned(),
        jti: rng.uuid(),
        sub: format!("{}{namespace}:{name}", api::well_known::users::SERVICE_ACCOUNT_PREFIX),
        kubernetes: Identity {
            namespace,
            serviceaccount: Named { name, uid: text(&request.metadata.uid) },
            pod: bound.pod,
            secret: bound.secret,
            node: bound.node,
            warnafter: extended.then_some(iat + wanted),
        },
    };
    let token =
        tokens.sign(&claims).map_err(|error| ApiError::internal(format!("failed to generate token: {error}")))?;
    let expires = now.checked_add(SignedDuration::from_secs(wanted)).unwrap_or(Timestamp::MAX);
    request.status =
        Some(TokenRequestStatus { expiration_timestamp: Some(Time(truncated(expires))), token: Some(token) });
    Ok(request)
}

fn validate(seconds: i64) -> Result<(), ApiError> {
    let path = FieldPath::root("spec").child("expirationSeconds");
    let mut errors = FieldErrors::new();
    if seconds < MIN_SECONDS {
        errors.push(FieldError::invalid(&path, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > MAX_SECONDS {
        errors.push(FieldError::invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    if errors.0.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(&GroupKind::new(GROUP, "TokenRequest"), "", errors))
    }
}

fn must_match(given: Option<&str>, expected: &str, field: &str, name: &str) -> Result<(), ApiError> {
    match given {
        Some(given) if !given.is_empty() && given != expected => {
            let path = FieldPath::root("metadata").child(field);
            let mut errors = FieldErrors::new();
            errors.push(FieldError::invalid(
                &path,
                given,
                format!("must match the service account {field} if specified"),
            ));
            Err(ApiError::invalid(&GroupKind::new(GROUP, "TokenRequest"), name, errors))
        }
        _ => Ok(()),
    }
}

async fn bind(
    reference: &BoundObjectReference,
    namespace: &str,
    account: &str,
    lookup: &dyn Lookup,
) -> Result<Bound, ApiError> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (api_version, kind, name) = (text(&reference.api_version), text(&reference.kind), text(&reference.name));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let mut bound = Bound::default();
    let uid = match (group, kind.as_str()) {
        ("", "Pod") => {
            let pod: Pod = find(lookup, "pods", namespace, &name).await?;
            let spec = pod.spec.unwrap_or_default();
            if spec.service_account_name.as_deref() != Some(account) {
                let why = format!(
                    "cannot bind token for serviceaccount \"{account}\" to pod running with different serviceaccount name."
                );
                return Err(ApiError::bad_request(why));
            }
            bound.node = node_of(spec.node_name, lookup).await?;
            bound.pod.insert(named(pod.metadata)).uid.clone()
        }
        ("", "Node") => {
            let node: Node = find(lookup, "nodes", "", &name).await?;
            bound.node.insert(named(node.metadata)).uid.clone()
        }
        ("", "Secret") => {
            let secret: Secret = find(lookup, "secrets", namespace, &name).await?;
            bound.secret.insert(named(secret.metadata)).uid.clone()
        }
        _ => {
            return Err(ApiError::bad_request(format!(
                "cannot bind token to object of type {group}/{version}, Kind={kind}"
            )));
        }
    };
    match reference.uid.as_deref() {
        Some(wanted) if !wanted.is_empty() && wanted != uid => {
            let why = format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            Err(ApiError::conflict(&GroupResource::new(group, &kind), &name, &why))
        }
        _ => Ok(bound),
    }
}

/// The node of a pod, which need not be registered.
async fn node_of(name: Option<String>, lookup: &dyn Lookup) -> Result<Option<Named>, ApiError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    match find::<Node>(lookup, "nodes", "", &name).await {
        Ok(node) => Ok(Some(named(node.metadata))),
        Err(error) if error.is_not_found() => Ok(Some(Named { name, uid: String::new() })),
        Err(error) => Err(error),
    }
}

async fn find<T: DeserializeOwned>(
    lookup: &dyn Lookup,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Result<T, ApiError> {
    if name.is_empty() {
        return Err(ApiError::bad_request("Name parameter required."));
    }
    let bytes = lookup.get("", plural, namespace, name).await?;
    let bytes = bytes.ok_or_else(|| ApiError::not_found(&GroupResource::new("", plural), name))?;
    serde_json::from_slice(&bytes).map_err(ApiError::internal)
}

fn named(meta: ObjectMeta) -> Named {
    Named { name: meta.name.unwrap_or_default(), uid: meta.uid.unwrap_or_default() }
}

fn truncated(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tests::{ISSUER, tokens};
    use crate::view::fixture::Objects;
    use serde_json::{Value, json};

    fn cluster() -> Objects {
        Objects::with(&[
            ("", "serviceaccounts", json!({"metadata": {"name": "sa", "namespace": "n", "uid": "u-sa"}})),
            (
                "",
                "pods",
                json!({"metadata": {"name": "p", "namespace": "n", "uid": "u-p"}, "spec": {"containers": [], "serviceAccountName": "sa", "nodeName": "node"}}),
            ),
            (
                "",
                "pods",
                json!({"metadata": {"name": "q", "namespace": "n", "uid": "u-q"}, "spec": {"containers": [], "serviceAccountName": "other"}}),
            ),
            ("", "nodes", json!({"metadata": {"name": "node", "uid": "u-node"}})),
        ])
    }

    async fn answer(tokens: &Tokens, account: &str, spec: Value) -> Result<TokenRequest, ApiError> {
        let now = Timestamp::from_second(1000).unwrap();
        let mut spec = spec;
        if spec.get("audiences").is_none() {
            spec["audiences"] = json!([]);
        }
        let request = serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a request");
        let request = prepare(request, tokens, "n", account, now, &cluster()).await?;
        issue(request, tokens, &Rng::seeded(1), now, &cluster()).await
    }

    #[tokio::test]
    async fn tokens_say_who_and_for_how_long() {
        let tokens = tokens();
        let table = [
            (json!({}), 3600, Identity::default()),
            (json!({"expirationSeconds": 700, "audiences": ["x"]}), 700, Identity::default()),
            (
                json!({"expirationSeconds": 3607, "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "u-p"}}),
                EXTENDED_SECONDS,
                Identity {
                    pod: Some(Named { name: "p".to_owned(), uid: "u-p".to_owned() }),
                    node: Some(Named { name: "node".to_owned(), uid: "u-node".to_owned() }),
                    warnafter: Some(1000 + 3607),
                    ..Identity::default()
                },
            ),
        ];
        for (spec, lives, identity) in table {
            let audiences = vec![ISSUER.to_owned(), "x".to_owned()];
            let answer = answer(&tokens, "sa", spec).await.expect("a token");
            let verified = tokens
                .verify(&answer.status.unwrap().token.unwrap(), &audiences, Timestamp::from_second(1001).unwrap())
                .expect("valid");
            let account = Named { name: "sa".to_owned(), uid: "u-sa".to_owned() };
            assert_eq!(
                verified.claims.kubernetes,
                Identity { namespace: "n".to_owned(), serviceaccount: account, ..identity }
            );
            assert_eq!(verified.claims.exp - verified.claims.iat, lives);
            assert_eq!(verified.claims.sub, "system:serviceaccount:n:sa");
        }
    }

    #[tokio::test]
    async fn requests_are_refused_in_upstreams_words() {
        let tokens = tokens();
        let bound = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name, "uid": uid}});
        let table = [
            (
                "sa",
                json!({"expirationSeconds": 60}),
                422,
                "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes",
            ),
            (
                "sa",
                json!({"expirationSeconds": 8_589_934_592_i64}),
                422,
                "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 8589934592: may not specify a duration larger than 2^32 seconds",
            ),
            ("zz", json!({}), 404, "serviceaccounts \"zz\" not found"),
            ("sa", bound("Pod", "zz", ""), 404, "pods \"zz\" not found"),
            ("sa", bound("Secret", "", ""), 400, "Name parameter required."),
            ("sa", bound("ConfigMap", "zz", ""), 400, "cannot bind token to object of type /v1, Kind=ConfigMap"),
            (
                "sa",
                bound("Pod", "q", ""),
                400,
                "cannot bind token for serviceaccount \"sa\" to pod running with different serviceaccount name.",
            ),
            (
                "sa",
                bound("Pod", "p", "old"),
                409,
                "Operation cannot be fulfilled on Pod \"p\": the UID in the bound object reference (old) does not match the UID in record. The object might have been deleted and then recreated",
            ),
        ];
        for (account, spec, code, message) in table {
            let error = answer(&tokens, account, spec).await.expect_err(message);
            assert_eq!((error.code, error.message.as_str()), (code, message));
        }
    }
}
