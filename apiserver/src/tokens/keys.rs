//! The keys of service account tokens, read from PEM: RSA (RS256) as upstream's, or P-256 (ES256).
//!
//! Invariant: a key's id is upstream's: the unpadded URL-safe base64 of the SHA-256 of the public key's DER form (PKIX).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Neither of the supported forms.
    #[error("the service account key is neither an RSA nor a P-256 key in PEM form (PKCS#1 or PKCS#8)")]
    Unsupported,
    /// The public half does not come out.
    #[error("the public half of the service account key cannot be read: {0}")]
    Public(#[from] jsonwebtoken::errors::Error),
}

/// A private key.
pub struct SigningKey {
    /// See the module.
    pub id: String,
    /// RS256 or ES256.
    pub algorithm: Algorithm,
    /// To sign with.
    key: EncodingKey,
    /// The same for RSA, where ring is faster by far.
    rsa: Option<RsaKeyPair>,
}

/// A public key.
pub struct VerifyingKey {
    /// See the module.
    pub id: String,
    /// RS256 or ES256.
    pub algorithm: Algorithm,
    /// To verify with.
    pub key: DecodingKey,
    /// As it is published.
    pub public: Jwk,
}

impl SigningKey {
    /// Reads a private key.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let rsa = EncodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS256, key));
        let read = rsa.or_else(|_| EncodingKey::from_ec_pem(pem).map(|key| (Algorithm::ES256, key)));
        let (algorithm, key) = read.map_err(|_| KeyError::Unsupported)?;
        let public = Jwk::from_encoding_key(&key, algorithm)?;
        let rsa = PrivateKeyDer::from_pem_slice(pem).ok().and_then(|der| match der {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok(),
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok(),
            _ => None,
        });
        Ok(Self { id: key_id(&public)?, algorithm, key, rsa })
    }

    /// The token of these claims.
    pub fn sign<T: Serialize>(&self, header: &Header, claims: &T) -> Result<String, jsonwebtoken::errors::Error> {
        let Some(rsa) = &self.rsa else { return jsonwebtoken::encode(header, claims, &self.key) };
        let part = |json: Vec<u8>| URL_SAFE_NO_PAD.encode(json);
        let mut token = format!("{}.{}", part(serde_json::to_vec(header)?), part(serde_json::to_vec(claims)?));
        let mut signature = vec![0; rsa.public().modulus_len()];
        match rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature) {
            Ok(()) => {
                token.push('.');
                URL_SAFE_NO_PAD.encode_string(signature, &mut token);
                Ok(token)
            }
            Err(_) => jsonwebtoken::encode(header, claims, &self.key),
        }
    }

    /// Its public half.
    pub fn verifying(&self) -> Result<VerifyingKey, KeyError> {
        VerifyingKey::from_jwk(Jwk::from_encoding_key(&self.key, self.algorithm)?, self.algorithm)
    }
}

impl VerifyingKey {
    /// Reads a public key, or the public half of a private one.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        if let Ok(private) = SigningKey::from_pem(pem) {
            return private.verifying();
        }
        let rsa = DecodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS256, key));
        let read = rsa.or_else(|_| DecodingKey::from_ec_pem(pem).map(|key| (Algorithm::ES256, key)));
        let (algorithm, key) = read.map_err(|_| KeyError::Unsupported)?;
        Self::from_jwk(Jwk::from_decoding_key(&key, Some(algorithm))?, algorithm)
    }

    fn from_jwk(public: Jwk, algorithm: Algorithm) -> Result<Self, KeyError> {
        Ok(Self { id: key_id(&public)?, algorithm, key: DecodingKey::from_jwk(&public)?, public })
    }
}

fn key_id(public: &Jwk) -> Result<String, KeyError> {
    let part = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Unsupported);
    let der = match &public.algorithm {
        AlgorithmParameters::RSA(rsa) => rsa_der(&part(&rsa.n)?, &part(&rsa.e)?),
        AlgorithmParameters::EllipticCurve(curve) => p256_der(&part(&curve.x)?, &part(&curve.y)?),
        _ => return Err(KeyError::Unsupported),
    };
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(der)))
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
/// AlgorithmIdentifier: rsaEncryption, NULL.
const RSA: [u8; 15] = [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// AlgorithmIdentifier: ecPublicKey, prime256v1.
const P256: [u8; 21] = [
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07,
];

fn rsa_der(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let numbers = [element(INTEGER, &positive(modulus)), element(INTEGER, &positive(exponent))].concat();
    let key = [vec![0], element(SEQUENCE, &numbers)].concat();
    element(SEQUENCE, &[RSA.to_vec(), element(BIT_STRING, &key)].concat())
}

fn p256_der(x: &[u8], y: &[u8]) -> Vec<u8> {
    const UNCOMPRESSED: u8 = 4;
    let point = [&[0, UNCOMPRESSED], x, y].concat();
    element(SEQUENCE, &[P256.to_vec(), element(BIT_STRING, &point)].concat())
}

fn positive(number: &[u8]) -> Vec<u8> {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let digits = &number[start..];
    let sign = digits.first().is_none_or(|byte| byte & 0x80 != 0);
    if sign { [&[0], digits].concat() } else { digits.to_vec() }
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        out.push(0x80 | bytes.len() as u8);
        out.extend(bytes);
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_the_hash_of_the_public_key() {
        use rcgen::PublicKeyData as _;
        let pair = rcgen::KeyPair::generate().expect("a key");
        let expected = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.subject_public_key_info()));
        let signing = SigningKey::from_pem(pair.serialize_pem().as_bytes()).expect("a private key");
        let verifying = VerifyingKey::from_pem(pair.public_key_pem().as_bytes()).expect("a public key");
        assert_eq!((signing.id, signing.algorithm), (expected.clone(), Algorithm::ES256));
        assert_eq!(verifying.id, expected);
    }

    #[test]
    fn lengths_are_der() {
        assert_eq!(element(INTEGER, &[1]), [2, 1, 1]);
        assert_eq!(element(INTEGER, &[0; 200])[..3], [2, 0x81, 200]);
        assert_eq!(element(INTEGER, &[0; 300])[..4], [2, 0x82, 1, 44]);
        assert_eq!(positive(&[0, 0, 0x80]), [0, 0x80]);
        assert_eq!(positive(&[1, 0, 1]), [1, 0, 1]);
    }

    #[test]
    fn other_keys_are_refused() {
        assert!(matches!(VerifyingKey::from_pem(b"no key"), Err(KeyError::Unsupported)));
    }
}
