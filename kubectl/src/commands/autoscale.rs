//! `kubectl autoscale`: a HorizontalPodAutoscaler for a workload.

use serde_json::json;

use super::create::{Write, create_as};
use crate::failure::{Failure, Result};
use crate::manifest::{Files, Manifest};
use crate::session::Session;
use crate::targets::{self, Selection};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TYPE NAME or TYPE/NAME
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// The autoscaler's name
    #[arg(long)]
    name: Option<String>,
    /// The least number of pods
    #[arg(long)]
    min: Option<i64>,
    /// The greatest number of pods
    #[arg(long)]
    max: i64,
    /// The average use of CPU that is aimed at, in percent of what the pods request
    #[arg(long)]
    cpu_percent: Option<i64>,
    #[command(flatten)]
    write: Write,
}

/// Makes an autoscaler for each object.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    if args.max < 1 {
        return Err(Failure::usage("--max=MAXPODS is required and must be at least 1, max: -1"));
    }
    if let Some(min) = args.min.filter(|min| *min > args.max) {
        return Err(Failure::usage(format!(
            "--max=MAXPODS must be larger or equal to --min=MINPODS, max: {}, min: {min}",
            args.max
        )));
    }
    for target in &targets::resolve(session, &args.args, &Selection::default(), false, &args.files).await? {
        let scaled = target.get(session).await?;
        let mut spec = json!({
            "maxReplicas": args.max,
            "scaleTargetRef": {"apiVersion": scaled["apiVersion"], "kind": scaled["kind"], "name": target.name},
        });
        if let Some(min) = args.min {
            spec["minReplicas"] = min.into();
        }
        if let Some(percent) = args.cpu_percent {
            spec["targetCPUUtilizationPercentage"] = percent.into();
        }
        let name = args.name.as_ref().unwrap_or(&target.name);
        let object = json!({
            "apiVersion": "autoscaling/v1",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name},
            "spec": spec,
            "status": {"currentReplicas": 0, "desiredReplicas": 0},
        });
        let manifest = Manifest { source: String::new(), object };
        create_as(session, manifest, &args.write, "kubectl-autoscale", "autoscaled").await?;
    }
    Ok(())
}
