//! The kinds that are created, answered and never stored: questions, and the order to bind a pod to a node.

use api::field::FieldErrors;
use k8s_openapi::api::{authentication::v1 as authentication, authorization::v1 as authorization, core::v1 as core};

use super::{Columns, Kind, printing};

/// A kind that has nothing but its type.
macro_rules! review {
    ($(#[$doc:meta] $name:ident: $object:ty;)*) => {
        $(
            #[$doc]
            pub struct $name;

            impl Kind for $name {
                type Object = $object;
                const STORED: bool = false;
                const DELETE_COLLECTION: bool = false;

                fn validate(_: &$object) -> FieldErrors {
                    FieldErrors::new()
                }

                fn columns() -> Columns<$object> {
                    printing::no_table()
                }
            }
        )*
    };
}

review! {
    /// A scheduler names the node of a pod; the oldest form of `pods/binding`.
    Binding: core::Binding;
    /// Whose token is this?
    TokenReview: authentication::TokenReview;
    /// Who am I?
    SelfSubjectReview: authentication::SelfSubjectReview;
    /// May someone do this?
    SubjectAccessReview: authorization::SubjectAccessReview;
    /// May someone do this in that namespace?
    LocalSubjectAccessReview: authorization::LocalSubjectAccessReview;
    /// May I do this?
    SelfSubjectAccessReview: authorization::SelfSubjectAccessReview;
    /// What may I do in that namespace?
    SelfSubjectRulesReview: authorization::SelfSubjectRulesReview;
}
