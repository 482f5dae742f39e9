//! How the versions of a kind become each other, as far as a definition can be wrong about it. Entry point: [`check`].

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names::is_dns1035_label;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionSpec, WebhookConversion,
};
use serde_json::json;

use super::is_true;
use crate::resources::webhook_address;
use crate::webhook::authorities;

/// The versions of ConversionReview that this server speaks.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// See the module; `old` is the definition before an update.
pub(super) fn check(
    spec: &CustomResourceDefinitionSpec,
    old: Option<&CustomResourceDefinition>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let Some(conversion) = &spec.conversion else { return };
    let at = path.child("strategy");
    if conversion.strategy != "None" && spec.preserve_unknown_fields == Some(true) {
        let detail = "must be None if spec.preserveUnknownFields is true";
        errors.push(FieldError::invalid(&at, &conversion.strategy, detail));
    }
    match conversion.strategy.as_str() {
        "" => errors.push(FieldError::required(&at, "")),
        "None" | "Webhook" => {}
        other => errors.push(FieldError::not_supported(&at, other, &["None", "Webhook"])),
    }
    if conversion.strategy == "Webhook" {
        webhook(conversion.webhook.as_ref(), bundle_counts(old), path, errors);
    } else if let Some(webhook) = &conversion.webhook {
        let detail = "should not be set when strategy is not set to Webhook";
        if webhook.client_config.is_some() {
            errors.push(FieldError::forbidden(&path.child("webhookClientConfig"), detail));
        }
        if !webhook.conversion_review_versions.is_empty() {
            errors.push(FieldError::forbidden(&path.child("conversionReviewVersions"), detail));
        }
    }
}

/// Whether the authorities must be sound: those of a kind that is served, unless they were wrong before.
fn bundle_counts(old: Option<&CustomResourceDefinition>) -> bool {
    let Some(old) = old.filter(|old| is_true(old, "Established")) else { return false };
    let webhook = old.spec.conversion.as_ref().and_then(|conversion| conversion.webhook.as_ref());
    webhook.and_then(bundle).is_none_or(|bundle| authorities(bundle).is_ok())
}

/// The authorities of a webhook, if it names any.
fn bundle(webhook: &WebhookConversion) -> Option<&[u8]> {
    let bundle = webhook.client_config.as_ref()?.ca_bundle.as_ref()?;
    Some(bundle.0.as_slice()).filter(|bundle| !bundle.is_empty())
}

fn webhook(webhook: Option<&WebhookConversion>, bundle_counts: bool, path: &FieldPath, errors: &mut FieldErrors) {
    let at = path.child("webhookClientConfig");
    match webhook.and_then(|webhook| webhook.client_config.as_ref()) {
        None => errors.push(FieldError::required(&at, "required when strategy is set to Webhook")),
        Some(config) => match (&config.url, &config.service) {
            (Some(url), None) => webhook_address::url(errors, &at.child("url"), url),
            (None, Some(service)) => {
                let port = service.port.unwrap_or(443);
                let (name, namespace) = (&service.name, &service.namespace);
                webhook_address::service(errors, &at.child("service"), name, namespace, service.path.as_deref(), port);
            }
            _ => errors.push(FieldError::required(&at, "exactly one of url or service is required")),
        },
    }
    if let Some((bundle, why)) = webhook.and_then(bundle).and_then(|bundle| Some((bundle, authorities(bundle).err()?)))
        && bundle_counts
    {
        let shown = json!(k8s_openapi::ByteString(bundle.to_vec()));
        errors.push(FieldError::invalid(&at.child("caBundle"), shown, why));
    }
    let at = path.child("conversionReviewVersions");
    let versions = webhook.map(|webhook| webhook.conversion_review_versions.as_slice()).unwrap_or_default();
    if versions.is_empty() {
        return errors.push(FieldError::required(&at, ""));
    }
    for (i, version) in versions.iter().enumerate() {
        if versions[..i].contains(version) {
            errors.push(FieldError::invalid(&at.index(i), version, "duplicate version"));
            continue;
        }
        errors.push_invalid(&at.index(i), version, is_dns1035_label(version));
    }
    if !versions.iter().any(|version| REVIEWS.contains(&version.as_str())) {
        let detail = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.push(FieldError::invalid(&at, json!(versions), detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_of_a_served_kind_must_be_sound() {
        let definition = |established: &str, bundle: &str| -> CustomResourceDefinition {
            serde_json::from_value(json!({"metadata": {}, "spec": {"group": "g", "scope": "Cluster", "names": {"kind": "K", "plural": "ks"},
                "versions": [], "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
                    "clientConfig": {"url": "https://h/", "caBundle": bundle}}}},
                "status": {"conditions": [{"type": "Established", "status": established}]}}))
            .expect("a definition")
        };
        let bad = "c.webhookClientConfig.caBundle: Invalid value: \"Ym9ndXM=\": unable to load root certificates: unable to parse bytes as PEM block";
        let table = [
            (None, "[]"),
            (Some(definition("False", "")), "[]"),
            (Some(definition("True", "")), bad),
            (Some(definition("True", "YQ==")), "[]"),
        ];
        for (old, expected) in table {
            let mut errors = FieldErrors::new();
            check(&definition("True", "Ym9ndXM=").spec, old.as_ref(), &FieldPath::root("c"), &mut errors);
            assert_eq!(errors.to_string(), expected);
        }
    }
}
