//! A kubectl on the same API as the official one: same verbs, flags, output and exit codes for what it has.
//!
//! Entry point: [`main`]. A verb is a file in `commands/` and a variant in `cli`; it reaches the cluster only through [`session::Session`].

mod cli;
mod commands;
mod duration;
mod failure;
mod manifest;
mod openapi;
mod output;
mod resources;
mod session;
mod targets;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs kubectl with these arguments (the first is the program's name) and answers its exit code.
pub fn main(argv: Vec<OsString>) -> ExitCode {
    let cli = match cli::parse(argv) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the kernel gives this process an event queue");
    let result = runtime.block_on(cli::run(cli));
    // A read of standard input that nobody waits for any more must not keep the program alive.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.exit_code())
        }
    }
}
