//! CertificateSigningRequest: somebody asks a signer for a certificate. Who asked is set by the server and never changes.

mod check;
mod signature;

use api::field::FieldErrors;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest as Object, CertificateSigningRequestCondition, CertificateSigningRequestStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use self::check::By;
pub use self::check::read_request;
use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Stamp, Subresource};

/// See the module.
pub struct CertificateSigningRequest;

impl Kind for CertificateSigningRequest {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["csr"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Approval, Subresource::Status];
    const FIELDS: &'static [(&'static str, &'static [&'static str])] = &[("spec.signerName", &["/spec/signerName"])];

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(CertificateSigningRequestStatus::default());
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.spec = old.spec.clone();
        new.status.clone_from(&old.status);
    }

    /// The signer's write leaves approval and denial as they are.
    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec = old.spec.clone();
        for kind in ["Approved", "Denied"] {
            keep_conditions(new, old, kind);
        }
    }

    /// The approver's write says nothing but conditions.
    fn prepare_for_subresource_update(_: Subresource, new: &mut Object, old: &Object) {
        new.spec = old.spec.clone();
        let conditions = new.status.take().and_then(|status| status.conditions);
        new.status = Some(CertificateSigningRequestStatus { conditions, ..old.status.clone().unwrap_or_default() });
    }

    /// A new request names who asks; new conditions have a time.
    fn stamp(new: &mut Object, old: Option<&Object>, by: &Stamp<'_>) {
        let Some(old) = old else {
            let spec = &mut new.spec;
            spec.username = Some(by.user.name.clone());
            spec.uid = Some(by.user.uid.clone());
            spec.groups = Some(by.user.groups.clone());
            spec.extra = (!by.user.extra.is_empty()).then(|| by.user.extra.clone());
            return;
        };
        let before = conditions(old).to_vec();
        for condition in new.status.iter_mut().filter_map(|status| status.conditions.as_mut()).flatten() {
            condition.last_update_time.get_or_insert(Time(by.now));
            let same = before.iter().find(|old| old.type_ == condition.type_ && old.status == condition.status);
            let since = same.and_then(|old| old.last_transition_time.clone()).unwrap_or(Time(by.now));
            condition.last_transition_time.get_or_insert(since);
        }
    }

    fn reset_fields(subresource: Option<Subresource>) -> &'static [&'static str] {
        match subresource {
            None => &["status"],
            Some(Subresource::Approval) => &["spec", "status.certificate"],
            Some(_) => &["spec"],
        }
    }

    fn validate(object: &Object) -> FieldErrors {
        check::all(object)
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        check::change(new, old, By::Main)
    }

    fn validate_status_update(new: &Object, old: &Object) -> FieldErrors {
        check::change(new, old, By::Signer)
    }

    fn validate_subresource_update(_: Subresource, new: &Object, old: &Object) -> FieldErrors {
        check::change(new, old, By::Approver)
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
    let mut shown = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied".to_owned(),
        (false, true) => "Approved".to_owned(),
        (false, false) => "Pending".to_owned(),
    };
    if has("Failed") {
        shown.push_str(",Failed");
    }
    if status.certificate.is_some_and(|certificate| !certificate.0.is_empty()) {
        shown.push_str(",Issued");
    }
    shown
}

fn conditions(object: &Object) -> &[CertificateSigningRequestCondition] {
    object.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

/// Puts back the conditions of a type, unless some were added or removed (which is an error).
fn keep_conditions(new: &mut Object, old: &Object, kind: &str) {
    let before: Vec<_> = conditions(old).iter().filter(|condition| condition.type_ == kind).cloned().collect();
    let now = new.status.iter_mut().filter_map(|status| status.conditions.as_mut()).flatten();
    let now: Vec<_> = now.filter(|condition| condition.type_ == kind).collect();
    if now.len() == before.len() {
        now.into_iter().zip(before).for_each(|(now, before)| *now = before);
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
            (
                json!({"request": "aGVsbG8=", "signerName": "local/s", "usages": ["client auth", "flying", "client auth"], "expirationSeconds": 9}),
                format!(
                    "[{not_pem}, spec.usages[1]: Unsupported value: \"flying\": supported values: {}, spec.usages[2]: Duplicate value: \"client auth\", spec.signerName: Invalid value: \"local\": should be a domain with at least two segments, spec.expirationSeconds: Invalid value: 9: may not specify a duration less than 600 seconds (10 minutes)]",
                    "\"any\", \"cert sign\", \"client auth\", \"code signing\", \"content commitment\", \"crl sign\", \"data encipherment\", \"decipher only\", \"digital signature\", \"email protection\", \"encipher only\", \"ipsec end system\", \"ipsec tunnel\", \"ipsec user\", \"key agreement\", \"key encipherment\", \"microsoft sgc\", \"netscape sgc\", \"ocsp signing\", \"s/mime\", \"server auth\", \"signing\", \"timestamping\""
                ),
            ),
        ];
        for (spec, message) in table {
            assert_eq!(CertificateSigningRequest::validate(&read(spec)).to_string(), message);
        }
    }

    #[test]
    fn approval_is_the_approvers_and_for_ever() {
        let with = |conditions: Value| {
            let value = json!({"spec": {"request": "", "signerName": "example.org/s", "usages": ["any"]}, "status": {"conditions": conditions}});
            serde_json::from_value::<Object>(value).expect("a request")
        };
        let (none, approved) = (with(json!([])), with(json!([{"type": "Approved", "status": "True"}])));
        let denied = with(json!([{"type": "Approved", "status": "True"}, {"type": "Denied", "status": "False"}]));
        let table = [
            (&approved, &none, By::Approver, ""),
            (
                &approved,
                &none,
                By::Signer,
                "status.conditions: Forbidden: updates may not add a condition of type \"Approved\"",
            ),
            (
                &none,
                &approved,
                By::Approver,
                "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\"",
            ),
            (
                &denied,
                &approved,
                By::Approver,
                "status.conditions[1].status: Unsupported value: \"False\": supported values: \"True\", status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
            ),
        ];
        for (new, old, by, expected) in table {
            let found = check::change(new, old, by);
            let found: Vec<String> =
                found.iter().filter(|error| error.path.as_str() != "spec.request").map(ToString::to_string).collect();
            assert_eq!(found.join(", "), expected);
        }
    }
}
