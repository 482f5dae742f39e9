//! `kubectl` as a program of its own.

fn main() -> std::process::ExitCode {
    kubectl::main(std::env::args_os().collect())
}
