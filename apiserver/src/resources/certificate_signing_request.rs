//! CertificateSigningRequest: somebody asks a signer for a certificate. Who asked is set by the server and never changes.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use base64::Engine as _;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest as Object, CertificateSigningRequestStatus};
use serde_json::Value;
use x509_parser::prelude::FromDer as _;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks};

/// See the module.
pub struct CertificateSigningRequest;

const MIN_SECONDS: i32 = 600;
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

impl Kind for CertificateSigningRequest {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["csr"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const FIELDS: &'static [(&'static str, &'static [&'static str])] = &[("spec.signerName", &["/spec/signerName"])];

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(CertificateSigningRequestStatus::default());
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.spec = old.spec.clone();
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec = old.spec.clone();
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("spec");
        let spec = &object.spec;
        if let Err(why) = check_request(&spec.request.0) {
            let shown = base64::engine::general_purpose::STANDARD.encode(&spec.request.0);
            errors.push(FieldError::invalid(&path.child("request"), shown, why));
        }
        let usages = spec.usages.as_deref().unwrap_or_default();
        if usages.is_empty() {
            errors.push(FieldError::required(&path.child("usages"), ""));
        }
        for (i, usage) in usages.iter().enumerate() {
            checks::one_of(&mut errors, &path.child("usages").index(i), usage, USAGES);
            if usages[..i].contains(usage) {
                errors.push(FieldError::duplicate(&path.child("usages").index(i), usage));
            }
        }
        signer_name(&mut errors, &path.child("signerName"), &spec.signer_name);
        if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < MIN_SECONDS) {
            let detail = format!("may not specify a duration less than {MIN_SECONDS} seconds (10 minutes)");
            errors.push(FieldError::invalid(&path.child("expirationSeconds"), seconds, detail));
        }
        errors
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            AGE,
            printing::text(
                "SignerName",
                "signerName indicates the requested signer, and is a qualified name. List/watch requests for CertificateSigningRequests can filter on this field using a \"spec.signerName=NAME\" fieldSelector.",
            ),
            printing::text(
                "Requestor",
                "username contains the name of the user that created the CertificateSigningRequest. Populated by the API server on creation and immutable.",
            ),
            printing::text(
                "RequestedDuration",
                "expirationSeconds is the requested duration of validity of the issued certificate.",
            ),
            printing::text(
                "Condition",
                "conditions applied to the request. Known conditions are \"Approved\", \"Denied\", and \"Failed\".",
            ),
        ];
        Columns {
            columns,
            cells: |object, now| {
                let duration = object
                    .spec
                    .expiration_seconds
                    .map_or("<none>".to_owned(), |s| printing::human_duration(i64::from(s)));
                vec![
                    printing::name(&object.metadata),
                    printing::age(&object.metadata, now),
                    Value::from(printing::or_none(&object.spec.signer_name)),
                    Value::from(object.spec.username.clone().unwrap_or_default()),
                    Value::from(duration),
                    Value::from(condition(object)),
                ]
            },
        }
    }
}

fn condition(object: &Object) -> String {
    let status = object.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let has = |kind: &str| conditions.iter().any(|condition| condition.type_ == kind);
    let mut shown = match (has("Denied"), has("Approved"), has("Failed")) {
        (true, _, _) => "Denied".to_owned(),
        (false, true, _) => "Approved".to_owned(),
        (false, false, false) => "Pending".to_owned(),
        (false, false, true) => String::new(),
    };
    if has("Failed") {
        shown.push_str(",Failed");
    }
    if status.certificate.is_some_and(|certificate| !certificate.0.is_empty()) {
        shown.push_str(",Issued");
    }
    shown
}

fn check_request(bytes: &[u8]) -> Result<(), String> {
    const NOT_PEM: &str = "PEM block type must be CERTIFICATE REQUEST";
    let (_, block) = x509_parser::pem::parse_x509_pem(bytes).map_err(|_| NOT_PEM.to_owned())?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(NOT_PEM.to_owned());
    }
    x509_parser::certification_request::X509CertificationRequest::from_der(&block.contents)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// `example.com/signer`.
fn signer_name(errors: &mut FieldErrors, path: &FieldPath, name: &str) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    match name.split_once('/') {
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            errors.push_invalid(path, name, names::is_dns1123_subdomain(domain));
            if domain.split('.').count() < 2 {
                errors.push(FieldError::invalid(
                    path,
                    name,
                    "should be a domain with at least two segments separated by dots",
                ));
            }
        }
        Some(_) | None => {
            let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            errors.push(FieldError::invalid(path, name, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_refused() {
        let read = |spec: Value| serde_json::from_value::<Object>(json!({"spec": spec})).expect("a request");
        let not_pem = "spec.request: Invalid value: \"aGVsbG8=\": PEM block type must be CERTIFICATE REQUEST";
        let table = [
            (
                json!({"request": "aGVsbG8=", "signerName": "example.org/s", "usages": ["client auth"]}),
                not_pem.to_owned(),
            ),
            (
                json!({"request": "aGVsbG8=", "signerName": "example.org/s"}),
                format!("[{not_pem}, spec.usages: Required value]"),
            ),
            (
                json!({"request": "aGVsbG8=", "signerName": "nosign", "usages": ["client auth"]}),
                format!(
                    "[{not_pem}, spec.signerName: Invalid value: \"nosign\": must be a fully qualified domain and path of the form 'example.com/signer-name']"
                ),
            ),
        ];
        for (spec, message) in table {
            assert_eq!(CertificateSigningRequest::validate(&read(spec)).to_string(), message);
        }
    }
}
