//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may approve and sign requests is a right on
//! the signer, and nobody gets a client certificate of the superusers' group.

use std::sync::Arc;

use api::error::ApiError;
use api::field::go_quote;
use api::well_known::groups;
use async_trait::async_trait;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::{Attributes, Lookup, Operation, Plugin};
use crate::authn::User;
use crate::authz::{self, Authorizers, Decision, Target};
use crate::object::{Object, downcast};
use crate::resources::Subresource;
use crate::resources::certificate_signing_request::read_request;

const GROUP: &str = "certificates.k8s.io";
const PLURAL: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Rights on signers.
pub struct CertificateSigners {
    authorizers: Arc<Authorizers>,
}

/// No client certificates for superusers.
pub struct CertificateSubjectRestriction;

impl CertificateSigners {
    /// Asks these.
    pub fn new(authorizers: Arc<Authorizers>) -> Self {
        Self { authorizers }
    }

    /// Whether the user holds the verb on this signer, or on all signers of its domain.
    fn may(&self, user: &User, verb: &str, signer: &str) -> bool {
        let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
        [signer.to_owned(), format!("{domain}/*")].into_iter().any(|name| {
            let target = Target::Resource {
                group: GROUP.to_owned(),
                version: "*".to_owned(),
                resource: "signers".to_owned(),
                subresource: String::new(),
                namespace: String::new(),
                name,
            };
            let decision = self.authorizers.authorize(&authz::Attributes::new(user, verb, target));
            matches!(decision, Decision::Allow(_))
        })
    }
}

#[async_trait]
impl Plugin for CertificateSigners {
    fn name(&self) -> &'static str {
        "CertificateApproval,CertificateSigning"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is_any(GROUP, PLURAL)
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
        _: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let requests = object.and_then(downcast).zip(attributes.old.and_then(downcast));
        let Some((new, old)) = requests else { return Ok(()) };
        let verb = match attributes.subresource.map_or("", Subresource::as_str) {
            "status" if is_signed(new, old) => "sign",
            "approval" => "approve",
            _ => return Ok(()),
        };
        let signer = &old.spec.signer_name;
        if self.may(attributes.user, verb, signer) {
            return Ok(());
        }
        let why = format!("user not permitted to {verb} requests with signerName {}", go_quote(signer));
        Err(attributes.forbidden(Some(new), &why))
    }
}

/// Whether a status write changes what only the signer says.
fn is_signed(new: &CertificateSigningRequest, old: &CertificateSigningRequest) -> bool {
    let said = |request: &CertificateSigningRequest| {
        let status = request.status.clone().unwrap_or_default();
        (status.certificate, status.conditions.filter(|all| !all.is_empty()))
    };
    said(new) != said(old)
}

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is(GROUP, PLURAL)
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
        _: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let Some(request) = object.and_then(downcast::<CertificateSigningRequest>) else { return Ok(()) };
        if request.spec.signer_name != CLIENT_SIGNER
            || !organizations(&request.spec.request.0).iter().any(|o| o == groups::MASTERS)
        {
            return Ok(());
        }
        let why = format!("use of {CLIENT_SIGNER} signer with {} group is not allowed", groups::MASTERS);
        Err(attributes.forbidden(Some(request), &why))
    }
}

/// The organizations of the subject that a PEM request names; validation has refused what is none.
fn organizations(pem: &[u8]) -> Vec<String> {
    let named = read_request(pem, |request| {
        let subject = &request.certification_request_info.subject;
        subject.iter_organization().filter_map(|name| name.as_str().ok()).map(str::to_owned).collect()
    });
    named.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::fixture::{create, resource};
    use crate::view::fixture::Objects;
    use base64::Engine as _;
    use serde_json::{Value, json};

    fn request(signer: &str, organization: &str, status: Value) -> CertificateSigningRequest {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
        let key = rcgen::KeyPair::generate().expect("a key");
        let pem = parameters.serialize_request(&key).expect("a request").pem().expect("PEM");
        let spec = json!({"request": base64::engine::general_purpose::STANDARD.encode(pem), "signerName": signer, "usages": ["client auth"]});
        serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": spec, "status": status})).expect("a request")
    }

    #[tokio::test]
    async fn superusers_have_no_client_certificates() {
        let (info, user) = (resource(GROUP, PLURAL, "CertificateSigningRequest", false), User::default());
        let refused = "certificatesigningrequests.certificates.k8s.io \"x\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
        let table = [
            (CLIENT_SIGNER, "system:masters", Some(refused)),
            (CLIENT_SIGNER, "devs", None),
            ("example.org/s", "system:masters", None),
        ];
        for (signer, organization, expected) in table {
            let request = request(signer, organization, json!({}));
            let answer = CertificateSubjectRestriction
                .validate(&create(&info, &user, ""), Some(&request), &Objects::default())
                .await;
            assert_eq!(answer.err().map(|error| error.message).as_deref(), expected);
        }
    }

    #[tokio::test]
    async fn signing_is_a_right_on_the_signer() {
        let role = |name: &str, verb: &str, signer: &str| json!({"metadata": {"name": name}, "rules": [{"apiGroups": [GROUP], "resources": ["signers"], "verbs": [verb], "resourceNames": [signer]}]});
        let binding = |name: &str, user: &str| {
            json!({"metadata": {"name": name}, "roleRef": {"apiGroup": authz::rbac::GROUP, "kind": "ClusterRole", "name": name},
                "subjects": [{"kind": "User", "name": user}]})
        };
        let objects = Arc::new(Objects::with(&[
            (authz::rbac::GROUP, "clusterroles", role("approver", "sign", "example.com/*")),
            (authz::rbac::GROUP, "clusterroles", role("signer", "sign", "example.org/s")),
            (authz::rbac::GROUP, "clusterrolebindings", binding("approver", "alice")),
            (authz::rbac::GROUP, "clusterrolebindings", binding("signer", "bob")),
            (authz::rbac::GROUP, "clusterroles", role("domain", "sign", "example.org/*")),
            (authz::rbac::GROUP, "clusterrolebindings", binding("domain", "dave")),
        ]));
        let plugin = CertificateSigners::new(Arc::new(Authorizers::new(objects.clone())));
        let info = resource(GROUP, PLURAL, "CertificateSigningRequest", false);
        let old = request("example.org/s", "devs", json!({}));
        let signed = request("example.org/s", "devs", json!({"certificate": "eA=="}));
        let status = Some(Subresource::Status);
        let refused = || {
            let why = "user not permitted to sign requests with signerName \"example.org/s\"";
            Some(format!("certificatesigningrequests.certificates.k8s.io \"x\" is forbidden: {why}"))
        };
        let table = [
            ("bob", status, &signed, None),
            ("alice", status, &signed, refused()),
            ("alice", status, &old, None),
            ("dave", status, &signed, None),
            ("carol", None, &signed, None),
        ];
        for (name, subresource, new, expected) in table {
            let user = User { name: name.to_owned(), ..User::default() };
            let attributes =
                Attributes { operation: Operation::Update, subresource, old: Some(&old), ..create(&info, &user, "") };
            let answer = plugin.validate(&attributes, Some(new), objects.as_ref()).await;
            assert_eq!(answer.err().map(|error| error.message), expected, "{name} {subresource:?}");
        }
    }
}
