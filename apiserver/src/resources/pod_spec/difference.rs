//! What changed between two specs, for the message that refuses an update.

use k8s_openapi::api::core::v1::PodSpec;

/// The changed lines, removed ones with `-`, added ones with `+`.
pub fn difference(old: &PodSpec, new: &PodSpec) -> String {
    let lines = |spec: &PodSpec| {
        serde_json::to_string_pretty(spec).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (old, new) = (lines(old), lines(new));
    let removed = old.iter().filter(|line| !new.contains(line)).map(|line| format!("-{line}\n"));
    let added = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+{line}\n"));
    removed.chain(added).collect()
}
