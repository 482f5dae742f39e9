//! PodSecurity: a namespace's labels say which of the Pod Security Standards its pods must meet (enforce), and about which
//! violations to tell the client (warn) and the audit log (audit). <https://kubernetes.io/docs/concepts/security/pod-security-admission/>
//!
//! The standards are in [`checks`], pure; the labels in [`policy`]. A namespace without such labels costs one search in its bytes.

mod checks;
mod policy;

use std::collections::BTreeMap;

use api::error::ApiError;
use api::field::go_quote;
use async_trait::async_trait;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    Container, Namespace, Pod, PodSpec, PodTemplate, PodTemplateSpec, ReplicationController,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use self::checks::{Violation, evaluate};
use self::policy::{LABELS, Level, Policy, Standard};
use super::{Attributes, Lookup, Operation, Plugin, find};
use crate::object::{Object, downcast};

/// How many pods of a namespace are looked at when its label changes.
const MAX_PODS: usize = 3000;
/// Subresources that can't change what a pod may do.
const HARMLESS: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];
const ANNOTATIONS: &str = "pod-security.kubernetes.io/";
/// Kinds that make pods from a template: group and plural.
const TEMPLATES: [(&str, &str); 8] = [
    ("", "replicationcontrollers"),
    ("", "podtemplates"),
    ("apps", "replicasets"),
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("apps", "daemonsets"),
    ("batch", "jobs"),
    ("batch", "cronjobs"),
];

/// See the module.
pub struct PodSecurity;

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        let place = (attributes.resource.group.as_str(), attributes.resource.plural.as_str());
        let written = matches!(attributes.operation, Operation::Create | Operation::Update);
        written && (place == ("", "namespaces") || place == ("", "pods") || TEMPLATES.contains(&place))
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let Some(object) = object else { return Ok(()) };
        let request = Request { attributes, object };
        let place = (attributes.resource.group.as_str(), attributes.resource.plural.as_str());
        let subresource = attributes.subresource.map_or("", |subresource| subresource.as_str());
        match place {
            ("", "namespaces") if subresource.is_empty() => request.namespace(lookup).await,
            ("", "pods") if !HARMLESS.contains(&subresource) => request.pod(lookup).await,
            _ if TEMPLATES.contains(&place) && subresource.is_empty() => request.template(lookup).await,
            _ => Ok(()),
        }
    }
}

/// A write that may concern a standard.
struct Request<'a> {
    attributes: &'a Attributes<'a>,
    object: &'a dyn Object,
}

impl Request<'_> {
    /// The labels of a namespace must be understood; pods that violate a stricter one are named.
    async fn namespace(&self, lookup: &dyn Lookup) -> Result<(), ApiError> {
        let labels = |object: &dyn Object| Policy::of_labels(object.metadata().labels.as_ref());
        let (new, wrong) = labels(self.object);
        let Some(old) = self.attributes.old.filter(|_| self.attributes.operation == Operation::Update) else {
            return if wrong.is_empty() { Ok(()) } else { Err(self.invalid(wrong)) };
        };
        let (old, wrong_before) = labels(old);
        if !wrong.is_empty() && wrong != wrong_before {
            return Err(self.invalid(wrong));
        }
        let relaxed = new.enforce.version == old.enforce.version && new.enforce.level <= old.enforce.level;
        if new.enforce == old.enforce || new.enforce.level == Level::Privileged || relaxed {
            return Ok(());
        }
        let name = self.object.metadata().name.as_deref().unwrap_or_default();
        let pods = lookup.list("", "pods", name).await?;
        let pods = pods.iter().map(|bytes| serde_json::from_slice(bytes).map_err(ApiError::internal));
        let pods = pods.collect::<Result<Vec<Pod>, ApiError>>()?;
        existing(name, &new.enforce, &pods).into_iter().for_each(|warning| self.warn(warning));
        Ok(())
    }

    async fn pod(&self, lookup: &dyn Lookup) -> Result<(), ApiError> {
        let Some(policy) = self.policy(lookup).await? else { return Ok(()) };
        let Some(pod) = downcast::<Pod>(self.object) else { return Ok(()) };
        let old = self.attributes.old.and_then(downcast::<Pod>);
        if self.attributes.operation == Operation::Update && old.is_some_and(|old| !is_significant(pod, old)) {
            return Ok(());
        }
        let Some(spec) = pod.spec.as_ref() else { return Ok(()) };
        self.note("enforce-policy", policy.enforce.to_string());
        let enforced = evaluate(&policy.enforce, &pod.metadata, spec);
        self.audit(&policy, &pod.metadata, spec);
        if !enforced.is_empty() {
            let standard = go_quote(&policy.enforce.to_string());
            let why = format!("violates PodSecurity {standard}: {}", details(&enforced));
            return Err(self.attributes.forbidden(Some(self.object), &why));
        }
        self.warn_of(&policy, &pod.metadata, spec);
        Ok(())
    }

    async fn template(&self, lookup: &dyn Lookup) -> Result<(), ApiError> {
        let Some(policy) = self.policy(lookup).await? else { return Ok(()) };
        if policy.warn.level == Level::Privileged && policy.audit.level == Level::Privileged {
            return Ok(());
        }
        let Some(template) = template_of(self.object) else { return Ok(()) };
        let (meta, spec) = (template.metadata.clone().unwrap_or_default(), template.spec.clone().unwrap_or_default());
        self.audit(&policy, &meta, &spec);
        self.warn_of(&policy, &meta, &spec);
        Ok(())
    }

    /// What the namespace demands; none where it demands nothing.
    async fn policy(&self, lookup: &dyn Lookup) -> Result<Option<Policy>, ApiError> {
        let namespace = self.attributes.namespace;
        let Some(bytes) = lookup.get("", "namespaces", "", namespace).await? else {
            let why = format!("failed to lookup namespace {}", go_quote(namespace));
            return Err(ApiError::internal(why));
        };
        if !bytes.windows(LABELS.len()).any(|window| window == LABELS.as_bytes()) {
            return Ok(None);
        }
        let found = find::<Namespace>(lookup, "", "namespaces", "", namespace).await?.unwrap_or_default();
        let (policy, wrong) = Policy::of_labels(found.metadata.labels.as_ref());
        if !wrong.is_empty() {
            self.note("error", format!("Failed to parse policy: {wrong}"));
        }
        Ok((policy != Policy::default()).then_some(policy))
    }

    fn audit(&self, policy: &Policy, meta: &ObjectMeta, spec: &PodSpec) {
        if let Some(violations) = would_violate(&policy.audit, meta, spec) {
            self.note("audit-violations", violations);
        }
    }

    fn warn_of(&self, policy: &Policy, meta: &ObjectMeta, spec: &PodSpec) {
        would_violate(&policy.warn, meta, spec).into_iter().for_each(|violations| self.warn(violations));
    }

    fn warn(&self, warning: String) {
        if let Some(context) = &self.attributes.context {
            context.place.warnings.add(warning);
        }
    }

    fn note(&self, key: &str, value: String) {
        if let Some(context) = &self.attributes.context {
            context.place.annotations.add(format!("{ANNOTATIONS}{key}"), value);
        }
    }

    fn invalid(&self, wrong: api::FieldErrors) -> ApiError {
        let name = self.object.metadata().name.as_deref().unwrap_or_default();
        ApiError::invalid(&self.attributes.resource.group_kind(), name, wrong)
    }
}

fn would_violate(standard: &Standard, meta: &ObjectMeta, spec: &PodSpec) -> Option<String> {
    let violations = evaluate(standard, meta, spec);
    let standard = go_quote(&standard.to_string());
    (!violations.is_empty()).then(|| format!("would violate PodSecurity {standard}: {}", details(&violations)))
}

fn details(violations: &[Violation]) -> String {
    let shown = violations.iter().map(|violation| match violation.detail.as_str() {
        "" => violation.reason.clone(),
        detail => format!("{} ({detail})", violation.reason),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Warnings about the pods that are there already.
fn existing(namespace: &str, standard: &Standard, pods: &[Pod]) -> Vec<String> {
    let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for pod in pods.iter().take(MAX_PODS) {
        let spec = pod.spec.clone().unwrap_or_default();
        let violations = evaluate(standard, &pod.metadata, &spec);
        if !violations.is_empty() {
            let reasons: Vec<&str> = violations.iter().map(|violation| violation.reason.as_str()).collect();
            found.entry(reasons.join(", ")).or_default().push(pod.metadata.name.as_deref().unwrap_or_default());
        }
    }
    let mut warnings = Vec::new();
    if pods.len() > MAX_PODS {
        let total = pods.len();
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {MAX_PODS} of {total} existing pods"
        ));
    }
    if !found.is_empty() {
        let (namespace, standard) = (go_quote(namespace), go_quote(&standard.to_string()));
        warnings.push(format!(
            "existing pods in namespace {namespace} violate the new PodSecurity enforce level {standard}"
        ));
    }
    let named = found.into_iter().map(|(reasons, mut names)| {
        names.sort_unstable();
        match names.as_slice() {
            [only] => format!("{only}: {reasons}"),
            [first, _] => format!("{first} (and 1 other pod): {reasons}"),
            several => format!("{} (and {} other pods): {reasons}", several[0], several.len() - 1),
        }
    });
    let mut named: Vec<String> = named.collect();
    named.sort_unstable();
    warnings.extend(named);
    warnings
}

/// Whether an update changes what the standards look at: new containers or other images.
fn is_significant(new: &Pod, old: &Pod) -> bool {
    let (new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
    let changed = |new: &[Container], old: &[Container]| {
        new.len() != old.len() || new.iter().zip(old).any(|(new, old)| new.image != old.image)
    };
    let (old_debuggers, new_debuggers) =
        (old.ephemeral_containers.unwrap_or_default(), new.ephemeral_containers.unwrap_or_default());
    changed(&new.containers, &old.containers)
        || changed(&new.init_containers.unwrap_or_default(), &old.init_containers.unwrap_or_default())
        || new_debuggers
            .iter()
            .any(|new| old_debuggers.iter().find(|old| old.name == new.name).is_none_or(|old| old.image != new.image))
}

fn template_of(object: &dyn Object) -> Option<&PodTemplateSpec> {
    None.or_else(|| downcast::<Deployment>(object).and_then(|o| Some(&o.spec.as_ref()?.template)))
        .or_else(|| downcast::<DaemonSet>(object).and_then(|o| Some(&o.spec.as_ref()?.template)))
        .or_else(|| downcast::<Job>(object).and_then(|o| Some(&o.spec.as_ref()?.template)))
        .or_else(|| downcast::<StatefulSet>(object).and_then(|o| Some(&o.spec.as_ref()?.template)))
        .or_else(|| downcast::<ReplicaSet>(object).and_then(|o| o.spec.as_ref()?.template.as_ref()))
        .or_else(|| downcast::<ReplicationController>(object).and_then(|o| o.spec.as_ref()?.template.as_ref()))
        .or_else(|| downcast::<PodTemplate>(object).and_then(|o| o.template.as_ref()))
        .or_else(|| {
            let job = &downcast::<CronJob>(object)?.spec.job_template;
            Some(&job.spec.as_ref()?.template)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_that_are_there_are_named_once_for_each_reason() {
        let pod = |name: &str, spec: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("a pod")
        };
        let host = || json!({"hostNetwork": true, "containers": []});
        let pods = [
            pod("c", host()),
            pod("a", host()),
            pod("b", json!({"containers": [{"name": "c", "securityContext": {"privileged": true}}]})),
            pod("ok", json!({"containers": []})),
        ];
        let standard = Standard { level: Level::Baseline, version: policy::Version::Latest };
        assert_eq!(
            existing("n", &standard, &pods),
            [
                "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\"",
                "a (and 1 other pod): host namespaces",
                "b: privileged",
            ]
        );
    }

    #[test]
    fn only_images_and_containers_matter_in_updates() {
        let pod = |spec: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a pod")
        };
        let old = pod(json!({"containers": [{"name": "c", "image": "a"}]}));
        let debugger = json!([{"name": "d", "image": "x"}]);
        let table = [
            (json!({"containers": [{"name": "c", "image": "a"}], "activeDeadlineSeconds": 5}), false),
            (json!({"containers": [{"name": "c", "image": "b"}]}), true),
            (json!({"containers": [{"name": "c", "image": "a"}], "ephemeralContainers": debugger}), true),
        ];
        for (spec, expected) in table {
            assert_eq!(is_significant(&pod(spec.clone()), &old), expected, "{spec}");
        }
    }
}
