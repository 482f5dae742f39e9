//! What a new runtime makes of a state directory: adopt what runs, note what ended, remove what was half made.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};

use super::{KnownContainer, KnownSandbox, Linux, Result, apart, at, container};
use crate::disk::{self, ContainerRecord, Progress, SandboxRecord};
use crate::network::{self, UTS};
use crate::record::{Container, Exit, Phase, Sandbox};
use crate::shim::protocol::{EXIT_FILE, LOCK_FILE, SPEC_FILE, STARTED_FILE, Started};
use crate::spec::Spec;

impl Linux {
    pub(super) async fn recover(self: &Arc<Self>) -> Result<()> {
        let linux = self.clone();
        let running = apart(move || {
            linux.recover_sandboxes()?;
            linux.recover_containers()
        })
        .await?;
        for id in running {
            self.watch_over(&id).await;
        }
        Ok(())
    }

    fn recover_sandboxes(&self) -> Result<()> {
        for id in names(&self.config.state.join("sandboxes"))? {
            let directory = self.sandbox_directory(&id);
            let record = SandboxRecord::read(&directory).ok().filter(|r| r.progress != Progress::Making);
            let config = record.as_ref().and_then(|r| r.config().ok());
            let (Some(record), Some(config)) = (record, config) else {
                tracing::info!(sandbox = id, "removing a sandbox that was never finished");
                self.clear_sandbox(&id, None)?;
                continue;
            };
            // After a reboot nothing keeps the namespaces any more.
            let ready = record.progress == Progress::Ready && network::keeps_namespace(&directory.join(UTS));
            let ip = record.ip.filter(|_| ready);
            if let (Some(ip), Some(pool)) = (ip, self.lock().addresses.as_mut()) {
                pool.claim(ip);
            }
            let (runtime_handler, created_at) = (record.runtime_handler, record.created_at);
            let sandbox = Sandbox { id: id.clone(), config, runtime_handler, created_at, ready, ip };
            self.lock().sandboxes.insert(id, KnownSandbox { sandbox, turn: Arc::default() });
        }
        Ok(())
    }

    /// Answers the ids of those that run.
    fn recover_containers(&self) -> Result<Vec<String>> {
        let mut running = Vec::new();
        for id in names(&self.config.state.join("containers"))? {
            let directory = self.container_directory(&id);
            let record = ContainerRecord::read(&directory).ok();
            let has_sandbox = |r: &ContainerRecord| self.lock().sandboxes.contains_key(&r.sandbox_id);
            let spec: Option<Spec> = disk::read(&directory.join(SPEC_FILE)).ok();
            let config = record.as_ref().and_then(|r| r.config().ok());
            let (Some(record), Some(config), Some(spec)) = (record.filter(has_sandbox), config, spec.as_ref()) else {
                tracing::info!(container = id, "removing a container that was never finished");
                self.clear_container(&id, spec.as_ref().map_or("/kubelab/none", |s| &s.cgroup))?;
                continue;
            };
            let started: Option<Started> = disk::read(&directory.join(STARTED_FILE)).ok();
            let phase = self.phase_of(&directory, started.as_ref(), &record.cgroup);
            if matches!(phase, Phase::Running { .. }) {
                running.push(id.clone());
            }
            let container = Container {
                id: id.clone(),
                sandbox_id: record.sandbox_id,
                config,
                image_id: record.image_id,
                image_ref: record.image_ref,
                created_at: record.created_at,
                log_path: record.log_path,
                phase,
                user: started.as_ref().map(container::user_of),
            };
            let known = KnownContainer {
                container,
                layers: record.layers,
                cgroup: record.cgroup,
                stop_signal: record.stop_signal,
                process: spec.process.clone(),
            };
            self.lock().containers.insert(id, known);
        }
        Ok(running)
    }

    fn phase_of(&self, directory: &Path, started: Option<&Started>, cgroup: &str) -> Phase {
        let started_at = started.map_or(0, |s| s.started_at);
        if let Ok(exit) = disk::read::<Exit>(&directory.join(EXIT_FILE)) {
            return Phase::Exited { started_at, exit };
        }
        match (started, shim(directory).is_some()) {
            (Some(_), true) => Phase::Running { started_at },
            (None, false) => Phase::Created,
            // A shim that had not finished its start when the runtime died is not waited for.
            (None, true) | (Some(_), false) => {
                if let Some(pid) = shim(directory) {
                    // It holds its lock, so the number is its own. Its child goes with it.
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
                }
                self.hierarchies.kill(cgroup);
                let message = "the container's shim ended without saying how the container did".to_owned();
                let exit = Exit { finished_at: self.now(), code: 255, reason: "Error".to_owned(), message };
                // Read again at the next start; if it cannot be written the answer is the same.
                let _ = disk::write(&directory.join(EXIT_FILE), &exit);
                Phase::Exited { started_at, exit }
            }
        }
    }
}

/// The process id of a container's shim, if it lives: as long as it does, it holds a lock.
pub(super) fn shim(directory: &Path) -> Option<i32> {
    let file = File::open(directory.join(LOCK_FILE)).ok()?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_) => None,
        Err(_) => fs::read_to_string(directory.join(LOCK_FILE)).ok()?.trim().parse().ok(),
    }
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).map_err(at(directory))?;
    let mut names: Vec<_> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}
