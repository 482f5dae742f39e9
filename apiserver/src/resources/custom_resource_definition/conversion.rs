//! How the versions of a kind become each other, as far as a definition can be wrong about it. Entry point: [`check`].

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names::is_dns1035_label;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinitionSpec, WebhookConversion,
};
use serde_json::json;

use crate::resources::webhook_address;

/// The versions of ConversionReview that this server speaks.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// See the module.
pub(super) fn check(spec: &CustomResourceDefinitionSpec, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(conversion) = &spec.conversion else { return };
    let at = path.child("strategy");
    if conversion.strategy == "Webhook" && spec.preserve_unknown_fields == Some(true) {
        let detail = "must be None if spec.preserveUnknownFields is true";
        errors.push(FieldError::invalid(&at, &conversion.strategy, detail));
    }
    match conversion.strategy.as_str() {
        "" => errors.push(FieldError::required(&at, "")),
        "None" | "Webhook" => {}
        other => errors.push(FieldError::not_supported(&at, other, &["None", "Webhook"])),
    }
    if conversion.strategy == "Webhook" {
        webhook(conversion.webhook.as_ref(), path, errors);
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

fn webhook(webhook: Option<&WebhookConversion>, path: &FieldPath, errors: &mut FieldErrors) {
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
