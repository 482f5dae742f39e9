//! `kubelab`: one binary that holds every component of the cluster, the launcher that runs each as a process of its own, and
//! the tools around them. Under another name (a link called `kubectl`, say) it is that program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The shims beside containers fork: they must run before any thread exists.
    if let Some(code) = runtime::maybe_run_hidden_subcommand() {
        return code;
    }
    kubelab::cli::main(std::env::args_os().collect())
}
