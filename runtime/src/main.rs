//! The container runtime as a process of its own.

use clap::Parser as _;

fn main() -> anyhow::Result<std::process::ExitCode> {
    if let Some(code) = runtime::maybe_run_hidden_subcommand() {
        return Ok(code);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(runtime::run(runtime::Args::parse()))?;
    Ok(std::process::ExitCode::SUCCESS)
}
