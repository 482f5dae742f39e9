//! A client certificate says who asks: CN is the user, each O a group. Entry point: [`user`].

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::User;

/// Upstream's object identifier of a user's uid.
const UID: &str = "1.3.6.1.4.1.57683.2";
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// The user of a certificate that the listener verified; none if it names nobody or is not valid now (a connection outlives the
/// handshake in which the certificate was checked).
pub fn user(leaf: &CertificateDer<'_>, now: Timestamp) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let validity = certificate.validity();
    let now = now.as_second();
    if now < validity.not_before.timestamp() || now > validity.not_after.timestamp() {
        return None;
    }
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok().filter(|name| !name.is_empty())?;
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok().map(str::to_owned)).collect();
    let uid = subject.iter_attributes().find(|attribute| attribute.attr_type().to_id_string() == UID);
    let uid = uid.and_then(|attribute| attribute.as_str().ok()).unwrap_or_default();
    let credential = format!("X509SHA256={}", hex(&Sha256::digest(leaf)));
    let extra = BTreeMap::from([(CREDENTIAL.to_owned(), vec![credential])]);
    Some(User { name: name.to_owned(), uid: uid.to_owned(), groups, extra })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: Option<&str>, groups: &[&str]) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = name {
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
        }
        for group in groups {
            params.distinguished_name.push(rcgen::DnType::OrganizationName, *group);
        }
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().clone()
    }

    #[test]
    fn subjects_are_users() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let admin = user(&certificate(Some("kubernetes-admin"), &["system:masters"]), now).expect("a user");
        assert_eq!((admin.name.as_str(), admin.groups), ("kubernetes-admin", vec!["system:masters".to_owned()]));
        assert!(admin.extra[CREDENTIAL][0].starts_with("X509SHA256="));
        assert_eq!(user(&certificate(None, &["g"]), now), None);
        let long_ago = Timestamp::from_second(0).unwrap();
        assert_eq!(user(&certificate(Some("x"), &[]), long_ago), None);
    }
}
