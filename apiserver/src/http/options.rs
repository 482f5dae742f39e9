//! The options that a query or a body carries: for lists and watches, for writes, for deletes.
//!
//! Each `parse` answers 400 for what can't be read and upstream's 422 for what makes no sense.

use api::field::{FieldError, FieldErrorKind, go_quote};
use api::{ApiError, FieldErrors, FieldPath, FieldSelector, GroupKind, LabelSelector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions as WireDeleteOptions;
use serde_json::Value;

use super::query::Query;
use crate::resources::Strategy;

const META_GROUP: &str = "meta.k8s.io";
const FIELD_MANAGER_MAX: usize = 128;

/// How a resourceVersion of a list is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    /// Any state that is not older.
    NotOlderThan,
    /// Exactly that state.
    Exact,
}

/// What a list or watch asks for.
#[derive(Clone, Debug)]
pub struct ListOptions {
    /// Which labels.
    pub labels: LabelSelector,
    /// Which fields.
    pub fields: FieldSelector,
    /// Bookmarks are welcome.
    pub bookmarks: bool,
    /// Whether a watch begins with the current objects.
    pub send_initial_events: Option<bool>,
    /// As given; may be empty.
    pub resource_version: String,
    /// How it is meant.
    pub version_match: Option<VersionMatch>,
    /// 0 is all.
    pub limit: usize,
    /// The token of the page before; may be empty.
    pub page: String,
    /// When a watch ends.
    pub timeout_seconds: Option<u64>,
}

impl ListOptions {
    /// Reads a query; `watch` says which rules hold.
    pub fn parse(query: &Query, watch: bool, strategy: &dyn Strategy) -> Result<Self, ApiError> {
        let limit = query.integer("limit")?.unwrap_or(0);
        let timeout_seconds = query.integer("timeoutSeconds")?.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
        let parse_error = |error: api::selector::SelectorError| ApiError::bad_request(error.to_string());
        let labels = LabelSelector::parse(query.text("labelSelector")).map_err(parse_error)?;
        let fields = FieldSelector::parse(query.text("fieldSelector")).map_err(parse_error)?;
        let send_initial_events = query.optional_boolean("sendInitialEvents");
        let errors =
            if watch { watch_errors(query, send_initial_events) } else { list_errors(query, send_initial_events) };
        options_error("ListOptions", errors)?;
        check_fields(&fields, strategy)?;
        let version_match = match query.text("resourceVersionMatch") {
            "Exact" => Some(VersionMatch::Exact),
            "NotOlderThan" => Some(VersionMatch::NotOlderThan),
            _ => None,
        };
        Ok(Self {
            labels,
            fields,
            bookmarks: query.boolean("allowWatchBookmarks"),
            send_initial_events,
            resource_version: query.text("resourceVersion").to_owned(),
            version_match,
            limit: usize::try_from(limit).unwrap_or(0),
            page: query.text("continue").to_owned(),
            timeout_seconds,
        })
    }
}

fn list_errors(query: &Query, send_initial_events: Option<bool>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = FieldPath::root("resourceVersionMatch");
    let (wanted, version) = (query.text("resourceVersionMatch"), query.text("resourceVersion"));
    if !wanted.is_empty() {
        if version.is_empty() {
            errors.push(FieldError::forbidden(
                &path,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if !query.text("continue").is_empty() {
            errors.push(FieldError::forbidden(&path, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if !matches!(wanted, "Exact" | "NotOlderThan") {
            errors.push(not_supported(&path, wanted, &["Exact", "NotOlderThan", ""]));
        }
        if wanted == "Exact" && version == "0" {
            let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    if send_initial_events.is_some() {
        let path = FieldPath::root("sendInitialEvents");
        errors.push(FieldError::forbidden(&path, "sendInitialEvents is forbidden for list"));
    }
    errors
}

fn watch_errors(query: &Query, send_initial_events: Option<bool>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = FieldPath::root("resourceVersionMatch");
    let wanted = query.text("resourceVersionMatch");
    if send_initial_events.is_some() && wanted != "NotOlderThan" {
        let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(FieldError::forbidden(&path, detail));
    }
    if !wanted.is_empty() {
        if send_initial_events.is_none() {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(&path, detail));
        }
        if wanted != "NotOlderThan" {
            errors.push(not_supported(&path, wanted, &["NotOlderThan"]));
        }
    }
    if !query.text("continue").is_empty() {
        errors.push(FieldError::forbidden(&path, "resourceVersionMatch is forbidden when continue is provided"));
    }
    errors
}

/// Refuses field selectors that the kind does not know.
fn check_fields(fields: &FieldSelector, strategy: &dyn Strategy) -> Result<(), ApiError> {
    let info = strategy.info();
    for requirement in fields.requirements() {
        let field = requirement.field.as_str();
        let known = field == "metadata.name"
            || (field == "metadata.namespace" && (info.namespaced || (!info.custom && info.fields.is_empty())))
            || info.fields.iter().any(|known| known.name == field);
        if !known {
            return Err(ApiError::bad_request(if info.fields.is_empty() && !info.custom {
                format!(
                    "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                    go_quote(field)
                )
            } else {
                strategy.unknown_field(field)
            }));
        }
    }
    Ok(())
}

/// What to do about fields that the kind does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them.
    Ignore,
    /// Drop them and warn.
    Warn,
    /// Refuse the object.
    Strict,
}

/// What a create, update or patch asks for.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Store nothing.
    pub dry_run: bool,
    /// Who owns the fields that are written.
    pub field_manager: String,
    /// See [`FieldValidation`].
    pub field_validation: FieldValidation,
    /// Apply takes fields away from other managers.
    pub force: bool,
    /// The query names the manager.
    pub manager_given: bool,
    /// The query says how to validate.
    pub validation_given: bool,
}

impl WriteOptions {
    /// Reads a query. `kind` is CreateOptions, UpdateOptions or PatchOptions; `user_agent` names the manager if the query does not.
    pub fn parse(query: &Query, kind: &str, apply: bool, user_agent: &str) -> Result<Self, ApiError> {
        let mut errors = FieldErrors::new();
        let manager = query.text("fieldManager");
        if kind == "PatchOptions" {
            if apply && manager.is_empty() {
                errors.push(FieldError::required(&FieldPath::root("fieldManager"), "is required for apply patch"));
            }
            if !apply && query.first("force").is_some() {
                errors
                    .push(FieldError::forbidden(&FieldPath::root("force"), "may not be specified for non-apply patch"));
            }
        }
        check_manager(manager, &mut errors);
        check_dry_run(&query.all("dryRun"), &mut errors);
        let field_validation = match query.text("fieldValidation") {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let path = FieldPath::root("fieldValidation");
                errors.push(FieldError::not_supported(&path, other, &["", "Ignore", "Strict", "Warn"]));
                FieldValidation::Strict
            }
        };
        options_error(kind, errors)?;
        let field_manager = if manager.is_empty() { manager_of(user_agent) } else { manager.to_owned() };
        Ok(Self {
            dry_run: query.first("dryRun").is_some(),
            field_manager,
            field_validation,
            force: query.boolean("force"),
            manager_given: !manager.is_empty(),
            validation_given: !query.text("fieldValidation").is_empty(),
        })
    }
}

/// The part of a user agent before the first slash.
fn manager_of(user_agent: &str) -> String {
    let name: String = user_agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let mut end = name.len().min(FIELD_MANAGER_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

fn check_manager(manager: &str, errors: &mut FieldErrors) {
    let path = FieldPath::root("fieldManager");
    if manager.len() > FIELD_MANAGER_MAX {
        errors.push(FieldError::too_long(&path, FIELD_MANAGER_MAX));
    }
    if let Some((at, c)) = manager.char_indices().find(|(_, c)| c.is_control()) {
        let detail = format!("invalid character U+{:04X} (at position {at})", c as u32);
        errors.push(FieldError::invalid(&path, manager, detail));
    }
}

fn check_dry_run(values: &[String], errors: &mut FieldErrors) {
    if values.iter().any(|value| value != "All") {
        errors.push(FieldError::not_supported(&FieldPath::root("dryRun"), values, &["All"]));
    }
}

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are collected after it.
    Background,
    /// They go first.
    Foreground,
    /// They stay.
    Orphan,
}

/// What a delete asks for.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Delete nothing.
    pub dry_run: bool,
    /// Seconds; negative ones count as 1.
    pub grace_period: Option<i64>,
    /// What becomes of the dependents; none is the kind's default.
    pub propagation: Option<Propagation>,
    /// The deprecated `orphanDependents: false` was given.
    pub orphan_dependents_false: bool,
    /// The object must have this uid.
    pub uid: Option<String>,
    /// The object must have this version.
    pub resource_version: Option<String>,
    /// All of it as the client said it.
    pub given: WireDeleteOptions,
}

impl DeleteOptions {
    /// Reads the body's options if there are any, else the query's.
    pub fn parse(body: Option<Value>, query: &Query) -> Result<Self, ApiError> {
        let wire = match body {
            Some(body) => serde_json::from_value::<WireDeleteOptions>(body)
                .map_err(|error| ApiError::bad_request(format!("DeleteOptions cannot be decoded: json: {error}")))?,
            None => WireDeleteOptions {
                dry_run: query.first("dryRun").map(|_| query.all("dryRun")),
                grace_period_seconds: query.integer("gracePeriodSeconds")?,
                orphan_dependents: query.optional_boolean("orphanDependents"),
                propagation_policy: query.first("propagationPolicy").map(str::to_owned),
                ..WireDeleteOptions::default()
            },
        };
        Self::check(&wire)?;
        Ok(Self::from_wire(wire))
    }

    /// What an eviction says of the delete that it comes to, which nobody checks. `asked` is `dryRun` in the request itself.
    pub fn of_eviction(wire: Option<WireDeleteOptions>, asked: Vec<String>) -> Result<Self, ApiError> {
        let mut wire = wire.unwrap_or_default();
        let said = wire.dry_run.get_or_insert_default();
        if said.is_empty() {
            *said = asked;
        } else if !asked.is_empty() && *said != asked {
            let (asked, said) = (asked.join(" "), said.join(" "));
            let message = format!("Non-matching dry-run options in request and content: [{asked}] and [{said}]");
            return Err(ApiError::unclassified(message));
        }
        Ok(Self::from_wire(wire))
    }

    fn check(wire: &WireDeleteOptions) -> Result<(), ApiError> {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("propagationPolicy");
        let policy = wire.propagation_policy.as_deref();
        if let (Some(policy), Some(_)) = (policy, wire.orphan_dependents) {
            errors.push(FieldError::invalid(
                &path,
                policy,
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        if let Some(other) = policy.filter(|policy| propagation(policy).is_none()) {
            errors.push(not_supported(&path, other, &["Foreground", "Background", "Orphan", "nil"]));
        }
        check_dry_run(wire.dry_run.as_deref().unwrap_or_default(), &mut errors);
        options_error("DeleteOptions", errors)
    }

    fn from_wire(wire: WireDeleteOptions) -> Self {
        let orphan = |orphan| if orphan { Propagation::Orphan } else { Propagation::Background };
        let propagation = wire.propagation_policy.as_deref().and_then(propagation);
        let propagation = propagation.or_else(|| wire.orphan_dependents.map(orphan));
        let given = wire.clone();
        let preconditions = wire.preconditions.unwrap_or_default();
        Self {
            dry_run: wire.dry_run.is_some_and(|values| !values.is_empty()),
            grace_period: wire.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds }),
            propagation,
            orphan_dependents_false: wire.orphan_dependents == Some(false),
            uid: preconditions.uid,
            resource_version: preconditions.resource_version,
            given,
        }
    }
}

fn propagation(policy: &str) -> Option<Propagation> {
    match policy {
        "Background" => Some(Propagation::Background),
        "Foreground" => Some(Propagation::Foreground),
        "Orphan" => Some(Propagation::Orphan),
        _ => None,
    }
}

/// The options of a request, as others are told of them.
#[derive(Clone, Copy, Debug, Default)]
pub enum Options<'a> {
    /// None: proxies and streams, and what the server does on its own.
    #[default]
    None,
    /// Of a create, an update or a patch.
    Write(&'a WriteOptions),
    /// Of a delete.
    Delete(&'a DeleteOptions),
}

impl Options<'_> {
    /// As an object; a patch's options count as those of the create or update that it comes to.
    pub fn to_value(self, creates: bool) -> Value {
        let (kind, mut fields) = match self {
            Self::None => return Value::Null,
            Self::Write(options) => (if creates { "CreateOptions" } else { "UpdateOptions" }, options.fields()),
            Self::Delete(options) => {
                let fields = serde_json::to_value(&options.given).unwrap_or_default();
                ("DeleteOptions", fields.as_object().cloned().unwrap_or_default())
            }
        };
        fields.insert("kind".to_owned(), kind.into());
        fields.insert("apiVersion".to_owned(), "meta.k8s.io/v1".into());
        Value::Object(fields)
    }
}

impl WriteOptions {
    fn fields(&self) -> serde_json::Map<String, Value> {
        let mut fields = serde_json::Map::new();
        if self.dry_run {
            fields.insert("dryRun".to_owned(), vec!["All"].into());
        }
        if self.manager_given {
            fields.insert("fieldManager".to_owned(), self.field_manager.as_str().into());
        }
        if self.validation_given {
            fields.insert("fieldValidation".to_owned(), format!("{:?}", self.field_validation).into());
        }
        fields
    }
}

/// `Unsupported value` with the supported values in the order given.
fn not_supported(path: &FieldPath, value: &str, supported: &[&str]) -> FieldError {
    let supported: Vec<_> = supported.iter().map(|value| go_quote(value)).collect();
    FieldError {
        kind: FieldErrorKind::NotSupported,
        path: path.clone(),
        value: Some(value.into()),
        detail: format!("supported values: {}", supported.join(", ")),
    }
}

fn options_error(kind: &str, errors: FieldErrors) -> Result<(), ApiError> {
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid(&GroupKind::new(META_GROUP, kind), "", errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(query: &str, kind: &str) -> String {
        match WriteOptions::parse(&Query::parse(query), kind, false, "kubectl/v1.32") {
            Ok(options) => options.field_manager,
            Err(error) => error.message,
        }
    }

    #[test]
    fn write_options_are_checked_in_upstreams_words() {
        assert_eq!(message("", "CreateOptions"), "kubectl");
        assert_eq!(message("fieldManager=m", "CreateOptions"), "m");
        assert_eq!(
            message("dryRun=Some", "CreateOptions"),
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\""
        );
        assert_eq!(
            message("fieldManager=%07", "UpdateOptions"),
            "UpdateOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"\\a\": invalid character U+0007 (at position 0)"
        );
        assert!(message("force=true", "PatchOptions").contains("may not be specified for non-apply patch"));
    }

    #[test]
    fn delete_options_come_from_body_or_query() {
        let query = Query::parse("gracePeriodSeconds=-1&propagationPolicy=Orphan");
        let options = DeleteOptions::parse(None, &query).unwrap();
        assert_eq!((options.grace_period, options.propagation), (Some(1), Some(Propagation::Orphan)));
        let body = serde_json::json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "u"}, "nothing": 1});
        let options = DeleteOptions::parse(Some(body), &query).unwrap();
        assert_eq!((options.uid.as_deref(), options.propagation), (Some("u"), None));
        let error = DeleteOptions::parse(None, &Query::parse("propagationPolicy=Sideways")).unwrap_err();
        assert!(
            error.message.ends_with("supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""),
            "{}",
            error.message
        );
    }
}
