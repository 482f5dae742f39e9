//! Whether who asks for a certificate has the key that it is for. Entry point: [`check`].
//!
//! What upstream's library can't check is refused in its words.

use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use ring::digest;
use ring::signature::{self as known, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::signature_algorithm::SignatureAlgorithm;

const RSA: &str = "crypto/rsa: verification error";
const ECDSA: &str = "x509: ECDSA verification failure";
const ED25519: &str = "x509: Ed25519 verification failure";
const UNKNOWN: &str = "x509: cannot verify signature: algorithm unimplemented";

/// The error is what upstream says of a request that its key did not sign.
pub fn check(request: &X509CertificationRequest<'_>) -> Result<(), String> {
    let asked = &request.certification_request_info;
    let (key, signature) = (&asked.subject_pki, &request.signature_value.data);
    let point = &key.subject_public_key.data;
    let oid = request.signature_algorithm.algorithm.to_id_string();
    if let Some(digest) = ecdsa_digest(&oid) {
        let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
        let curve = curve.map(|oid| oid.to_id_string()).unwrap_or_default();
        let digest = digest::digest(digest, asked.raw);
        return match ecdsa(&curve, point, digest.as_ref(), signature) {
            Some(true) => Ok(()),
            Some(false) => Err(ECDSA.to_owned()),
            None => Err(UNKNOWN.to_owned()),
        };
    }
    let found = match SignatureAlgorithm::try_from(&request.signature_algorithm) {
        Ok(SignatureAlgorithm::RSASSA_PSS(of)) => pss(&of.hash_algorithm_oid().to_id_string(), of.salt_length()),
        _ => algorithm(&oid),
    };
    let (algorithm, refusal) = found.ok_or(UNKNOWN)?;
    UnparsedPublicKey::new(algorithm, point).verify(asked.raw, signature).map_err(|_| refusal.to_owned())
}

fn algorithm(oid: &str) -> Option<(&'static dyn VerificationAlgorithm, &'static str)> {
    Some(match oid {
        "1.2.840.113549.1.1.5" => (&known::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA),
        "1.2.840.113549.1.1.11" => (&known::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA),
        "1.2.840.113549.1.1.12" => (&known::RSA_PKCS1_2048_8192_SHA384, RSA),
        "1.2.840.113549.1.1.13" => (&known::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY, RSA),
        "1.3.101.112" => (&known::ED25519, ED25519),
        _ => return None,
    })
}

/// Upstream knows these only with as much salt as the digest has bytes.
fn pss(digest: &str, salt: u32) -> Option<(&'static dyn VerificationAlgorithm, &'static str)> {
    Some(match (digest, salt) {
        ("2.16.840.1.101.3.4.2.1", 32) => (&known::RSA_PSS_2048_8192_SHA256, RSA),
        ("2.16.840.1.101.3.4.2.2", 48) => (&known::RSA_PSS_2048_8192_SHA384, RSA),
        ("2.16.840.1.101.3.4.2.3", 64) => (&known::RSA_PSS_2048_8192_SHA512, RSA),
        _ => return None,
    })
}

fn ecdsa_digest(oid: &str) -> Option<&'static digest::Algorithm> {
    match oid {
        "1.2.840.10045.4.1" => Some(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        "1.2.840.10045.4.3.2" => Some(&digest::SHA256),
        "1.2.840.10045.4.3.3" => Some(&digest::SHA384),
        "1.2.840.10045.4.3.4" => Some(&digest::SHA512),
        _ => None,
    }
}

/// None where the curve is unknown.
fn ecdsa(curve: &str, point: &[u8], digest: &[u8], signature: &[u8]) -> Option<bool> {
    // A digest is a number; the curves' own crates refuse short ones.
    let wide = |bytes: usize| [vec![0; bytes.saturating_sub(digest.len())], digest.to_vec()].concat();
    macro_rules! verifies {
        ($curve:ident, $bytes:expr) => {{
            let key = $curve::ecdsa::VerifyingKey::from_sec1_bytes(point);
            let signature = $curve::ecdsa::Signature::from_der(signature);
            key.and_then(|key| key.verify_prehash(&wide($bytes), &signature?)).is_ok()
        }};
    }
    match curve {
        "1.2.840.10045.3.1.7" => Some(verifies!(p256, 32)),
        "1.3.132.0.34" => Some(verifies!(p384, 48)),
        "1.3.132.0.35" => Some(verifies!(p521, 66)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use x509_parser::prelude::FromDer as _;

    #[test]
    fn requests_are_signed_by_the_key_they_name() {
        let table = [
            (&rcgen::PKCS_ECDSA_P256_SHA256, ECDSA),
            (&rcgen::PKCS_ECDSA_P384_SHA384, ECDSA),
            (&rcgen::PKCS_ED25519, ED25519),
        ];
        for (sort, refusal) in table {
            let key = rcgen::KeyPair::generate_for(sort).expect("a key");
            let request = rcgen::CertificateParams::new(Vec::new()).expect("names").serialize_request(&key);
            let request = request.expect("a request").der().to_vec();
            let checked = |bytes: &[u8]| {
                let (_, request) = X509CertificationRequest::from_der(bytes).expect("a request");
                check(&request)
            };
            assert_eq!(checked(&request), Ok(()));
            let mut forged = request.clone();
            *forged.last_mut().expect("bytes") ^= 1;
            assert_eq!(checked(&forged), Err(refusal.to_owned()));
        }
    }

    /// Made by `openssl req -new`.
    #[test]
    fn what_openssl_signs_is_checked() {
        const PSS: &str = "MIIChTCCATkCAQAwDDEKMAgGA1UEAwwBYTCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBAObzyTLicTtyUjGfNEsReljhh3Bhq3BXG28aV2GXZfKyECPG91nDxo8b+YfT/r+5dW4IBVKapgnWwoSlc+KtlqwKk2b851EkT0TI4DSZvYBwseXj8etbKsxH3ajgLZj5qrQsgAzj6yIj2LJuKDJnG15s9jm70MhZiwE6tKBUyxSc6h3eNjrvsMJZwHrGPciA+oBPb31jk5J7D2KqqdgRDy1b7F6l2hUKBfUA94Fi9/3Jk1v8MXLngU+nkTSQ7rZZfYfYKp3JBZmKKQqAnKM4uQxQGlHVY2GcTUv5toIROa5XNCyn+WCMktpw9UklpF5fzNeaSnwc2YWEac3p5BQUbYsCAwEAAaAAMEEGCSqGSIb3DQEBCjA0oA8wDQYJYIZIAWUDBAIBBQChHDAaBgkqhkiG9w0BAQgwDQYJYIZIAWUDBAIBBQCiAwIBIAOCAQEA1HbqDeHVwE1oss2pBEFAe3JFdXWPZQtNYlj22nB0yuy/d8NUTj/HUrJpcL4pUtmLKBWSHepL9/pp8nqO4cFgZnwE7/1Ruq7iWFkBqfkNx2JSqtygFJ3xfClWNgKjTb2jsGrepo/m8NNZH69bjsw0j5aMWEzmBIuxhgzn5FsMItzs/V3PUIyE5l9Fb9q/UG6avnGgFpWVNIHv3isbsi5sFUbJENFcrDQUkgkghFtjCFW7G2pm314NRjsA6Nq0Mt8S9a+8RWI+X98ykk0CVXJgd7sC1vfRD0O3qJO4VMzmN2OT2xKhN7xrgpFvHY+vLS/JHrlHO2iXynQtF1FTxFCqDQ==";
        const PSS_WITH_LITTLE_SALT: &str = "MIICgDCCATkCAQAwDDEKMAgGA1UEAwwBYTCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBAObzyTLicTtyUjGfNEsReljhh3Bhq3BXG28aV2GXZfKyECPG91nDxo8b+YfT/r+5dW4IBVKapgnWwoSlc+KtlqwKk2b851EkT0TI4DSZvYBwseXj8etbKsxH3ajgLZj5qrQsgAzj6yIj2LJuKDJnG15s9jm70MhZiwE6tKBUyxSc6h3eNjrvsMJZwHrGPciA+oBPb31jk5J7D2KqqdgRDy1b7F6l2hUKBfUA94Fi9/3Jk1v8MXLngU+nkTSQ7rZZfYfYKp3JBZmKKQqAnKM4uQxQGlHVY2GcTUv5toIROa5XNCyn+WCMktpw9UklpF5fzNeaSnwc2YWEac3p5BQUbYsCAwEAAaAAMDwGCSqGSIb3DQEBCjAvoA8wDQYJYIZIAWUDBAIBBQChHDAaBgkqhkiG9w0BAQgwDQYJYIZIAWUDBAIBBQADggEBACkO9oMt2f41RWZz9Ao/aWtTpuV5fbWmqzY/k/LSvtSDIuFmsIBFWvbeQVroAEk9rs7PLaKizKr1OlwTN83Oua0isGfoiC1Yc0iV4HE2358Z0absrNQFjWm5FMwzQDy4/CHAOCXJek7jS+ZKNhaa26GGmtOQB6JI60mMAjm8jKj4w0S79a/fMdbMi1DpQRR5496XoOr45BmnxlhWUaStXrThen1RO//Q3mJKcsGmD5HZGXpC1BDFe8EuCqgMATMgzGR/2ledSmto9vCcvcteVFhz/cjuebb8vsQkmKxreJqGzTd4kBcpRB6gjx82dHaaqQXMQROa4OdYORnDLDPP2jw=";
        const P521: &str = "MIIBTjCBsQIBADAMMQowCAYDVQQDDAFhMIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQAcuSaPZcIGDmQQbovdsm5cwSFyyB3k9PYJuQYREUfjgco9AmnzGRVcfMLAZ6px7m2w6oIsw2fZ83PfLpkmvP/Ke0A56e79cTptQOdW/CsFPAaPMeXHjfdahdD4c1MSoPwGT8dkiZ86PXRomF4dCl18ixHMxKWeEyqmjJXpP0jiSp0jjegADAKBggqhkjOPQQDBAOBiwAwgYcCQTBgqA+dG802IRE4IEJUR1fgaunaVYuvPV23PxP7brl/VbK4EsKNuDG/idP6/kByiwqKcAQ7J603h2ZyVeboLLE4AkIAqlCqDPAeEPkBrMsqq8MNboFaI+ovv+pcxz6LVTqUyaA4vL2jsejn+PINYNqYnbzH7I5g8XyRz+NqNgc8foUS+wE=";
        const P256_WITH_LONG_DIGEST: &str = "MIHHMG4CAQAwDDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABA1u5m4O1Wv/P7MPtk8ZylQ3BAtosBT7eHdipXqdvutxIpe0Xt2+SvnNlcttPQqo1HXAJ7nJfRQE27xaN4Jy3BmgADAKBggqhkjOPQQDBANJADBGAiEAwcx/b5PPgTNIyRylnAN7RiNh/GuK0vfKSkTBnxx2OikCIQDC4eVcY3WVkjsxBwG/H7lb/qubJWmXH7eiAvlpUqyckg==";
        let checked = |text: &str, forge: bool| {
            let mut bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
            *bytes.last_mut().expect("bytes") ^= u8::from(forge);
            check(&X509CertificationRequest::from_der(&bytes).expect("a request").1)
        };
        for (request, refusal) in [(PSS, RSA), (P521, ECDSA), (P256_WITH_LONG_DIGEST, ECDSA)] {
            assert_eq!(checked(request, false), Ok(()));
            assert_eq!(checked(request, true), Err(refusal.to_owned()));
        }
        assert_eq!(checked(PSS_WITH_LITTLE_SALT, false), Err(UNKNOWN.to_owned()));
    }
}
