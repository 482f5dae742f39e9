//! The controller-manager as a program of its own; everything is in the library.

use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    controller_manager::run(controller_manager::Args::parse()).await
}
