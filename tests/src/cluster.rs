//! A cluster of the released binary, in a folder of its own.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::command::{Ran, run, until};
use crate::files;

/// Each cluster of a program has a number.
static NEXT: AtomicU32 = AtomicU32::new(1);
/// Clusters of different folders don't know each other's ports: the tests of one program take turns.
static TURN: Mutex<()> = Mutex::new(());

thread_local! {
    /// This test's clusters, and its turn while it has some.
    static MINE: RefCell<(usize, Option<MutexGuard<'static, ()>>)> = const { RefCell::new((0, None)) };
}

fn take_turn() {
    MINE.with_borrow_mut(|(clusters, turn)| {
        if *clusters == 0 {
            *turn = Some(TURN.lock().unwrap_or_else(PoisonError::into_inner));
        }
        *clusters += 1;
    });
}

fn end_turn() {
    MINE.with_borrow_mut(|(clusters, turn)| {
        *clusters -= 1;
        if *clusters == 0 {
            *turn = None;
        }
    });
}

/// A running cluster; deleted when dropped.
pub struct Cluster {
    home: TempDir,
    /// Its name.
    pub name: String,
}

impl Cluster {
    /// A home without a cluster yet.
    pub fn home() -> Self {
        take_turn();
        let name = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { home: tempfile::Builder::new().prefix("kubelab-").tempdir().expect("a temporary folder"), name }
    }

    /// Starts a cluster with these flags.
    #[track_caller]
    pub fn start(flags: &[&str]) -> Self {
        let cluster = Self::home();
        cluster.kubelab(&[&["start"], flags].concat()).ok();
        cluster
    }

    /// `KUBELAB_HOME`.
    pub fn folder(&self) -> &Path {
        self.home.path()
    }

    /// The cluster's folder.
    pub fn dir(&self) -> PathBuf {
        self.folder().join(&self.name)
    }

    /// The kubeconfig that `start` writes.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder().join("config")
    }

    /// Runs a command with the cluster's environment.
    pub fn run(&self, command: &mut Command) -> Ran {
        run(self.environment(command))
    }

    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("KUBELAB_HOME", self.folder()).env("HOME", self.folder()).env("KUBECONFIG", self.kubeconfig());
        command.env("KUBELAB_NAME", &self.name)
    }

    /// The official kubectl, for a test that gives it more than arguments.
    pub fn official_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        self.environment(command.args(args));
        command
    }

    /// Runs `kubelab`.
    pub fn kubelab(&self, args: &[&str]) -> Ran {
        self.run(Command::new(files::kubelab()).args(args))
    }

    /// Runs the official kubectl.
    pub fn official(&self, args: &[&str]) -> Ran {
        self.run(Command::new("kubectl").args(args))
    }

    /// Runs our kubectl.
    pub fn ours(&self, args: &[&str]) -> Ran {
        self.kubelab(&[&["kubectl", "--"], args].concat())
    }

    /// Runs any program with the cluster's kubeconfig.
    pub fn program(&self, program: &Path, args: &[&str]) -> Ran {
        self.run(Command::new(program).args(args))
    }

    /// An object or list, through the official kubectl.
    #[track_caller]
    pub fn get(&self, args: &[&str]) -> Value {
        let text = self.official(&[&["get", "-o", "json"], args].concat()).ok();
        serde_json::from_str(&text).expect("kubectl prints JSON")
    }

    /// Pods that match the selector and are Ready and not being deleted.
    #[track_caller]
    pub fn ready_pods(&self, selector: &str) -> Vec<Value> {
        let list = self.get(&["pods", "-l", selector]);
        let ready = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array();
            let is_ready = conditions
                .into_iter()
                .flatten()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
            is_ready && pod["metadata"]["deletionTimestamp"].is_null()
        };
        list["items"].as_array().into_iter().flatten().filter(|pod| ready(pod)).cloned().collect()
    }

    /// Waits until exactly `count` pods are ready and no other exists.
    #[track_caller]
    pub fn until_pods(&self, selector: &str, count: usize, limit: Duration) -> Vec<Value> {
        until(&format!("{count} ready pods of {selector}"), limit, || {
            let (ready, all) = (self.ready_pods(selector), self.get(&["pods", "-l", selector]));
            let total = all["items"].as_array().map_or(0, Vec::len);
            if ready.len() == count && total == count {
                Ok(ready)
            } else {
                Err(format!("{} ready of {total}: {}", ready.len(), summary(&all)))
            }
        })
    }
}

fn summary(list: &Value) -> String {
    let describe = |pod: &Value| {
        let (metadata, status) = (&pod["metadata"], &pod["status"]);
        format!(
            "{} on {} {} {}",
            metadata["name"], pod["spec"]["nodeName"], status["phase"], status["containerStatuses"][0]["state"]
        )
    };
    list["items"].as_array().into_iter().flatten().map(describe).collect::<Vec<_>>().join("; ")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in std::fs::read_dir(self.dir().join("logs")).into_iter().flatten().flatten() {
                let text = std::fs::read_to_string(log.path()).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                eprintln!("--- {}\n{}", log.path().display(), lines[lines.len().saturating_sub(40)..].join("\n"));
            }
        }
        if self.dir().join("cluster.json").exists() {
            let deleted = self.kubelab(&["delete"]);
            if deleted.code != Some(0) && !std::thread::panicking() {
                end_turn();
                panic!("delete failed: {deleted:?}");
            }
        }
        end_turn();
    }
}
