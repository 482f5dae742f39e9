//! `kubectl describe rc`.

use serde_json::Value;

use super::Related;
use super::page::{Page, selector};
use super::pod::{containers, volumes};

/// Adds the page.
pub fn describe(page: &mut Page, object: &Value, related: &Related) {
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    page.field(0, "Name", metadata["name"].as_str().unwrap_or_default());
    page.field(0, "Namespace", metadata["namespace"].as_str().unwrap_or_default());
    page.field(0, "Selector", selector(&spec["selector"]));
    page.map("Labels", &metadata["labels"], "=");
    page.map("Annotations", &metadata["annotations"], ": ");
    page.field(
        0,
        "Replicas",
        format!(
            "{} current / {} desired",
            status["replicas"].as_i64().unwrap_or(0),
            spec["replicas"].as_i64().unwrap_or(1)
        ),
    );
    let phase = |name: &str| related.pods.iter().filter(|pod| pod["status"]["phase"] == name).count();
    page.field(
        0,
        "Pods Status",
        format!(
            "{} Running / {} Waiting / {} Succeeded / {} Failed",
            phase("Running"),
            phase("Pending"),
            phase("Succeeded"),
            phase("Failed")
        ),
    );
    page.heading(0, "Pod Template");
    let template = &spec["template"];
    page.field(2, "Labels", selector(&template["metadata"]["labels"]));
    if let Some(account) = template["spec"]["serviceAccountName"].as_str() {
        page.field(2, "Service Account", account);
    }
    containers(page, 2, "Containers", &template["spec"]["containers"], &Value::Null);
    volumes(page, 2, &template["spec"]["volumes"]);
    conditions(page, status);
}

/// Type, status and reason of each condition.
pub fn conditions(page: &mut Page, status: &Value) {
    let Some(conditions) = status["conditions"].as_array().filter(|conditions| !conditions.is_empty()) else { return };
    page.heading(0, "Conditions");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut rows = vec![
        ["Type", "Status", "Reason"].map(str::to_owned).to_vec(),
        ["----", "------", "------"].map(str::to_owned).to_vec(),
    ];
    rows.extend(
        conditions
            .iter()
            .map(|condition| vec![text(&condition["type"]), text(&condition["status"]), text(&condition["reason"])]),
    );
    page.table(2, &rows, 3);
}
