//! Everything that is wrong with an object of a defined kind, in upstream's order: its type, the schema, replicas, embedded objects,
//! repetitions in lists, rules. Entry point: [`CustomResource::errors`].

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath};
use serde_json::Value;

use super::instance::Instance;
use super::{CustomResource, check, embedded, list_type};
use crate::object::Object;

const UNCHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

/// What a write is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The object.
    Whole,
    /// Its status.
    Status,
}

impl CustomResource {
    /// See the module; `old` is the object before an update.
    pub(super) fn errors(&self, new: &Instance, old: Option<&Instance>, part: Part) -> FieldErrors {
        let errors = self.type_errors(new);
        if !errors.is_empty() {
            return errors;
        }
        let (value, old) = (new.to_value(), old.map(Object::to_value));
        let mut errors = check::check(&self.schema, &value, old.as_ref());
        if let Some(scale) = &self.scale {
            if part == Part::Whole {
                errors.extend(scale.check_spec(&value));
            }
            errors.extend(scale.check_status(&value));
        }
        if part == Part::Whole {
            errors.extend(embedded::check(&value, &self.schema));
        }
        if old.as_ref().is_none_or(|old| list_type::check(old, &self.schema).is_empty()) {
            errors.extend(list_type::check(&value, &self.schema));
        }
        match &self.rules {
            Some(_) if blocks_rules(&errors) => {
                errors.push(FieldError::invalid(&FieldPath::nil(), Value::Null, UNCHECKED));
            }
            Some(rules) => errors.extend(rules.check(&value, old.as_ref())),
            None => {}
        }
        errors
    }

    fn type_errors(&self, object: &Instance) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if object.kind() != self.info.kind {
            let detail = format!("must be {}", self.info.kind);
            errors.push(FieldError::invalid(&FieldPath::root("kind"), object.kind(), detail));
        }
        let own = self.info.api_version();
        if object.api_version() != own {
            let detail = format!("must be {own}");
            errors.push(FieldError::invalid(&FieldPath::root("apiVersion"), object.api_version(), detail));
        }
        errors
    }
}

/// Errors after which rules can't be expected to make sense.
fn blocks_rules(errors: &FieldErrors) -> bool {
    use FieldErrorKind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
    errors.iter().any(|error| matches!(error.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid))
}
