//! The README is true: every command in it is run as written, in order, on the cluster that `make up` leaves behind. Needs root.
//!
//! A block marked `sh` is one script whose every command succeeds; a block marked `console` is a transcript whose output is compared.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tests::command::{Ran, run};
use tests::{files, transcript};

/// A user's home with `kubelab` on the PATH; all its clusters are deleted in the end.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("kubelab-").tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("bin")).expect("the folder is writable");
        symlink(files::kubelab(), folder.path().join("bin/kubelab")).expect("the folder is writable");
        Self { folder }
    }

    fn clusters(&self) -> PathBuf {
        self.folder.path().join(".kubelab")
    }

    fn prepare(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.folder.path().join("bin").display()));
        command.env("HOME", self.folder.path()).env("KUBELAB_HOME", self.clusters()).env_remove("KUBECONFIG");
        command.env("KUBELAB_NAME", format!("readme-{}", std::process::id())).current_dir(files::root());
    }

    /// Runs a script to its end; what it left in the background, should it fail, ends with it.
    fn sh(&self, script: &str) -> Ran {
        let mut command = Command::new("timeout");
        let whole = format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}");
        self.prepare(command.args(["300", "bash", "-ec", &whole]));
        run(&mut command)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for folder in std::fs::read_dir(self.clusters()).into_iter().flatten().flatten() {
            if folder.path().join("cluster.json").exists() {
                self.sh(&format!("kubelab delete --name {}", folder.file_name().display()));
            }
        }
    }
}

/// The language and text of each fenced block.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = text.split("```").collect();
    assert_eq!(parts.len() % 2, 1, "each block has an end");
    parts.iter().skip(1).step_by(2).filter_map(|block| block.split_once('\n')).collect()
}

#[test]
fn every_command_runs_as_written() {
    let text = std::fs::read_to_string(files::root().join("README.md")).expect("the README is there");
    let blocks = blocks(&text);
    assert!(blocks.iter().filter(|(language, _)| *language == "sh").count() >= 5, "{blocks:?}");

    let home = Home::new();
    home.sh(&format!("kubelab start --runtime linux && kubelab image load {}", files::nginx_image().display())).ok();
    for (language, block) in blocks {
        match language {
            "sh" => println!("{}", home.sh(block).ok()),
            "console" => play(&home, block),
            _ => {}
        }
    }
}

fn play(home: &Home, block: &str) {
    let file = home.folder.path().join("transcript");
    std::fs::write(&file, block).expect("the folder is writable");
    transcript::play(&file, true, Path::new("."), |command| home.prepare(command));
}
