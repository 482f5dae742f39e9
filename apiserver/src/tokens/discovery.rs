//! What other parties need to verify our tokens: `/.well-known/openid-configuration` and `/openid/v1/jwks`.

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use serde_json::{Value, json};

use super::Tokens;
use super::keys::VerifyingKey;

/// Path of the key set.
pub const JWKS_PATH: &str = "/openid/v1/jwks";
/// Path of the configuration.
pub const CONFIGURATION_PATH: &str = "/.well-known/openid-configuration";
/// Content type of the key set.
pub const JWKS_TYPE: &str = "application/jwk-set+json";

/// The configuration document; `server` is the external address, for example `https://10.0.0.1:6443`.
pub fn configuration(tokens: &Tokens, server: &str) -> Value {
    let mut algorithms: Vec<String> = tokens.keys().map(|key| format!("{:?}", key.algorithm)).collect();
    algorithms.sort();
    algorithms.dedup();
    json!({
        "issuer": tokens.issuer(),
        "jwks_uri": format!("{server}{JWKS_PATH}"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
    })
}

/// The key set.
pub fn key_set(tokens: &Tokens) -> Value {
    json!({ "keys": tokens.keys().map(published).collect::<Vec<_>>() })
}

fn published(key: &VerifyingKey) -> Value {
    let Jwk { algorithm, .. } = &key.public;
    let mut value = match algorithm {
        AlgorithmParameters::RSA(rsa) => json!({ "kty": "RSA", "n": rsa.n, "e": rsa.e }),
        AlgorithmParameters::EllipticCurve(curve) => json!({ "kty": "EC", "crv": "P-256", "x": curve.x, "y": curve.y }),
        _ => json!({}),
    };
    value["use"] = json!("sig");
    value["kid"] = json!(key.id);
    value["alg"] = json!(format!("{:?}", key.algorithm));
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tests::{ISSUER, tokens};

    #[test]
    fn documents_name_issuer_and_keys() {
        let tokens = tokens();
        let configuration = configuration(&tokens, "https://h:1");
        assert_eq!(configuration["issuer"], ISSUER);
        assert_eq!(configuration["jwks_uri"], "https://h:1/openid/v1/jwks");
        assert_eq!(configuration["id_token_signing_alg_values_supported"], json!(["ES256"]));
        let keys = key_set(&tokens);
        assert_eq!(keys["keys"].as_array().map(Vec::len), Some(1));
        assert_eq!(keys["keys"][0]["use"], "sig");
    }
}
