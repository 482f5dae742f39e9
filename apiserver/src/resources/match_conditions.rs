//! Match conditions of webhooks and policies, as they are checked when somebody writes them: [`validate`].

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::admissionregistration::v1::MatchCondition;

/// How many conditions there may be.
const MAX: usize = 64;

/// Names and expressions; `compile` says what is wrong with an expression.
pub fn validate(
    errors: &mut FieldErrors,
    path: &FieldPath,
    conditions: &[MatchCondition],
    compile: impl Fn(&str) -> Option<String>,
) {
    if conditions.len() > MAX {
        errors.push(FieldError::too_many(path, conditions.len(), MAX));
    }
    let mut seen = BTreeSet::new();
    for (i, condition) in conditions.iter().enumerate() {
        let path = path.index(i);
        let expression = condition.expression.trim();
        if expression.is_empty() {
            errors.push(FieldError::required(&path.child("expression"), ""));
        } else if let Some(why) = compile(expression) {
            errors.push(FieldError::invalid(&path.child("expression"), expression, why));
        }
        let at = path.child("name");
        if condition.name.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        errors.push_invalid(&at, &condition.name, names::qualified_name(&condition.name));
        if !seen.insert(&condition.name) {
            errors.push(FieldError::duplicate(&at, &condition.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused() {
        let condition =
            |name: &str, expression: &str| MatchCondition { name: name.into(), expression: expression.into() };
        let conditions =
            [condition("a", " "), condition("a", "true"), condition("", "wrong"), condition("x y", "true")];
        let mut errors = FieldErrors::new();
        let compile = |expression: &str| (expression == "wrong").then(|| "compilation failed".to_owned());
        validate(&mut errors, &FieldPath::root("m"), &conditions, compile);
        let found: Vec<String> = errors.iter().map(|error| error.path.as_str().to_owned()).collect();
        assert_eq!(found, ["m[0].expression", "m[1].name", "m[2].expression", "m[2].name", "m[3].name"]);
    }
}
