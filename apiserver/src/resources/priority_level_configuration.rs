//! PriorityLevelConfiguration: how many requests of a priority are answered at a time, and what happens to the others.

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath};
use k8s_openapi::api::flowcontrol::v1::{
    ExemptPriorityLevelConfiguration, LimitResponse, LimitedPriorityLevelConfiguration,
    PriorityLevelConfiguration as Object, PriorityLevelConfigurationSpec, PriorityLevelConfigurationStatus,
    QueuingConfiguration,
};
use serde_json::{Value, json};

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks};
use crate::flow_control::{objects, shuffle};

/// See the module.
pub struct PriorityLevelConfiguration;

const DEFAULT_SHARES: i32 = 30;
const DEFAULT_HAND: i32 = 8;
const DEFAULT_QUEUES: i32 = 64;
const DEFAULT_LENGTH: i32 = 50;
const MAX_QUEUES: i32 = 10_000_000;
const NOT_NEGATIVE: &str = "must be a non-negative integer";
const PERCENT: &str = "must be between 0 and 100, inclusive";

impl Kind for PriorityLevelConfiguration {
    type Object = Object;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: bool = true;

    fn set_defaults(object: &mut Object) {
        let Some(spec) = &mut object.spec else { return };
        if let Some(exempt) = &mut spec.exempt {
            exempt.nominal_concurrency_shares.get_or_insert(0);
            exempt.lendable_percent.get_or_insert(0);
        }
        if let Some(limited) = &mut spec.limited {
            limited.nominal_concurrency_shares.get_or_insert(DEFAULT_SHARES);
            limited.lendable_percent.get_or_insert(0);
            if let Some(queuing) = limited.limit_response.as_mut().and_then(|response| response.queuing.as_mut()) {
                default_number(&mut queuing.hand_size, DEFAULT_HAND);
                default_number(&mut queuing.queues, DEFAULT_QUEUES);
                default_number(&mut queuing.queue_length_limit, DEFAULT_LENGTH);
            }
        }
    }

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(PriorityLevelConfigurationStatus::default());
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
        super::flow_schema::keep_metadata(&mut new.metadata, &old.metadata);
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("spec");
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let spec = object.spec.clone().unwrap_or_default();
        check_spec(&mut errors, &path, &spec, name);
        check_mandatory(&mut errors, &path, &spec, name);
        check_conditions(&mut errors, object);
        errors
    }

    fn validate_status_update(new: &Object, _old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        check_conditions(&mut errors, new);
        errors
    }

    fn reset_fields(subresource: Option<Subresource>) -> &'static [&'static str] {
        super::flow_schema::RESET_FIELDS[usize::from(subresource.is_some())]
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text("Type", "Whether requests of this level are limited."),
            printing::text("NominalConcurrencyShares", "The level's share of the server's seats."),
            printing::text("Queues", "How many queues the level has."),
            printing::text("HandSize", "How many queues a flow may use."),
            printing::text("QueueLengthLimit", "How many requests a queue holds."),
            AGE,
        ];
        let cells = |object: &Object, now| {
            let spec = object.spec.clone().unwrap_or_default();
            let limited = spec.limited.unwrap_or_default();
            let queuing = limited.limit_response.and_then(|response| response.queuing).unwrap_or_default();
            let shown = |number: Option<i32>| number.map_or_else(|| Value::from("<none>"), Value::from);
            vec![
                printing::name(&object.metadata),
                Value::from(spec.type_),
                shown(limited.nominal_concurrency_shares),
                shown(queuing.queues),
                shown(queuing.hand_size),
                shown(queuing.queue_length_limit),
                printing::age(&object.metadata, now),
            ]
        };
        Columns { columns, cells }
    }
}

fn default_number(field: &mut Option<i32>, number: i32) {
    if field.unwrap_or_default() == 0 {
        *field = Some(number);
    }
}

fn check_spec(errors: &mut FieldErrors, path: &FieldPath, spec: &PriorityLevelConfigurationSpec, name: &str) {
    if (name == objects::EXEMPT) != (spec.type_ == "Exempt") {
        let detail = "type must be 'Exempt' if and only if name is 'exempt'";
        errors.push(FieldError::invalid(&path.child("type"), &spec.type_, detail));
    }
    match spec.type_.as_str() {
        "Exempt" => {
            if spec.limited.is_some() {
                let detail = "must be nil if the type is not Limited";
                errors.push(FieldError::forbidden(&path.child("limited"), detail));
            }
            if let Some(exempt) = &spec.exempt {
                check_exempt(errors, &path.child("exempt"), exempt);
            }
        }
        "Limited" => {
            if spec.exempt.is_some() {
                errors.push(FieldError::forbidden(&path.child("exempt"), "must be nil if the type is Limited"));
            }
            match &spec.limited {
                Some(limited) => check_limited(errors, &path.child("limited"), limited),
                None => {
                    let detail = "must not be empty when type is Limited";
                    errors.push(FieldError::required(&path.child("limited"), detail));
                }
            }
        }
        other => errors.push(checks::unsupported(&path.child("type"), other, &["Exempt", "Limited"])),
    }
}

fn check_exempt(errors: &mut FieldErrors, path: &FieldPath, exempt: &ExemptPriorityLevelConfiguration) {
    check_shares(errors, path, exempt.nominal_concurrency_shares);
    check_percent(errors, path, exempt.lendable_percent);
}

fn check_limited(errors: &mut FieldErrors, path: &FieldPath, limited: &LimitedPriorityLevelConfiguration) {
    check_shares(errors, path, limited.nominal_concurrency_shares);
    let response = limited.limit_response.clone().unwrap_or_default();
    check_response(errors, &path.child("limitResponse"), &response);
    check_percent(errors, path, limited.lendable_percent);
    if let Some(percent) = limited.borrowing_limit_percent.filter(|percent| *percent < 0) {
        let detail = "if specified, must be a non-negative integer";
        errors.push(FieldError::invalid(&path.child("borrowingLimitPercent"), percent, detail));
    }
}

fn check_shares(errors: &mut FieldErrors, path: &FieldPath, shares: Option<i32>) {
    if let Some(shares) = shares.filter(|shares| *shares < 0) {
        errors.push(FieldError::invalid(&path.child("nominalConcurrencyShares"), shares, NOT_NEGATIVE));
    }
}

fn check_percent(errors: &mut FieldErrors, path: &FieldPath, percent: Option<i32>) {
    if let Some(percent) = percent.filter(|percent| !(0..=100).contains(percent)) {
        errors.push(FieldError::invalid(&path.child("lendablePercent"), percent, PERCENT));
    }
}

fn check_response(errors: &mut FieldErrors, path: &FieldPath, response: &LimitResponse) {
    let queuing = path.child("queuing");
    match (response.type_.as_str(), &response.queuing) {
        ("Reject", Some(_)) => {
            let detail = "must be nil if limited.limitResponse.type is not Limited";
            errors.push(FieldError::forbidden(&queuing, detail));
        }
        ("Queue", None) => {
            let detail = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(FieldError::required(&queuing, detail));
        }
        ("Queue", Some(own)) => check_queuing(errors, &queuing, own),
        ("Reject", None) => {}
        (other, _) => errors.push(checks::unsupported(&path.child("type"), other, &["Queue", "Reject"])),
    }
}

fn check_queuing(errors: &mut FieldErrors, path: &FieldPath, queuing: &QueuingConfiguration) {
    const POSITIVE: &str = "must be positive";
    let (length, queues, hand) = (
        queuing.queue_length_limit.unwrap_or_default(),
        queuing.queues.unwrap_or_default(),
        queuing.hand_size.unwrap_or_default(),
    );
    if length <= 0 {
        errors.push(FieldError::invalid(&path.child("queueLengthLimit"), length, POSITIVE));
    }
    if queues <= 0 {
        errors.push(FieldError::invalid(&path.child("queues"), queues, POSITIVE));
    } else if queues > MAX_QUEUES {
        let detail = format!("must not be greater than {MAX_QUEUES}");
        errors.push(FieldError::invalid(&path.child("queues"), queues, detail));
    }
    let hand_path = path.child("handSize");
    if hand <= 0 {
        errors.push(FieldError::invalid(&hand_path, hand, POSITIVE));
    } else if hand > queues {
        let detail = format!("should not be greater than queues ({queues})");
        errors.push(FieldError::invalid(&hand_path, hand, detail));
    } else if shuffle::required_bits(number(queues), number(hand)) > shuffle::MAX_BITS {
        let most = shuffle::MAX_BITS;
        let detail =
            format!("required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {most}");
        errors.push(FieldError::invalid(&hand_path, hand, detail));
    }
}

fn number(value: i32) -> usize {
    usize::try_from(value).unwrap_or_default()
}

/// The specs of mandatory levels are fixed, except for what `exempt` lends.
fn check_mandatory(errors: &mut FieldErrors, path: &FieldPath, spec: &PriorityLevelConfigurationSpec, name: &str) {
    let levels = objects::levels();
    let fixed = levels.into_iter().filter(|level| level.mandatory).map(|level| level.object);
    let Some(fixed) = fixed.into_iter().find(|level| level.metadata.name.as_deref() == Some(name)) else { return };
    let mut fixed = fixed.spec.unwrap_or_default();
    let mut own = spec.clone();
    let mut detail = format!("spec of '{name}' must equal the fixed value");
    if name == objects::EXEMPT {
        (fixed.exempt, own.exempt) = (None, None);
        detail = format!("spec of '{name}' except the 'spec.exempt' field must equal the fixed value");
    }
    if own != fixed {
        let detail = format!("{}: {detail}", internal_form(spec));
        errors.push(FieldError { kind: FieldErrorKind::Invalid, path: path.clone(), value: None, detail });
    }
}

/// Upstream shows its internal struct, in its own order of fields.
fn internal_form(spec: &PriorityLevelConfigurationSpec) -> String {
    let limited = spec.limited.as_ref().map(|limited| {
        let response = limited.limit_response.clone().unwrap_or_default();
        let queuing = response.queuing.map(|queuing| {
            let (queues, hand, length) = (queuing.queues, queuing.hand_size, queuing.queue_length_limit);
            let (queues, hand, length) = (json!(queues), json!(hand), json!(length));
            format!("{{\"Queues\":{queues},\"HandSize\":{hand},\"QueueLengthLimit\":{length}}}")
        });
        format!(
            "{{\"NominalConcurrencyShares\":{},\"LimitResponse\":{{\"Type\":{},\"Queuing\":{}}},\"LendablePercent\":{},\"BorrowingLimitPercent\":{}}}",
            json!(limited.nominal_concurrency_shares),
            json!(response.type_),
            or_null(queuing),
            json!(limited.lendable_percent),
            json!(limited.borrowing_limit_percent)
        )
    });
    let exempt = spec.exempt.as_ref().map(|exempt| {
        let (shares, percent) = (json!(exempt.nominal_concurrency_shares), json!(exempt.lendable_percent));
        format!("{{\"NominalConcurrencyShares\":{shares},\"LendablePercent\":{percent}}}")
    });
    format!("{{\"Type\":{},\"Limited\":{},\"Exempt\":{}}}", json!(spec.type_), or_null(limited), or_null(exempt))
}

fn or_null(text: Option<String>) -> String {
    text.unwrap_or_else(|| "null".to_owned())
}

fn check_conditions(errors: &mut FieldErrors, object: &Object) {
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let types = conditions.iter().map(|condition| condition.type_.as_deref().unwrap_or_default());
    super::flow_schema::check_condition_types(errors, types);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, spec: Value) -> String {
        let value = json!({"metadata": {"name": name}, "spec": spec});
        let mut object: Object = serde_json::from_value(value).expect("a priority level");
        PriorityLevelConfiguration::set_defaults(&mut object);
        PriorityLevelConfiguration::validate(&object).to_string()
    }

    #[test]
    fn what_is_refused() {
        let queue = |queuing: Value| json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": queuing}}});
        let table = [
            ("a", queue(json!({})), "[]"),
            (
                "a",
                json!({"type": "Exempt"}),
                "spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'",
            ),
            (
                "a",
                json!({"type": "Limited", "exempt": {}}),
                "[spec.exempt: Forbidden: must be nil if the type is Limited, spec.limited: Required value: must not be empty when type is Limited]",
            ),
            (
                "a",
                json!({"type": "Limited", "limited": {"limitResponse": {"type": "Reject", "queuing": {}}}}),
                "spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited",
            ),
            (
                "a",
                json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue"}, "lendablePercent": 101, "borrowingLimitPercent": -1, "nominalConcurrencyShares": -1}}),
                "[spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer, spec.limited.limitResponse.queuing: Required value: must not be empty if limited.limitResponse.type is Limited, spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive, spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer]",
            ),
            (
                "a",
                queue(json!({"queues": 4})),
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 8: should not be greater than queues (4)",
            ),
            (
                "a",
                queue(json!({"queues": 512, "handSize": 8})),
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 8: required entropy bits of deckSize 512 and handSize 8 should not be greater than 60",
            ),
            (
                "a",
                queue(json!({"queues": -1, "handSize": -1, "queueLengthLimit": -1})),
                "[spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: -1: must be positive, spec.limited.limitResponse.queuing.queues: Invalid value: -1: must be positive, spec.limited.limitResponse.queuing.handSize: Invalid value: -1: must be positive]",
            ),
            ("exempt", json!({"type": "Exempt", "exempt": {"lendablePercent": 10}}), "[]"),
            (
                "catch-all",
                json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 42, "limitResponse": {"type": "Reject"}}}),
                "spec: Invalid value: {\"Type\":\"Limited\",\"Limited\":{\"NominalConcurrencyShares\":42,\"LimitResponse\":{\"Type\":\"Reject\",\"Queuing\":null},\"LendablePercent\":0,\"BorrowingLimitPercent\":null},\"Exempt\":null}: spec of 'catch-all' must equal the fixed value",
            ),
        ];
        for (name, spec, message) in table {
            assert_eq!(found(name, spec.clone()), message, "{spec}");
        }
    }

    #[test]
    fn the_servers_own_levels_are_valid_and_complete() {
        for given in objects::levels() {
            let mut object = given.object.clone();
            PriorityLevelConfiguration::set_defaults(&mut object);
            assert_eq!(object, given.object, "defaults add nothing");
            assert_eq!(PriorityLevelConfiguration::validate(&object).to_string(), "[]");
        }
    }
}
