//! What built-in kinds and their fields mean, in Kubernetes' own words, as the crate k8s-openapi carries them with its types. Entry
//! points: [`Descriptions::of`], [`Descriptions::add_to`].
//!
//! The words are only in memory while a document is written.

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::autoscaling::v1::{HorizontalPodAutoscaler, Scale};
use k8s_openapi::api::core::v1::Binding;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    APIGroup, APIGroupList, APIResourceList, APIVersions, DeleteOptions, ListMeta, ObjectMeta, Status,
};
use k8s_openapi::schemars::SchemaGenerator;
use serde_json::{Map, Value};

use crate::resources::Strategy;

const DESCRIPTION: &str = "description";
/// A definition the library has, and the fields that mean the same in those it has not: lists, and kinds defined at run time.
const PLAIN: &str = "io.k8s.api.core.v1.Binding";
const COMMON: &[&str] = &["apiVersion", "kind", "metadata"];

/// The library's schemas by the name of their definition.
#[derive(Default)]
pub struct Descriptions(Map<String, Value>);

impl Descriptions {
    /// Of the types of these rows, of those that rows are served as, and of those that stand in every document.
    pub fn of(rows: &[&dyn Strategy]) -> Self {
        let mut generator = SchemaGenerator::default();
        rows.iter().for_each(|row| row.describe(&mut generator));
        generator.subschema_for::<HorizontalPodAutoscaler>();
        generator.subschema_for::<Event>();
        generator.subschema_for::<Binding>();
        generator.subschema_for::<Eviction>();
        generator.subschema_for::<Scale>();
        generator.subschema_for::<TokenRequest>();
        generator.subschema_for::<APIGroup>();
        generator.subschema_for::<APIGroupList>();
        generator.subschema_for::<APIResourceList>();
        generator.subschema_for::<APIVersions>();
        generator.subschema_for::<DeleteOptions>();
        generator.subschema_for::<ListMeta>();
        generator.subschema_for::<ObjectMeta>();
        generator.subschema_for::<Status>();
        Self(generator.take_definitions(false))
    }

    /// Describes a definition and each of its properties, where they are not described yet.
    pub fn add_to(&self, name: &str, schema: &mut Value) {
        let own = self.0.get(name);
        if let Some(own) = own {
            describe(schema, own);
        }
        let Some(known) = own.or_else(|| self.0.get(PLAIN)) else { return };
        let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
        for (name, property) in
            properties.iter_mut().filter(|(name, _)| own.is_some() || COMMON.contains(&name.as_str()))
        {
            describe(property, &known["properties"][name.as_str()]);
        }
    }
}

fn describe(schema: &mut Value, known: &Value) {
    if let (Some(schema), Some(words)) = (schema.as_object_mut(), known.get(DESCRIPTION)) {
        schema.entry(DESCRIPTION).or_insert_with(|| words.clone());
    }
}
