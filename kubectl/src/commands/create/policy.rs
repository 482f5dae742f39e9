//! `kubectl create quota`, `poddisruptionbudget` and `priorityclass`.

use serde_json::{Value, json};

use super::{Write, named};
use crate::commands::run::pairs;
use crate::failure::{Failure, Result};

/// Flags of `quota`.
#[derive(Debug, clap::Args)]
pub struct Quota {
    name: String,
    /// RESOURCE=QUANTITY,...
    #[arg(long, value_delimiter = ',')]
    hard: Vec<String>,
    /// Scopes that a pod must match
    #[arg(long, value_delimiter = ',')]
    scopes: Vec<String>,
    #[command(flatten)]
    pub write: Write,
}

/// Flags of `poddisruptionbudget`.
#[derive(Debug, clap::Args)]
pub struct Budget {
    name: String,
    /// Labels of the pods
    #[arg(long)]
    selector: String,
    /// How many must stay, a number or a percentage
    #[arg(long)]
    min_available: Option<String>,
    /// Or how many may go
    #[arg(long, conflicts_with = "min_available")]
    max_unavailable: Option<String>,
    #[command(flatten)]
    pub write: Write,
}

/// Flags of `priorityclass`.
#[derive(Debug, clap::Args)]
pub struct PriorityClass {
    name: String,
    /// The priority
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    value: i64,
    /// For pods that name none
    #[arg(long)]
    global_default: bool,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
    /// PreemptLowerPriority or Never
    #[arg(long, default_value = "PreemptLowerPriority")]
    preemption_policy: String,
    #[command(flatten)]
    pub write: Write,
}

impl Quota {
    /// The quota.
    pub fn object(&self) -> Result<Value> {
        let mut object = named("v1", "ResourceQuota", &self.name);
        object["spec"] = json!({});
        if !self.hard.is_empty() {
            object["spec"]["hard"] = pairs(self.hard.iter().map(String::as_str), "quota")?;
        }
        if !self.scopes.is_empty() {
            object["spec"]["scopes"] = json!(self.scopes);
        }
        object["status"] = json!({});
        Ok(object)
    }
}

impl Budget {
    /// The budget.
    pub fn object(&self) -> Result<Value> {
        let mut object = named("policy/v1", "PodDisruptionBudget", &self.name);
        let labels = pairs(self.selector.split(','), "selector")?;
        object["spec"] = json!({"selector": {"matchLabels": labels}});
        let count = |text: &String| text.parse::<i64>().map_or_else(|_| Value::from(text.clone()), Value::from);
        match (&self.min_available, &self.max_unavailable) {
            (Some(count_of), _) => object["spec"]["minAvailable"] = count(count_of),
            (None, Some(count_of)) => object["spec"]["maxUnavailable"] = count(count_of),
            (None, None) => return Err(Failure::usage("one of min-available or max-unavailable must be specified")),
        }
        object["status"] =
            json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
        Ok(object)
    }
}

impl PriorityClass {
    /// The class.
    pub fn object(&self) -> Value {
        let mut object = named("scheduling.k8s.io/v1", "PriorityClass", &self.name);
        object["value"] = self.value.into();
        object["preemptionPolicy"] = self.preemption_policy.clone().into();
        if self.global_default {
            object["globalDefault"] = true.into();
        }
        if let Some(description) = &self.description {
            object["description"] = description.clone().into();
        }
        object
    }
}
