//! The vocabulary that every component shares: names, errors, selectors, quantities, and the rules about pods,
//! owners and conditions that more than one component must agree on.
//!
//! Invariant: nothing here does I/O, reads a clock or knows an async runtime. Time is always an argument.

pub mod conditions;
pub mod error;
pub mod field;
pub mod jsonpath;
pub mod names;
pub mod owners;
pub mod pods;
pub mod quantity;
pub mod quota;
pub mod selector;
pub mod well_known;

pub use error::ApiError;
pub use field::{FieldError, FieldErrors, FieldPath};
pub use names::{GroupKind, GroupResource, GroupVersionResource, ObjectKey, Revision};
pub use quantity::Quantity;
pub use selector::{FieldSelector, LabelSelector};
