//! How a command fails: what it prints and its exit code, worded as the official kubectl words it.

use kube::core::Status;

/// The one error type of all commands.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something about the arguments or the input.
    #[error("error: {0}")]
    Usage(String),
    /// The server said no.
    #[error("{}", describe(.0))]
    Api(Box<Status>),
    /// The server can't be reached.
    #[error("{0}")]
    Connection(String),
    /// A text that stands for itself.
    #[error("{0}")]
    Plain(String),
    /// The exit code says it.
    #[error("")]
    Silent,
    /// The command in the container ended with this code.
    #[error("command terminated with exit code {0}")]
    Command(u8),
    /// A program that was asked ended with this code.
    #[error("error: {name} ended with exit code {code}")]
    Program {
        /// Which.
        name: String,
        /// Its code.
        code: u8,
    },
    /// Several things failed, each in its own line.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<Failure>),
}

/// Short for results of commands.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A usage error.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// Prints to standard error.
    pub fn print(&self) {
        if !matches!(self, Self::Silent) {
            eprintln!("{self}");
        }
    }

    /// 1, or the code of the command in the container.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Command(code) | Self::Program { code, .. } => *code,
            Self::Usage(_) | Self::Api(_) | Self::Connection(_) | Self::Plain(_) | Self::Silent | Self::Several(_) => 1,
        }
    }

    /// Whether the server answered 404.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api(status) if status.code == 404)
    }

    /// Whether the server answered 409 Conflict.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(status) if status.reason == "Conflict")
    }

    /// Puts where it happened before a server's message, as `error when creating "file"` does.
    pub fn when(self, doing: &str) -> Self {
        match self {
            Self::Api(mut status) => {
                let text = describe(&status);
                let (prefix, message) = text.split_once(": ").unwrap_or(("Error from server", &text));
                status.message = format!("{prefix}: {doing}: {message}");
                status.reason = ALREADY_WORDED.to_owned();
                Self::Api(status)
            }
            other => other,
        }
    }

    /// One failure of many; None if there is none.
    pub fn join(mut failures: Vec<Self>) -> Result<()> {
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => Err(Self::Several(failures)),
        }
    }
}

/// Marks a status whose message is already a whole line.
const ALREADY_WORDED: &str = "\u{0}";

fn describe(status: &Status) -> String {
    match status.reason.as_str() {
        ALREADY_WORDED => status.message.clone(),
        "Invalid" => invalid(status),
        "Unauthorized" => "error: You must be logged in to the server (Unauthorized)".to_owned(),
        "" => format!("Error from server: {}", status.message),
        reason => format!("Error from server ({reason}): {}", status.message),
    }
}

/// `The Pod "x" is invalid: field: message`, one line for each cause when there are several.
fn invalid(status: &Status) -> String {
    let Some(details) = status.details.as_ref().filter(|details| !details.causes.is_empty()) else {
        return format!("The request is invalid: {}", status.message);
    };
    let head = format!("The {} \"{}\" is invalid", details.kind, details.name);
    let mut causes: Vec<String> =
        details
            .causes
            .iter()
            .map(|cause| {
                if cause.field.is_empty() {
                    cause.message.clone()
                } else {
                    format!("{}: {}", cause.field, cause.message)
                }
            })
            .collect();
    let mut seen = std::collections::BTreeSet::new();
    causes.retain(|cause| seen.insert(cause.clone()));
    match causes.as_slice() {
        [one] => format!("{head}: {one}"),
        many => format!("{head}: {}", many.iter().map(|cause| format!("\n* {cause}")).collect::<String>()),
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Api(worded(status)),
            error => Self::Connection(connection(&error)),
        }
    }
}

/// An answer that is no Status gets the words of its code.
fn worded(mut status: Box<Status>) -> Box<Status> {
    if status.reason == "Failed to parse error data" {
        (status.reason, status.message) = match status.code {
            404 => ("NotFound".to_owned(), "the server could not find the requested resource".to_owned()),
            code => {
                let message =
                    format!("the server responded with the status code {code} but did not return more information");
                (String::new(), message)
            }
        };
    }
    status
}

/// The innermost reason, in kubectl's words where it has some.
fn connection(error: &kube::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let text = deepest.to_string();
    match text.to_lowercase().contains("connection refused") {
        true => "The connection to the server was refused - did you specify the right host or port?".to_owned(),
        false => format!("Unable to connect to the server: {text}"),
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<serde_yaml::Error> for Failure {
    fn from(error: serde_yaml::Error) -> Self {
        Self::Usage(error.to_string())
    }
}
