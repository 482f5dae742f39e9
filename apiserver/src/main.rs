//! The API server as a program of its own.

use clap::Parser;

/// Serves the Kubernetes API.
#[derive(Debug, Parser)]
#[command(name = "apiserver", version)]
struct Program {
    #[command(flatten)]
    args: apiserver::args::Args,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    apiserver::run(Program::parse().args).await
}
