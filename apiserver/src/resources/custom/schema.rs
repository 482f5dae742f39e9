//! [`Schema`]: one node of an `openAPIV3Schema`, ready to prune, default and check objects with. Entry point: [`Schema::parse`].
//!
//! Only schemas that the definition's validation has accepted come here: structural, without references. Reference:
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// See the module.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Schema {
    /// `object`, `array`, `string`, `integer`, `number`, `boolean`; empty where anything goes.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Of a string; unknown ones count as none.
    pub format: String,
    /// Whether null is a value.
    pub nullable: bool,
    /// Taken where the value is missing.
    pub default: Option<Value>,
    /// The fields of an object.
    pub properties: BTreeMap<String, Schema>,
    /// All other fields.
    pub additional_properties: Option<Additional>,
    /// The items of a list.
    pub items: Option<Box<Schema>>,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// The allowed values; none allows all.
    #[serde(rename = "enum")]
    pub allowed: Vec<Value>,
    /// Largest number.
    pub maximum: Option<f64>,
    /// The largest number is not allowed itself.
    pub exclusive_maximum: bool,
    /// Smallest number.
    pub minimum: Option<f64>,
    /// The smallest number is not allowed itself.
    pub exclusive_minimum: bool,
    /// Numbers are multiples of this.
    pub multiple_of: Option<f64>,
    /// In characters.
    pub max_length: Option<i64>,
    /// In characters.
    pub min_length: Option<i64>,
    /// What a string must match somewhere.
    pub pattern: Option<Pattern>,
    /// Most items of a list.
    pub max_items: Option<i64>,
    /// Fewest items of a list.
    pub min_items: Option<i64>,
    /// No two items of a list are equal.
    pub unique_items: bool,
    /// Most fields of an object.
    pub max_properties: Option<i64>,
    /// Fewest fields of an object.
    pub min_properties: Option<i64>,
    /// All of these hold.
    pub all_of: Vec<Schema>,
    /// At least one of these holds.
    pub any_of: Vec<Schema>,
    /// Exactly one of these holds.
    pub one_of: Vec<Schema>,
    /// This does not hold.
    pub not: Option<Box<Schema>>,
    /// Fields that the schema does not name are kept.
    #[serde(rename = "x-kubernetes-preserve-unknown-fields")]
    pub preserve_unknown: bool,
    /// A whole object with apiVersion, kind and metadata.
    #[serde(rename = "x-kubernetes-embedded-resource")]
    pub embedded: bool,
    /// An integer or a string.
    #[serde(rename = "x-kubernetes-int-or-string")]
    pub int_or_string: bool,
    /// `atomic`, `set` or `map`.
    #[serde(rename = "x-kubernetes-list-type")]
    pub list_type: Option<String>,
    /// What tells the items of a list that is a map apart.
    #[serde(rename = "x-kubernetes-list-map-keys")]
    pub list_map_keys: Vec<String>,
    /// `atomic` or `granular`.
    #[serde(rename = "x-kubernetes-map-type")]
    pub map_type: Option<String>,
    /// Rules in CEL.
    #[serde(rename = "x-kubernetes-validations")]
    pub rules: Vec<Rule>,
}

/// `additionalProperties`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Additional {
    /// Any field with any value, or none.
    Allowed(bool),
    /// Any field with such a value.
    Schema(Box<Schema>),
}

/// One of `x-kubernetes-validations`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// The expression.
    pub rule: String,
    /// What is said when it does not hold.
    pub message: String,
    /// An expression for that.
    pub message_expression: String,
    /// The reason of the error.
    pub reason: Option<String>,
    /// The field that is to blame.
    pub field_path: String,
    /// `oldSelf` is optional, and the rule holds for new objects too.
    pub optional_old_self: Option<bool>,
}

/// A regular expression, compiled when it is first needed.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// As it was written.
    pub text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// Whether the text matches somewhere; a pattern that is no expression matches nothing.
    pub fn matches(&self, text: &str) -> bool {
        self.compiled.get_or_init(|| Regex::new(&self.text).ok()).as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { text: String::deserialize(deserializer)?, compiled: OnceLock::new() })
    }
}

impl Schema {
    /// Reads the JSON of a schema.
    pub fn parse(schema: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(schema)
    }

    /// The schema of a field's value; none where the schema says nothing about it.
    pub fn of_field(&self, name: &str) -> Option<&Schema> {
        match (self.properties.get(name), &self.additional_properties) {
            (Some(property), _) => Some(property),
            (None, Some(Additional::Schema(schema))) => Some(schema),
            (None, Some(Additional::Allowed(_)) | None) => None,
        }
    }

    /// Whether items of the list are known by their keys.
    pub fn is_list_map(&self) -> bool {
        self.list_type.as_deref() == Some("map")
    }

    /// Whether null stands for a missing value.
    pub fn drops(&self, value: &Value) -> bool {
        value.is_null() && !self.nullable
    }

    /// Whether the schema or one inside has rules in CEL.
    pub fn has_rules(&self) -> bool {
        let within = |schema: &Schema| schema.has_rules();
        !self.rules.is_empty()
            || self.properties.values().any(within)
            || self.items.as_deref().is_some_and(within)
            || matches!(&self.additional_properties, Some(Additional::Schema(schema)) if schema.has_rules())
    }
}
