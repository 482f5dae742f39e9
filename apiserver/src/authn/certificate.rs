//! A client certificate says who asks: CN is the user, each O a group. Entry point: [`read`].

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use k8s_openapi::jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::User;

/// Upstream's object identifier of a user's uid.
const UID: &str = "1.3.6.1.4.1.57683.2";
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// What a verified certificate says, read once for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    user: User,
    /// In seconds since 1970.
    valid: RangeInclusive<i64>,
}

impl Leaf {
    /// The user, as long as the certificate is valid: a connection outlives the handshake in which it was checked.
    pub fn user(&self, now: Timestamp) -> Option<&User> {
        self.valid.contains(&now.as_second()).then_some(&self.user)
    }
}

/// Reads a certificate that the listener verified; none if it names nobody.
pub fn read(leaf: &CertificateDer<'_>) -> Option<Leaf> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let validity = certificate.validity();
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok().filter(|name| !name.is_empty())?;
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok().map(str::to_owned)).collect();
    let uid = subject.iter_attributes().find(|attribute| attribute.attr_type().to_id_string() == UID);
    let uid = uid.and_then(|attribute| attribute.as_str().ok()).unwrap_or_default();
    let credential = format!("X509SHA256={}", hex(&Sha256::digest(leaf)));
    let extra = BTreeMap::from([(CREDENTIAL.to_owned(), vec![credential])]);
    let user = User { name: name.to_owned(), uid: uid.to_owned(), groups, extra }.authenticated();
    Some(Leaf { user, valid: validity.not_before.timestamp()..=validity.not_after.timestamp() })
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
        let leaf = read(&certificate(Some("kubernetes-admin"), &["system:masters"])).expect("a user");
        let admin = leaf.user(now).expect("it is valid");
        let groups = ["system:masters", "system:authenticated"].map(str::to_owned).to_vec();
        assert_eq!((admin.name.as_str(), &admin.groups), ("kubernetes-admin", &groups));
        assert!(admin.extra[CREDENTIAL][0].starts_with("X509SHA256="));
        assert_eq!(read(&certificate(None, &["g"])), None);
        let long_ago = Timestamp::from_second(0).unwrap();
        assert_eq!(leaf.user(long_ago), None);
    }
}
