//! What is wrong with a request for a certificate, its conditions and the certificate. Entry points: [`all`], [`change`].
//!
//! Approved, Denied and Failed are for ever: only `/approval` adds the first two, nobody removes one.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use base64::Engine as _;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest as Object, CertificateSigningRequestCondition};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::signature;
use crate::resources::checks;

const MIN_SECONDS: i32 = 600;
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";
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

/// What a write may say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The object itself: labels and annotations.
    Main,
    /// `/status`: the signer.
    Signer,
    /// `/approval`: the approver.
    Approver,
}

/// All errors of a request.
pub fn all(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = FieldPath::root("spec");
    let spec = &object.spec;
    if let Err(why) = read_request(&spec.request.0, signature::check).and_then(|signed| signed) {
        let shown = base64::engine::general_purpose::STANDARD.encode(&spec.request.0);
        errors.push(FieldError::invalid(&path.child("request"), shown, why));
    }
    let usages = spec.usages.as_deref().unwrap_or_default();
    if usages.is_empty() {
        errors.push(FieldError::required(&path.child("usages"), ""));
    }
    for (i, usage) in usages.iter().enumerate() {
        checks::one_of(&mut errors, &path.child("usages").index(i), usage, USAGES);
    }
    for (i, usage) in usages.iter().enumerate().filter(|(i, usage)| usages[..*i].contains(usage)) {
        errors.push(FieldError::duplicate(&path.child("usages").index(i), usage));
    }
    if spec.signer_name == LEGACY_SIGNER {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.push(FieldError::invalid(&path.child("signerName"), LEGACY_SIGNER, detail));
    } else {
        signer_name(&mut errors, &path.child("signerName"), &spec.signer_name);
    }
    if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < MIN_SECONDS) {
        let detail = format!("may not specify a duration less than {MIN_SECONDS} seconds (10 minutes)");
        errors.push(FieldError::invalid(&path.child("expirationSeconds"), seconds, detail));
    }
    let path = FieldPath::root("status");
    conditions(&mut errors, &path.child("conditions"), conditions_of(object));
    if let Err(why) = certificate(certificate_of(object)) {
        errors.push(FieldError::invalid(&path.child("certificate"), "<certificate data>", why));
    }
    errors
}

/// All errors of a change.
pub fn change(new: &Object, old: &Object, by: By) -> FieldErrors {
    let mut errors = all(new);
    let path = FieldPath::root("status");
    let mut refuse = |what: &str, kind: &str| {
        let detail = format!("updates may not {what} a condition of type \"{kind}\"");
        errors.push(FieldError::forbidden(&path.child("conditions"), detail));
    };
    let of_kind =
        |object, kind: &str| conditions_of(object).iter().filter(|c| c.type_ == kind).cloned().collect::<Vec<_>>();
    let counted = |kind: &str| (of_kind(new, kind).len(), of_kind(old, kind).len());
    for kind in [APPROVED, DENIED, FAILED].into_iter().filter(|kind| counted(kind).0 < counted(kind).1) {
        refuse("remove", kind);
    }
    for kind in [APPROVED, DENIED].into_iter().filter(|_| by != By::Approver) {
        match counted(kind) {
            (now, before) if now > before => refuse("add", kind),
            (now, before) if now == before && of_kind(new, kind) != of_kind(old, kind) => refuse("modify", kind),
            _ => {}
        }
    }
    let (now, before) = (certificate_of(new), certificate_of(old));
    if now != before && by != By::Signer {
        errors.push(FieldError::forbidden(&path.child("certificate"), "updates may not set certificate content"));
    } else if now != before && !before.is_empty() {
        let detail = "updates may not modify existing certificate content";
        errors.push(FieldError::forbidden(&path.child("certificate"), detail));
    }
    errors
}

fn conditions_of(object: &Object) -> &[CertificateSigningRequestCondition] {
    object.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn certificate_of(object: &Object) -> &[u8] {
    object.status.as_ref().and_then(|status| status.certificate.as_ref()).map(|bytes| &bytes.0[..]).unwrap_or_default()
}

fn conditions(errors: &mut FieldErrors, list: &FieldPath, conditions: &[CertificateSigningRequestCondition]) {
    for (i, condition) in conditions.iter().enumerate() {
        let (path, kind) = (list.index(i), condition.type_.as_str());
        checks::required(errors, &path.child("type"), kind);
        let statuses: &[&str] = match kind {
            APPROVED | DENIED | FAILED => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        checks::required_one_of(errors, &path.child("status"), &condition.status, statuses);
        let contradicts = |other: &&CertificateSigningRequestCondition| {
            matches!((kind, other.type_.as_str()), (APPROVED, DENIED) | (DENIED, APPROVED))
        };
        if conditions[..i].iter().any(|other| contradicts(&other)) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(list, kind, detail));
        }
        if conditions[..i].iter().any(|other| other.type_ == kind) {
            errors.push(FieldError::duplicate(&path.child("type"), kind));
        }
    }
}

/// Reads a request in PEM; the error is what upstream says of one that is none.
pub fn read_request<T>(bytes: &[u8], read: impl FnOnce(&X509CertificationRequest<'_>) -> T) -> Result<T, String> {
    const NOT_PEM: &str = "PEM block type must be CERTIFICATE REQUEST";
    let (_, block) = x509_parser::pem::parse_x509_pem(bytes).map_err(|_| NOT_PEM.to_owned())?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(NOT_PEM.to_owned());
    }
    let (_, request) = X509CertificationRequest::from_der(&block.contents).map_err(|error| error.to_string())?;
    Ok(read(&request))
}

fn certificate(bytes: &[u8]) -> Result<(), String> {
    let mut blocks = 0;
    for block in x509_parser::pem::Pem::iter_from_buffer(bytes) {
        let Ok(block) = block else { break };
        if block.label != "CERTIFICATE" {
            let found = api::field::go_quote(&block.label);
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {found}"));
        }
        x509_parser::certificate::X509Certificate::from_der(&block.contents).map_err(|error| error.to_string())?;
        blocks += 1;
    }
    match blocks {
        0 if !bytes.is_empty() => Err("must contain one or more CERTIFICATE PEM blocks".to_owned()),
        _ => Ok(()),
    }
}

/// `example.com/signer`.
fn signer_name(errors: &mut FieldErrors, path: &FieldPath, name: &str) {
    const MAX_DOMAIN: usize = 253;
    const MAX_PATH: usize = 253 + 63 + 1;
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let [domain, rest] = name.split('/').collect::<Vec<_>>()[..] else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(path, name, detail));
        return;
    };
    if domain.len() > MAX_DOMAIN {
        errors.push(FieldError::too_long(path, MAX_DOMAIN));
    }
    let labels = |errors: &mut FieldErrors, part: &str, rule: fn(&str) -> Vec<String>| {
        for label in part.split('.') {
            let found = rule(label).into_iter();
            let details = found.map(|why| format!("validating label {}: {why}", api::field::go_quote(label)));
            errors.push_invalid(path, part, details.collect());
        }
    };
    labels(errors, domain, names::is_dns1123_label);
    if !domain.contains('.') {
        errors.push(FieldError::invalid(path, domain, "should be a domain with at least two segments"));
    }
    labels(errors, rest, names::is_dns1123_subdomain);
    if name.len() > MAX_DOMAIN + MAX_PATH + 1 {
        errors.push(FieldError::too_long(path, MAX_DOMAIN + MAX_PATH + 1));
    }
}
