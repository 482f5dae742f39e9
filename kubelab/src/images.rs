//! `kubelab image`: what is in the image stores of a cluster's nodes. Every node of the cluster gets (or loses) the image.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use cri::images::LoadRequest;
use cri::images::image_loader_client::ImageLoaderClient;
use cri::transport::Transport;
use cri::v1::image_service_client::ImageServiceClient;
use cri::v1::{Image, ImageSpec, ListImagesRequest, RemoveImageRequest};

use crate::cli::Which;
use crate::cluster::Cluster;
use crate::launch;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load an image archive (docker save, or an OCI layout, as tar or tar.gz)
    Load {
        /// The archive
        file: PathBuf,
        #[command(flatten)]
        which: Which,
    },
    /// List images
    Ls {
        #[command(flatten)]
        which: Which,
    },
    /// Remove an image
    Rm {
        /// For example nginx:latest
        image: String,
        #[command(flatten)]
        which: Which,
    },
}

/// Runs it.
pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Load { file, which } => load(&which.open()?, &file).await,
        Command::Ls { which } => list(&which.open()?).await,
        Command::Rm { image, which } => remove(&which.open()?, &image).await,
    }
}

/// A connection to the runtime of each node.
fn runtimes(cluster: &Cluster) -> Result<Vec<(String, Transport)>> {
    let mut channels = Vec::new();
    for node in &cluster.spec.nodes {
        if launch::running(cluster, &format!("kubelet-{}", node.name)).is_none() {
            bail!("node {} does not run; `kubelab start --name {}` first", node.name, cluster.spec.name);
        }
        let socket = format!("unix://{}", cluster.runtime_socket(&node.name).display());
        channels.push((node.name.clone(), cri::transport::connect(&socket)?));
    }
    if channels.is_empty() {
        bail!("cluster {:?} has no nodes", cluster.spec.name);
    }
    Ok(channels)
}

async fn load(cluster: &Cluster, file: &Path) -> Result<()> {
    let path = std::fs::canonicalize(file).with_context(|| format!("can't read {}", file.display()))?;
    for (node, channel) in runtimes(cluster)? {
        let request = LoadRequest { path: path.display().to_string() };
        let loaded = ImageLoaderClient::new(channel).load(request).await.map_err(|status| said(&node, &status))?;
        for image in loaded.into_inner().images {
            println!("loaded {} on {node}", image.names.join(", "));
        }
    }
    Ok(())
}

async fn list(cluster: &Cluster) -> Result<()> {
    println!("{:<16} {:<48} {:<14} SIZE", "NODE", "IMAGE", "ID");
    for (node, channel) in runtimes(cluster)? {
        let answer = ImageServiceClient::new(channel).list_images(ListImagesRequest::default()).await;
        for Image { id, repo_tags, size, .. } in answer.map_err(|status| said(&node, &status))?.into_inner().images {
            let short: String = id.trim_start_matches("sha256:").chars().take(12).collect();
            let name = if repo_tags.is_empty() { "<none>".to_owned() } else { repo_tags.join(", ") };
            println!("{node:<16} {name:<48} {short:<14} {:.1} MB", size as f64 / 1e6);
        }
    }
    Ok(())
}

async fn remove(cluster: &Cluster, image: &str) -> Result<()> {
    for (node, channel) in runtimes(cluster)? {
        let mut client = ImageServiceClient::new(channel);
        let spec = Some(ImageSpec { image: image.to_owned(), ..Default::default() });
        let status = cri::v1::ImageStatusRequest { image: spec.clone(), verbose: false };
        let known = client.image_status(status).await.map_err(|status| said(&node, &status))?;
        if known.into_inner().image.is_none() {
            bail!("node {node} has no image {image:?}; `kubelab image ls` lists them");
        }
        client.remove_image(RemoveImageRequest { image: spec }).await.map_err(|status| said(&node, &status))?;
        println!("removed {image} from {node}");
    }
    Ok(())
}

fn said(node: &str, status: &tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("node {node}: {}", status.message())
}
