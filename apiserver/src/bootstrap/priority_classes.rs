//! The priority classes of the system, where the kind is served.

use api::error::ApiError;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::writer::Writer;

const CLASSES: [(&str, i32, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

/// Creates those that are missing.
pub(super) async fn ensure(writer: &Writer) -> Result<(), ApiError> {
    for (name, value, description) in CLASSES {
        if writer.get::<PriorityClass>("", name).is_none() {
            let class = PriorityClass {
                metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
                value: Some(value),
                description: Some(description.to_owned()),
                preemption_policy: Some("PreemptLowerPriority".to_owned()),
                ..PriorityClass::default()
            };
            writer.create(class).await?;
        }
    }
    Ok(())
}
