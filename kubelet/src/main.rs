//! The kubelet as a program of its own.

use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    kubelet::run(kubelet::Args::parse()).await
}
