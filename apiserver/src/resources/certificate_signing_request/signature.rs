//! Whether who asks for a certificate has the key that it is for. Entry point: [`check`].
//!
//! Signatures of other sorts than clusters use are taken as they are: upstream's library knows a few more.

use ring::signature::{self as known, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::certification_request::X509CertificationRequest;

const RSA: &str = "crypto/rsa: verification error";
const ECDSA: &str = "x509: ECDSA verification failure";
const ED25519: &str = "x509: Ed25519 verification failure";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";

/// The error is what upstream says of a request that its key did not sign.
pub fn check(request: &X509CertificationRequest<'_>) -> Result<(), String> {
    let asked = &request.certification_request_info;
    let key = &asked.subject_pki;
    let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok()).map(|oid| oid.to_id_string());
    let Some((algorithm, refusal)) = algorithm(&request.signature_algorithm.algorithm.to_id_string(), curve.as_deref())
    else {
        return Ok(());
    };
    let key = UnparsedPublicKey::new(algorithm, &key.subject_public_key.data);
    key.verify(asked.raw, &request.signature_value.data).map_err(|_| refusal.to_owned())
}

fn algorithm(oid: &str, curve: Option<&str>) -> Option<(&'static dyn VerificationAlgorithm, &'static str)> {
    Some(match (oid, curve) {
        ("1.2.840.113549.1.1.11", _) => (&known::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA),
        ("1.2.840.113549.1.1.12", _) => (&known::RSA_PKCS1_2048_8192_SHA384, RSA),
        ("1.2.840.113549.1.1.13", _) => (&known::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY, RSA),
        ("1.2.840.10045.4.3.2", Some(P256)) => (&known::ECDSA_P256_SHA256_ASN1, ECDSA),
        ("1.2.840.10045.4.3.3", Some(P256)) => (&known::ECDSA_P256_SHA384_ASN1, ECDSA),
        ("1.2.840.10045.4.3.2", Some(P384)) => (&known::ECDSA_P384_SHA256_ASN1, ECDSA),
        ("1.2.840.10045.4.3.3", Some(P384)) => (&known::ECDSA_P384_SHA384_ASN1, ECDSA),
        ("1.3.101.112", _) => (&known::ED25519, ED25519),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
