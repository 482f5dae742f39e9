//! `kubelab delete`: stops a cluster and removes its folder and its kubeconfig context.

use std::fs;

use anyhow::{Context, Result};

use crate::cluster::{self, Cluster};
use crate::{kubeconfig, stop};

/// Deletes the cluster.
pub async fn run(cluster: &Cluster) -> Result<()> {
    let lock = Cluster::lock(&cluster.dir)?;
    stop::all(cluster).await;
    let spec = &cluster.spec;
    kubeconfig::remove(&spec.kubeconfig, &spec.name)?;
    fs::remove_dir_all(&cluster.dir).with_context(|| format!("can't remove {}", cluster.dir.display()))?;
    let link = cluster::home()?.join(&spec.name);
    if link.is_symlink() {
        fs::remove_file(&link)?;
    }
    drop(lock);
    println!("Cluster {:?} is deleted.", spec.name);
    Ok(())
}
