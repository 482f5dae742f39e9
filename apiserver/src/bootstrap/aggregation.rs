//! Aggregated ClusterRoles: their rules are those of the roles that their selectors name. Upstream's controller for this runs in
//! the controller-manager; ours is here, so that admin, edit and view work before any other component does.
//!
//! Entry point: [`aggregate`], asked again whenever a ClusterRole changes; [`plan`] is pure and finds the end of chains (view is
//! part of edit, edit of admin) in one step.

use api::error::ApiError;
use api::selector::LabelSelector;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};

use super::writer::Writer;
use crate::authz::rbac::GROUP;
use crate::cache::Selection;
use crate::view::prefix;

/// Writes the rules that are not what they should be.
pub(super) async fn aggregate(writer: &Writer) -> Result<(), ApiError> {
    let Some(resource) = writer.server.cache.resource(&prefix(GROUP, "clusterroles", "")) else { return Ok(()) };
    let snapshot = resource.snapshot();
    let everything = Selection::everything();
    let roles =
        snapshot.select(&everything, None).filter_map(|entry| serde_json::from_slice(&entry.json()).ok()).collect();
    for role in plan(roles) {
        match writer.replace(role).await {
            // The change that was in the way wakes us again.
            Err(error) if error.is_conflict() || error.is_not_found() => {}
            done => done?,
        }
    }
    Ok(())
}

/// The aggregated roles whose rules must change, with their new rules. Roles come in the order of their names.
fn plan(mut roles: Vec<ClusterRole>) -> Vec<ClusterRole> {
    let mut changed = std::collections::BTreeSet::new();
    // A chain is at most as long as there are roles.
    for _ in 0..roles.len() {
        let mut settled = true;
        for i in 0..roles.len() {
            let Some(rules) = collected(&roles, i) else { continue };
            if roles[i].rules.as_deref().unwrap_or_default() != rules {
                roles[i].rules = Some(rules);
                changed.insert(i);
                settled = false;
            }
        }
        if settled {
            break;
        }
    }
    changed.into_iter().map(|i| roles[i].clone()).collect()
}

fn collected(roles: &[ClusterRole], of: usize) -> Option<Vec<PolicyRule>> {
    let aggregation = roles[of].aggregation_rule.as_ref()?;
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in aggregation.cluster_role_selectors.iter().flatten() {
        let Ok(selector) = LabelSelector::from_meta(selector) else { continue };
        let empty = std::collections::BTreeMap::new();
        let selected = roles
            .iter()
            .enumerate()
            .filter(|(i, role)| *i != of && selector.matches(role.metadata.labels.as_ref().unwrap_or(&empty)));
        for rule in selected.flat_map(|(_, role)| role.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn chains_end_in_one_step_and_then_stay() {
        let role = |name: &str, into: &str, from: &str, resource: &str| {
            let rules = if resource.is_empty() {
                json!(null)
            } else {
                json!([{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}])
            };
            let selector = json!({"clusterRoleSelectors": [{"matchLabels": {"to": from}}]});
            let aggregation = if from.is_empty() { json!(null) } else { selector };
            let value = json!({"metadata": {"name": name, "labels": {"to": into}}, "rules": rules, "aggregationRule": aggregation});
            serde_json::from_value::<ClusterRole>(value).expect("a role")
        };
        let mut roles = vec![
            role("admin", "", "admin", ""),
            role("edit", "admin", "edit", ""),
            role("view", "edit", "view", ""),
            role("x", "view", "", "pods"),
            role("y", "edit", "", "secrets"),
        ];
        let planned = plan(roles.clone());
        let shown: Vec<_> = planned
            .iter()
            .map(|role| (role.metadata.name.as_deref().unwrap(), role.rules.as_ref().unwrap().len()))
            .collect();
        assert_eq!(shown, [("admin", 2), ("edit", 2), ("view", 1)]);
        for role in planned {
            let at = roles.iter().position(|known| known.metadata.name == role.metadata.name).unwrap();
            roles[at] = role;
        }
        assert_eq!(plan(roles.clone()), Vec::new());
        roles.pop();
        assert_eq!(plan(roles).len(), 2, "what is gone is gone from admin and edit");
    }
}
