//! The scheduler as a program of its own.

use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    scheduler::run(scheduler::Args::parse()).await
}
