//! Service account tokens: JSON Web Tokens with upstream's claims, signed and verified with the cluster's keys.
//! Entry points: [`Tokens::sign`], [`Tokens::verify`]; [`request`] serves the `/token` subresource.
//!
//! The keys may come later than the server: that of a new cluster is made when it has started ([`make`]).
//!
//! Invariant: a token that [`Tokens::verify`] accepts was signed by one of our keys, is meant for one of the wanted audiences and
//! is valid now. Whether its account and bound objects still exist is for authn to say.

pub mod discovery;
pub mod keys;
pub mod make;
pub mod request;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jsonwebtoken::{Header, Validation};
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::time::timeout;

use self::keys::{KeyError, SigningKey, VerifyingKey};

/// The issuer of the tokens that the controller-manager writes into Secrets: they name no audience and do not expire.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// So long a token waits for a key that is being made.
const KEY_PATIENCE: Duration = Duration::from_secs(5);
/// How many verified signatures are remembered.
const REMEMBERED: usize = 4096;

/// An object named in a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its uid; empty for a node that is not registered, and for the Secret that holds a token of the old form.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The `kubernetes.io` claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Namespace of the account.
    pub namespace: String,
    /// The account.
    pub serviceaccount: Named,
    /// The pod that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Named>,
    /// The secret that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Named>,
    /// The node that the token, or its pod, is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Named>,
    /// When the holder should have renewed it, for tokens that live longer than asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// All claims of a token. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Audiences.
    #[serde(deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Expires.
    pub exp: i64,
    /// Issued.
    pub iat: i64,
    /// Issuer.
    pub iss: String,
    /// A unique name of this token.
    #[serde(default)]
    pub jti: String,
    /// Who it is.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Identity,
    /// Not valid before.
    pub nbf: i64,
    /// The name of the account's user.
    pub sub: String,
}

/// The claims of either form of token.
#[derive(Deserialize)]
#[serde(untagged)]
enum AnyClaims {
    Bound(Box<Claims>),
    Legacy(LegacyClaims),
}

/// The claims of a token in a Secret.
#[derive(Deserialize)]
struct LegacyClaims {
    iss: String,
    sub: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    name: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
}

/// Why a token is refused; the words are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of ours.
    #[error("invalid bearer token")]
    Unknown,
    /// For somebody else.
    #[error("token audiences {} is invalid for the target audiences {}", quoted(token), quoted(wanted))]
    Audience { token: Vec<String>, wanted: Vec<String> },
    /// Too late.
    #[error("service account token has expired")]
    Expired,
    /// Too early.
    #[error("service account token is not valid yet")]
    NotYet,
    /// The key to sign with is not there yet.
    #[error("the service account signing key is not there yet")]
    NoSigningKey,
    /// The key does not work.
    #[error("signing failed: {0}")]
    Signing(String),
}

/// A token that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its claims.
    pub claims: Arc<Claims>,
    /// Those of the wanted audiences that the token is for.
    pub audiences: Vec<String>,
}

/// Where the keys come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// They are here, in PEM.
    Here {
        /// Signs, and verifies.
        signing: String,
        /// Verify; public or private.
        verifying: Vec<String>,
    },
    /// In files of which some are not written yet.
    Files {
        /// As above.
        signing: PathBuf,
        /// As above.
        verifying: Vec<PathBuf>,
    },
}

impl KeySource {
    /// The keys in these files, if all of them exist.
    pub fn of_files(signing: &Path, verifying: &[PathBuf]) -> std::io::Result<Self> {
        let files = std::iter::once(signing).chain(verifying.iter().map(PathBuf::as_path));
        for file in files {
            if !file.try_exists()? {
                return Ok(Self::Files { signing: signing.to_owned(), verifying: verifying.to_vec() });
            }
        }
        let verifying = verifying.iter().map(std::fs::read_to_string).collect::<Result<_, _>>()?;
        Ok(Self::Here { signing: std::fs::read_to_string(signing)?, verifying })
    }
}

/// The keys and what they are used for.
pub struct Tokens {
    issuer: String,
    audiences: Vec<String>,
    keys: OnceLock<Keys>,
    files: Option<(PathBuf, Vec<PathBuf>)>,
    /// The key that this process makes is there, or never will be.
    made: Notify,
    remembered: Mutex<Remembered>,
}

struct Keys {
    signing: SigningKey,
    verifying: Vec<VerifyingKey>,
}

impl Keys {
    /// All of these PEMs, public or private, verify, and so does the signing key.
    fn read(signing: &str, verifying: &[String]) -> Result<Self, KeyError> {
        let signing = SigningKey::from_pem(signing.as_bytes())?;
        let mut keys = Vec::new();
        for pem in verifying {
            keys.push(VerifyingKey::from_pem(pem.as_bytes())?);
        }
        keys.push(signing.verifying()?);
        let mut known = std::collections::BTreeSet::new();
        keys.retain(|key| known.insert(key.id.clone()));
        Ok(Self { signing, verifying: keys })
    }
}

#[derive(Default)]
struct Remembered {
    claims: BTreeMap<[u8; 32], Arc<Claims>>,
    order: VecDeque<[u8; 32]>,
}

impl Tokens {
    /// Signs and verifies with these keys.
    pub fn new(issuer: &str, source: &KeySource) -> Result<Self, KeyError> {
        let (keys, files) = match source {
            KeySource::Here { signing, verifying } => (OnceLock::from(Keys::read(signing, verifying)?), None),
            KeySource::Files { signing, verifying } => (OnceLock::new(), Some((signing.clone(), verifying.clone()))),
        };
        let audiences = vec![issuer.to_owned()];
        Ok(Self {
            issuer: issuer.to_owned(),
            audiences,
            keys,
            files,
            made: Notify::new(),
            remembered: Mutex::default(),
        })
    }

    /// The file of a signing key that nobody has made yet.
    pub fn missing(&self) -> Option<&Path> {
        let (signing, _) = self.files.as_ref().filter(|_| self.present().is_none())?;
        (!signing.exists()).then_some(signing)
    }

    /// Waits until there is a key to sign with, but not for long.
    pub async fn ready(&self) {
        let mut made = std::pin::pin!(self.made.notified());
        made.as_mut().enable();
        if self.present().is_none() {
            // Whether it came or not, signing says.
            let _ = timeout(KEY_PATIENCE, made).await;
        }
    }

    /// The keys, if they are there by now.
    fn present(&self) -> Option<&Keys> {
        if let Some(keys) = self.keys.get() {
            return Some(keys);
        }
        let (signing, verifying) = self.files.as_ref()?;
        let KeySource::Here { signing, verifying } = KeySource::of_files(signing, verifying).ok()? else { return None };
        match Keys::read(&signing, &verifying) {
            Ok(keys) => Some(self.keys.get_or_init(|| keys)),
            Err(error) => {
                tracing::error!(%error, "the service account key can't be used");
                None
            }
        }
    }

    /// The `iss` of our tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What this API server answers to; tokens that ask for nothing else are for it.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The public halves of all keys, the signing key's first.
    pub fn keys(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.present().into_iter().flat_map(|keys| {
            let is_first = |key: &&VerifyingKey| key.id == keys.signing.id;
            keys.verifying.iter().filter(is_first).chain(keys.verifying.iter().filter(move |key| !is_first(key)))
        })
    }

    /// The token of these claims.
    pub fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        let key = &self.present().ok_or(TokenError::NoSigningKey)?.signing;
        let header = Header { typ: None, kid: Some(key.id.clone()), ..Header::new(key.algorithm) };
        key.sign(&header, claims).map_err(|error| TokenError::Signing(error.to_string()))
    }

    /// The claims of a token that is ours, for one of these audiences, and valid at this time.
    pub fn verify(&self, token: &str, wanted: &[String], now: Timestamp) -> Result<Verified, TokenError> {
        let claims = self.authentic(token)?;
        let for_us = wanted.iter().filter(|audience| claims.aud.contains(audience));
        let audiences: Vec<String> = for_us.cloned().collect();
        if audiences.is_empty() {
            return Err(TokenError::Audience { token: claims.aud.clone(), wanted: wanted.to_vec() });
        }
        if now.as_second() >= claims.exp {
            return Err(TokenError::Expired);
        }
        if now.as_second() < claims.nbf {
            return Err(TokenError::NotYet);
        }
        Ok(Verified { claims, audiences })
    }

    /// Checks issuer and signature; a signature that was checked before is remembered by the token's hash.
    fn authentic(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = self.lock().claims.get(&hash) {
            return Ok(Arc::clone(claims));
        }
        let claims = Arc::new(self.decode(token)?);
        let mut remembered = self.lock();
        if remembered.claims.insert(hash, Arc::clone(&claims)).is_none() {
            remembered.order.push_back(hash);
        }
        if remembered.order.len() > REMEMBERED
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.claims.remove(&oldest);
        }
        Ok(claims)
    }

    fn decode(&self, token: &str) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Unknown)?;
        let named = |key: &&VerifyingKey| header.kid.is_none() || header.kid.as_deref() == Some(key.id.as_str());
        for key in self.keys().filter(named) {
            let mut validation = Validation::new(key.algorithm);
            validation.required_spec_claims.clear();
            validation.validate_exp = false;
            validation.validate_aud = false;
            let Ok(data) = jsonwebtoken::decode::<AnyClaims>(token, &key.key, &validation) else { continue };
            match data.claims {
                AnyClaims::Bound(claims) if claims.iss == self.issuer => return Ok(*claims),
                AnyClaims::Legacy(claims) if claims.iss == LEGACY_ISSUER => return Ok(self.of_legacy(claims)),
                AnyClaims::Bound(_) | AnyClaims::Legacy(_) => {}
            }
        }
        Err(TokenError::Unknown)
    }

    fn of_legacy(&self, claims: LegacyClaims) -> Claims {
        Claims {
            aud: self.audiences.clone(),
            exp: i64::MAX,
            iss: claims.iss,
            sub: claims.sub,
            kubernetes: Identity {
                namespace: claims.namespace,
                serviceaccount: Named { name: claims.name, uid: claims.uid },
                secret: Some(Named { name: claims.secret, uid: String::new() }),
                ..Identity::default()
            },
            ..Claims::default()
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn quoted(values: &[String]) -> String {
    crate::authz::rules::quoted(values)
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audiences {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audiences::deserialize(from)? {
        Audiences::One(one) => vec![one],
        Audiences::Many(many) => many,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

    /// Tokens with a fresh elliptic key.
    pub(crate) fn tokens() -> Tokens {
        let signing = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        Tokens::new(ISSUER, &KeySource::Here { signing, verifying: vec![] }).expect("tokens")
    }

    pub(crate) fn claims() -> Claims {
        Claims {
            aud: vec![ISSUER.to_owned()],
            exp: 4600,
            iat: 1000,
            nbf: 1000,
            iss: ISSUER.to_owned(),
            jti: "j".to_owned(),
            sub: "system:serviceaccount:n:sa".to_owned(),
            kubernetes: Identity {
                namespace: "n".to_owned(),
                serviceaccount: Named { name: "sa".to_owned(), uid: "u".to_owned() },
                ..Identity::default()
            },
        }
    }

    #[test]
    fn only_our_tokens_are_accepted_and_only_in_time() {
        let (ours, other) = (tokens(), tokens());
        let token = ours.sign(&claims()).expect("a token");
        let wanted = vec![ISSUER.to_owned()];
        let at = |second| Timestamp::from_second(second).expect("a time");
        let verify = |token: &str, wanted: &[String], second| {
            ours.verify(token, wanted, at(second)).map(|verified| verified.claims.jti.clone())
        };
        for _ in 0..2 {
            assert_eq!(verify(&token, &wanted, 2000), Ok("j".to_owned()));
            assert_eq!(verify(&token, &wanted, 4600), Err(TokenError::Expired));
            assert_eq!(verify(&token, &wanted, 999), Err(TokenError::NotYet));
        }
        assert_eq!(verify("rubbish", &wanted, 2000), Err(TokenError::Unknown));
        assert_eq!(verify(&other.sign(&claims()).unwrap(), &wanted, 2000), Err(TokenError::Unknown));
        let forged = Claims { iss: "https://else.example.org".to_owned(), ..claims() };
        assert_eq!(verify(&ours.sign(&forged).unwrap(), &wanted, 2000), Err(TokenError::Unknown));
        let error = verify(&token, &["other".to_owned()], 2000).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("token audiences [\"{ISSUER}\"] is invalid for the target audiences [\"other\"]")
        );
    }

    #[test]
    fn a_changed_token_is_refused() {
        let tokens = tokens();
        let token = tokens.sign(&claims()).expect("a token");
        let mut parts: Vec<&str> = token.split('.').collect();
        let stranger = tokens.sign(&Claims { sub: "system:serviceaccount:n:other".to_owned(), ..claims() }).unwrap();
        parts[1] = stranger.split('.').nth(1).unwrap();
        let wanted = [ISSUER.to_owned()];
        let now = Timestamp::from_second(2000).unwrap();
        assert_eq!(tokens.verify(&parts.join("."), &wanted, now), Err(TokenError::Unknown));
    }

    #[test]
    fn keys_may_come_later() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("sa.key");
        let source = KeySource::of_files(&file, std::slice::from_ref(&file)).expect("a source");
        assert!(matches!(source, KeySource::Files { .. }));
        let tokens = Tokens::new(ISSUER, &source).expect("tokens");
        assert_eq!((tokens.sign(&claims()), tokens.keys().count()), (Err(TokenError::NoSigningKey), 0));
        let pem = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        std::fs::write(&file, &pem).expect("written");
        let token = tokens.sign(&claims()).expect("a token");
        assert_eq!(tokens.keys().count(), 1, "the same key twice is one");
        let early = Tokens::new(ISSUER, &KeySource::of_files(&file, &[]).expect("a source")).expect("tokens");
        let now = Timestamp::from_second(2000).expect("a time");
        assert!(early.verify(&token, &[ISSUER.to_owned()], now).is_ok());
    }
}
