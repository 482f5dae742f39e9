//! Authentication: the ordered table of ways to find out who asks. The first that recognises the request decides.
//! Entry point: [`Authenticators::authenticate`]; [`impersonation`] comes after it.

pub mod certificate;
pub mod impersonation;
pub mod service_account;

use std::sync::Arc;

use api::error::ApiError;
use api::well_known::{groups, users};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;
use process::clock::Clock;

use self::service_account::{Refused, TokenAuthenticator};
use crate::server::ClientCertificates;
use crate::tokens::Tokens;
use crate::view::View;

const WEBSOCKET_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// Who asks: upstream's user.Info.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// For example `system:serviceaccount:default:default`.
    pub name: String,
    /// Set for service accounts.
    pub uid: String,
    /// Always ends with system:authenticated or system:unauthenticated.
    pub groups: Vec<String>,
    /// Further facts, for example the pod a token is bound to.
    pub extra: std::collections::BTreeMap<String, Vec<String>>,
}

/// The table.
pub struct Authenticators {
    tokens: TokenAuthenticator,
    clock: Clock,
}

impl User {
    /// Who did not say who they are.
    pub fn anonymous() -> Self {
        Self { name: users::ANONYMOUS.to_owned(), groups: vec![groups::UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// The API server itself, for what it writes on its own.
    pub fn apiserver() -> Self {
        Self { name: users::APISERVER.to_owned(), groups: vec![groups::MASTERS.to_owned()], ..Self::default() }
            .authenticated()
    }

    fn authenticated(mut self) -> Self {
        if !self.groups.iter().any(|group| group == groups::AUTHENTICATED || group == groups::UNAUTHENTICATED) {
            self.groups.push(groups::AUTHENTICATED.to_owned());
        }
        self
    }
}

impl Authenticators {
    /// Over these keys and objects.
    pub fn new(tokens: Arc<Tokens>, objects: Arc<dyn View>, clock: Clock) -> Self {
        Self { tokens: TokenAuthenticator::new(tokens, objects), clock }
    }

    /// Finds out who asks. The listener has verified the certificates of the connection against the client CA.
    pub async fn authenticate(&self, request: &Parts, certificates: &ClientCertificates) -> Result<User, ApiError> {
        if let Some(user) = certificates.leaf().and_then(|leaf| leaf.user(self.clock.now())) {
            return Ok(user.clone());
        }
        match bearer(request) {
            Some(token) => {
                self.token_user(&token, self.tokens.audiences()).map(|(user, _)| user).map_err(|_| unauthorized())
            }
            None => Ok(User::anonymous()),
        }
    }

    /// Who a token stands for, and for which of the wanted audiences: what TokenReview answers.
    pub fn token_user(&self, token: &str, audiences: &[String]) -> Result<(User, Vec<String>), Refused> {
        let (user, audiences) = self.tokens.user(token, audiences, self.clock.now())?;
        Ok((user.authenticated(), audiences))
    }

    /// What this server answers to.
    pub fn audiences(&self) -> &[String] {
        self.tokens.audiences()
    }
}

/// The token of the Authorization header, or of the WebSocket protocol in which browsers send it.
fn bearer(request: &Parts) -> Option<String> {
    let text = |name| request.headers.get(name).and_then(|value| value.to_str().ok());
    if let Some((scheme, token)) = text(AUTHORIZATION).and_then(|header| header.trim().split_once(' '))
        && scheme.eq_ignore_ascii_case("bearer")
        && !token.trim().is_empty()
    {
        return Some(token.trim().to_owned());
    }
    let protocols = text(SEC_WEBSOCKET_PROTOCOL)?.split(',');
    let encoded = protocols.filter_map(|protocol| protocol.trim().strip_prefix(WEBSOCKET_PREFIX)).next()?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

fn unauthorized() -> ApiError {
    ApiError::unauthorized("Unauthorized")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tests::{claims, tokens};
    use crate::view::fixture::Objects;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    fn parts(authorization: Option<&str>) -> Parts {
        let mut request = http::Request::builder();
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_certificates_and_nobody() {
        let tokens = Arc::new(tokens());
        let token = format!("Bearer {}", tokens.sign(&claims()).expect("a token"));
        let stored = json!({"metadata": {"name": "sa", "namespace": "n", "uid": "u"}});
        let objects = Arc::new(Objects::with(&[("", "serviceaccounts", stored)]));
        let clock = Clock::starting_at(Timestamp::from_second(2000).unwrap());
        let authenticators = Authenticators::new(tokens, objects.clone(), clock);
        let said = async |parts: Parts| {
            let answer = authenticators.authenticate(&parts, &ClientCertificates::default()).await;
            answer.map(|user| (user.name, user.groups)).map_err(|error| (error.code, error.message))
        };
        let who = async |authorization| said(parts(authorization)).await;
        let encoded = format!("v5.channel.k8s.io, {WEBSOCKET_PREFIX}{}", URL_SAFE_NO_PAD.encode(&token[7..]));
        let websocket = http::Request::builder()
            .header(SEC_WEBSOCKET_PROTOCOL, encoded)
            .body(())
            .expect("a request")
            .into_parts()
            .0;
        let anonymous = Ok(("system:anonymous".to_owned(), vec!["system:unauthenticated".to_owned()]));
        let refused = Err((401, "Unauthorized".to_owned()));
        let groups =
            ["system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated"].map(str::to_owned).to_vec();
        assert_eq!(who(None).await, anonymous);
        assert_eq!(who(Some("Basic YTpi")).await, anonymous);
        assert_eq!(who(Some("Bearer rubbish")).await, refused);
        let account = Ok(("system:serviceaccount:n:sa".to_owned(), groups));
        assert_eq!(who(Some(&token)).await, account);
        assert_eq!(said(websocket).await, account);
        objects.remove("", "serviceaccounts", "n", "sa");
        assert_eq!(who(Some(&token)).await, refused);
    }
}
