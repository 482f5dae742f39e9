//! A service account token says who asks, as long as the account and what the token is bound to still exist.
//! Entry point: [`TokenAuthenticator::user`]. The existence is checked for every request, in the cache.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::well_known::{groups, users};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use super::User;
use crate::tokens::{Claims, Named, TokenError, Tokens, Verified};
use crate::view::{self, View};

/// How long the tokens of an object that is being deleted still work.
const DELETION_LEEWAY_SECONDS: i64 = 60;

/// See the module.
pub struct TokenAuthenticator {
    tokens: Arc<Tokens>,
    objects: Arc<dyn View>,
}

/// Why a token is refused; the words are upstream's, as TokenReview shows them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// By itself.
    #[error("{}", review_error(.0))]
    Token(#[from] TokenError),
    /// For what became of its account or bound object.
    #[error("[invalid bearer token, {0}]")]
    Stale(String),
}

#[derive(Deserialize)]
struct Object {
    metadata: ObjectMeta,
}

fn review_error(error: &TokenError) -> String {
    match error {
        TokenError::Unknown => error.to_string(),
        other => format!("[invalid bearer token, {other}]"),
    }
}

impl TokenAuthenticator {
    /// Over these keys and objects.
    pub fn new(tokens: Arc<Tokens>, objects: Arc<dyn View>) -> Self {
        Self { tokens, objects }
    }

    /// What this server answers to.
    pub fn audiences(&self) -> &[String] {
        self.tokens.audiences()
    }

    /// The user of a token, and for which of the audiences it is.
    pub fn user(&self, token: &str, audiences: &[String], now: Timestamp) -> Result<(User, Vec<String>), Refused> {
        let Verified { claims, audiences } = self.tokens.verify(token, audiences, now)?;
        self.still_there(&claims, token, now).map_err(Refused::Stale)?;
        Ok((user(&claims), audiences))
    }

    fn still_there(&self, claims: &Claims, token: &str, now: Timestamp) -> Result<(), String> {
        let of = &claims.kubernetes;
        let account = self.find("serviceaccounts", &of.namespace, &of.serviceaccount.name);
        let account = account.ok_or_else(|| format!("serviceaccounts \"{}\" not found", of.serviceaccount.name))?;
        if gone(&account, now) {
            return Err("service account has been deleted".to_owned());
        }
        let uid = account.uid.unwrap_or_default();
        if uid != of.serviceaccount.uid {
            return Err(format!("service account UID ({uid}) does not match claim ({})", of.serviceaccount.uid));
        }
        match &of.secret {
            Some(secret) if secret.uid.is_empty() => self.kept_in(secret, &of.namespace, token)?,
            secret => self.bound("secret", "secrets", &of.namespace, secret.as_ref(), now)?,
        }
        self.bound("pod", "pods", &of.namespace, of.pod.as_ref(), now)?;
        // The node of a pod's token only informs: the pod is what the token is bound to.
        if of.pod.is_none() {
            self.bound("node", "nodes", "", of.node.as_ref(), now)?;
        }
        Ok(())
    }

    /// A token of the old form is the one in its Secret, or none.
    fn kept_in(&self, secret: &Named, namespace: &str, token: &str) -> Result<(), String> {
        let found: Option<Secret> = view::get_as(self.objects.as_ref(), "", "secrets", namespace, &secret.name);
        let found = found.ok_or("service account token has been invalidated")?;
        let copy = found.data.as_ref().and_then(|data| data.get("token"));
        if copy.is_some_and(|copy| copy.0 == token.as_bytes()) {
            Ok(())
        } else {
            Err("token does not match server's copy".to_owned())
        }
    }

    fn bound(
        &self,
        what: &str,
        plural: &str,
        namespace: &str,
        to: Option<&Named>,
        now: Timestamp,
    ) -> Result<(), String> {
        let Some(to) = to else { return Ok(()) };
        let found = self.find(plural, namespace, &to.name).filter(|meta| !gone(meta, now));
        let uid = found.ok_or("service account token has been invalidated")?.uid.unwrap_or_default();
        if uid != to.uid {
            return Err(format!("{what} UID ({uid}) does not match service account {what} ref claim ({})", to.uid));
        }
        Ok(())
    }

    fn find(&self, plural: &str, namespace: &str, name: &str) -> Option<ObjectMeta> {
        let object: Object = view::get_as(self.objects.as_ref(), "", plural, namespace, name)?;
        Some(object.metadata)
    }
}

fn gone(meta: &ObjectMeta, now: Timestamp) -> bool {
    let deleted = meta.deletion_timestamp.as_ref();
    deleted.is_some_and(|at| at.0.as_second() < now.as_second() - DELETION_LEEWAY_SECONDS)
}

/// The user of a service account by name, as tokens and impersonation name it.
pub fn account_groups(namespace: &str) -> Vec<String> {
    vec![groups::SERVICE_ACCOUNTS.to_owned(), format!("{}:{namespace}", groups::SERVICE_ACCOUNTS)]
}

fn user(claims: &Claims) -> User {
    const PREFIX: &str = "authentication.kubernetes.io/";
    let of = &claims.kubernetes;
    let mut extra = BTreeMap::new();
    let mut say = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("{PREFIX}{key}"), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        say("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(pod) = &of.pod {
        say("pod-name", &pod.name);
        say("pod-uid", &pod.uid);
    }
    if let Some(node) = &of.node {
        say("node-name", &node.name);
        say("node-uid", &node.uid);
    }
    User {
        name: format!("{}{}:{}", users::SERVICE_ACCOUNT_PREFIX, of.namespace, of.serviceaccount.name),
        uid: of.serviceaccount.uid.clone(),
        groups: account_groups(&of.namespace),
        extra,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::KeySource;
    use crate::tokens::tests::{ISSUER, claims, tokens};
    use crate::view::fixture::Objects;
    use serde_json::{Value, json};

    fn object(name: &str, uid: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "n", "uid": uid}})
    }

    #[test]
    fn tokens_die_with_what_they_are_bound_to() {
        let mut bound = claims();
        bound.kubernetes.pod = Some(Named { name: "p".to_owned(), uid: "u-p".to_owned() });
        let dying = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u-p", "deletionTimestamp": "1970-01-01T00:20:00Z"}});
        let table = [
            (vec![("serviceaccounts", object("sa", "u")), ("pods", object("p", "u-p"))], Ok(())),
            (vec![("pods", object("p", "u-p"))], Err("[invalid bearer token, serviceaccounts \"sa\" not found]")),
            (
                vec![("serviceaccounts", object("sa", "new"))],
                Err("[invalid bearer token, service account UID (new) does not match claim (u)]"),
            ),
            (
                vec![("serviceaccounts", object("sa", "u"))],
                Err("[invalid bearer token, service account token has been invalidated]"),
            ),
            (
                vec![("serviceaccounts", object("sa", "u")), ("pods", dying)],
                Err("[invalid bearer token, service account token has been invalidated]"),
            ),
            (
                vec![("serviceaccounts", object("sa", "u")), ("pods", object("p", "new"))],
                Err("[invalid bearer token, pod UID (new) does not match service account pod ref claim (u-p)]"),
            ),
        ];
        let tokens = Arc::new(tokens());
        let token = tokens.sign(&bound).expect("a token");
        for (objects, expected) in table {
            let objects: Vec<_> = objects.into_iter().map(|(plural, value)| ("", plural, value)).collect();
            let authenticator = TokenAuthenticator::new(Arc::clone(&tokens), Arc::new(Objects::with(&objects)));
            let answer = authenticator.user(&token, &[ISSUER.to_owned()], Timestamp::from_second(2000).unwrap());
            assert_eq!(answer.map(|_| ()).map_err(|error| error.to_string()), expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn tokens_in_secrets_live_as_long_as_their_copy() {
        use base64::Engine as _;
        let pem = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        let source = KeySource::Here { signing: pem.clone(), verifying: vec![] };
        let tokens = Arc::new(Tokens::new(ISSUER, &source).expect("tokens"));
        let claims = json!({
            "iss": "kubernetes/serviceaccount",
            "sub": "system:serviceaccount:n:sa",
            "kubernetes.io/serviceaccount/namespace": "n",
            "kubernetes.io/serviceaccount/secret.name": "s",
            "kubernetes.io/serviceaccount/service-account.name": "sa",
            "kubernetes.io/serviceaccount/service-account.uid": "u",
        });
        let key = jsonwebtoken::EncodingKey::from_ec_pem(pem.as_bytes()).expect("a key");
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256), &claims, &key)
            .expect("a token");
        let who = |copy: &str| {
            let copy = base64::engine::general_purpose::STANDARD.encode(copy);
            let secret = json!({"metadata": {"name": "s", "namespace": "n"}, "data": {"token": copy}});
            let objects = Objects::with(&[("", "serviceaccounts", object("sa", "u")), ("", "secrets", secret)]);
            let answer = TokenAuthenticator::new(Arc::clone(&tokens), Arc::new(objects)).user(
                &token,
                tokens.audiences(),
                Timestamp::from_second(2000).unwrap(),
            );
            answer.map(|(user, _)| user.name).map_err(|error| error.to_string())
        };
        assert_eq!(who(&token), Ok("system:serviceaccount:n:sa".to_owned()));
        assert_eq!(who("other"), Err("[invalid bearer token, token does not match server's copy]".to_owned()));
    }

    #[test]
    fn the_user_carries_pod_and_node() {
        let mut claims = claims();
        claims.kubernetes.pod = Some(Named { name: "p".to_owned(), uid: "u-p".to_owned() });
        claims.kubernetes.node = Some(Named { name: "node".to_owned(), uid: String::new() });
        let extra: Vec<_> =
            user(&claims).extra.into_iter().map(|(key, values)| format!("{key}={}", values.join(","))).collect();
        let expected = ["credential-id=JTI=j", "node-name=node", "pod-name=p", "pod-uid=u-p"];
        assert_eq!(extra, expected.map(|pair| format!("authentication.kubernetes.io/{pair}")));
    }
}
