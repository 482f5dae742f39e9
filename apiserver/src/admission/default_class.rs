//! DefaultIngressClass, and how the default of several classes is found: of those that are marked the newest, by name if they
//! are of one age.

use api::error::ApiError;
use async_trait::async_trait;
use k8s_openapi::Metadata;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;

use super::{Attributes, Lookup, Operation, Plugin};
use crate::object::{Object, downcast_mut};

const MARKS: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];
const OLD_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Gives a new Ingress without a class the cluster's default one.
pub struct DefaultIngressClass;

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("networking.k8s.io", "ingresses")
    }

    async fn mutate(
        &self,
        _: &Attributes<'_>,
        object: Option<&mut dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let Some(ingress) = object.and_then(downcast_mut::<Ingress>) else { return Ok(()) };
        let annotated = ingress.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(OLD_ANNOTATION));
        let spec = ingress.spec.get_or_insert_default();
        if annotated || spec.ingress_class_name.is_some() {
            return Ok(());
        }
        let classes = default_of::<IngressClass>(lookup, "networking.k8s.io", "ingressclasses", &MARKS).await?;
        spec.ingress_class_name = newest(classes).and_then(|class| class.metadata.name);
        Ok(())
    }
}

/// The classes that one of the annotations marks as default.
pub(super) async fn default_of<T>(
    lookup: &dyn Lookup,
    group: &str,
    plural: &str,
    marks: &[&str],
) -> Result<Vec<T>, ApiError>
where
    T: DeserializeOwned + Metadata<Ty = ObjectMeta>,
{
    let mut marked = Vec::new();
    for bytes in lookup.list(group, plural, "").await? {
        let class: T = serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
        let annotations = class.metadata().annotations.as_ref();
        if marks.iter().any(|mark| annotations.and_then(|all| all.get(*mark)).is_some_and(|value| value == "true")) {
            marked.push(class);
        }
    }
    Ok(marked)
}

/// The newest; the first by name of several that are equally new.
pub(super) fn newest<T: Metadata<Ty = ObjectMeta>>(classes: Vec<T>) -> Option<T> {
    let age = |class: &T| {
        let meta = class.metadata();
        (std::cmp::Reverse(meta.creation_timestamp.as_ref().map(|time| time.0)), meta.name.clone())
    };
    classes.into_iter().min_by_key(age)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::fixture::{create, resource};
    use crate::authn::User;
    use crate::view::fixture::Objects;
    use serde_json::json;

    #[tokio::test]
    async fn ingresses_without_a_class_get_the_newest_default() {
        let class = |name: &str, made: &str, default: &str| {
            let meta = json!({"name": name, "creationTimestamp": made, "annotations": {MARKS[0]: default}});
            ("networking.k8s.io", "ingressclasses", json!({"metadata": meta, "spec": {"controller": "c"}}))
        };
        let some = Objects::with(&[
            class("b", "2026-01-02T00:00:00Z", "true"),
            class("a", "2026-01-02T00:00:00Z", "true"),
            class("o", "2026-01-01T00:00:00Z", "true"),
            class("z", "2026-01-09T00:00:00Z", "false"),
        ]);
        let none = Objects::default();
        let (info, user) = (resource("networking.k8s.io", "ingresses", "Ingress", true), User::default());
        let table = [
            (json!({"metadata": {"name": "x"}}), &some, Some("a")),
            (json!({"metadata": {"name": "x"}}), &none, None),
            (json!({"metadata": {"name": "x"}, "spec": {"ingressClassName": "own"}}), &some, Some("own")),
            (json!({"metadata": {"name": "x", "annotations": {OLD_ANNOTATION: "nginx"}}}), &some, None),
        ];
        for (value, objects, expected) in table {
            let mut ingress: Ingress = serde_json::from_value(value.clone()).expect("an ingress");
            DefaultIngressClass
                .mutate(&create(&info, &user, "n"), Some(&mut ingress), objects)
                .await
                .expect("no error");
            assert_eq!(ingress.spec.unwrap_or_default().ingress_class_name.as_deref(), expected, "{value}");
        }
    }
}
