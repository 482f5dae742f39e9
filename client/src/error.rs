//! What can go wrong between a component and the API.

use std::path::PathBuf;

use api::ApiError;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API answered with a failure: nothing was done.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No answer came, or none that can be read: a write may have been done or not.
    #[error("calling the API: {0}")]
    Unanswered(Box<kube::Error>),
    /// The kubeconfig cannot be used.
    #[error("reading the kubeconfig {path}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<kube::config::KubeconfigError>,
    },
    /// A decision could not be made from what was observed; trying again later may help.
    #[error("{0}")]
    Undecided(String),
}

impl Error {
    /// The API's answer, if there was one.
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Api(error) => Some(error),
            Self::Unanswered(_) | Self::Kubeconfig { .. } | Self::Undecided(_) => None,
        }
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.api().is_some_and(ApiError::is_not_found)
    }

    /// Whether a precondition failed: observe again and plan anew.
    pub fn is_conflict(&self) -> bool {
        self.api().is_some_and(ApiError::is_conflict)
    }

    /// Whether an object of the name exists already.
    pub fn is_already_exists(&self) -> bool {
        self.api().is_some_and(ApiError::is_already_exists)
    }

    /// Whether the namespace refuses new objects because it is being deleted.
    pub fn is_namespace_terminating(&self) -> bool {
        self.api().is_some_and(|e| e.has_cause(api::well_known::reasons::NAMESPACE_TERMINATING))
    }

    /// Whether a list or watch must start anew.
    pub fn is_expired(&self) -> bool {
        self.api().is_some_and(ApiError::is_expired)
    }

    /// Whether a write may have been done although it failed here. A timeout of the server counts: it gave up waiting.
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Unanswered(_) => true,
            Self::Api(error) => error.code == 504 || (error.code == 500 && error.reason == "Timeout"),
            Self::Kubeconfig { .. } | Self::Undecided(_) => false,
        }
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Api(from_kube_status(&status)),
            other => Self::Unanswered(Box::new(other)),
        }
    }
}

/// kube has a Status type of its own; ours keeps every field of the API.
pub fn from_kube_status(status: &kube::core::Status) -> ApiError {
    let full = serde_json::to_value(status).and_then(serde_json::from_value::<Status>);
    match full {
        Ok(status) => ApiError::from_status(&status),
        Err(_) => ApiError {
            code: status.code,
            reason: status.reason.clone(),
            message: status.message.clone(),
            details: None,
        },
    }
}
