//! Keeps the logs of containers from filling the disk: a file of 10 MiB is set aside, and five are kept.
//!
//! Entry: [`rotate`], called with each heartbeat. Invariants: it costs a few directory reads while no file is large; a
//! line is never lost: the runtime is told to reopen its file after the old one was renamed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cri::v1::{ContainerFilter, ContainerStatusRequest, ListContainersRequest, ReopenContainerLogRequest};
use jiff::Timestamp;

use crate::config::Host;
use crate::runtime::{Runtime, keys};

const LIMIT: u64 = 10 << 20;
/// Files of one container, the current one included.
const KEPT: usize = 5;

/// Rotates every log that is too large.
pub async fn rotate(host: &Host, runtime: &Runtime, now: Timestamp) {
    let Host::Machine { pod_logs_dir, .. } = host else { return };
    for log in large_logs(pod_logs_dir) {
        if let Err(error) = rotate_one(&log, runtime, now).await {
            tracing::warn!(log = %log.display(), error, "log not rotated");
        }
    }
}

/// Current logs (`<pod>/<container>/<n>.log`) over the limit.
fn large_logs(root: &Path) -> Vec<PathBuf> {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = entries(root).flat_map(|pod| entries(&pod).collect::<Vec<_>>());
    let files = files.flat_map(|container| entries(&container).collect::<Vec<_>>());
    let large = |file: &PathBuf| {
        file.extension().is_some_and(|extension| extension == "log")
            && fs::metadata(file).is_ok_and(|meta| meta.len() > LIMIT)
    };
    files.filter(large).collect()
}

async fn rotate_one(log: &Path, runtime: &Runtime, now: Timestamp) -> Result<(), String> {
    let Some(container_id) = writer(log, runtime).await.map_err(|status| status.message().to_owned())? else {
        return Ok(());
    };
    let aside = PathBuf::from(format!("{}.{}", log.display(), now.strftime("%Y%m%d-%H%M%S")));
    fs::rename(log, &aside).map_err(|error| error.to_string())?;
    let reopened = runtime.runtime.clone().reopen_container_log(ReopenContainerLogRequest { container_id }).await;
    if let Err(status) = reopened {
        // The container still writes to the old file: give it back its name.
        fs::rename(&aside, log).map_err(|error| error.to_string())?;
        return Err(status.message().to_owned());
    }
    drop_oldest(log).map_err(|error| error.to_string())
}

/// The running container that writes a log, found by the names in the log's path.
async fn writer(log: &Path, runtime: &Runtime) -> Result<Option<String>, tonic::Status> {
    let part = |path: Option<&Path>| path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let directory = log.parent();
    let name = part(directory).unwrap_or_default();
    let pod = part(directory.and_then(Path::parent)).unwrap_or_default();
    let uid = pod.rsplit('_').next().unwrap_or_default().to_owned();
    let label_selector = [(keys::POD_UID.to_owned(), uid), (keys::CONTAINER_NAME.to_owned(), name)].into();
    let filter = ContainerFilter { label_selector, ..ContainerFilter::default() };
    let mut client = runtime.runtime.clone();
    let found = client.list_containers(ListContainersRequest { filter: Some(filter) }).await?.into_inner().containers;
    for container in found {
        let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        let status = client.container_status(request).await?.into_inner().status.unwrap_or_default();
        if Path::new(&status.log_path) == log && status.finished_at == 0 {
            return Ok(Some(container.id));
        }
    }
    Ok(None)
}

fn drop_oldest(log: &Path) -> io::Result<()> {
    let prefix = format!("{}.", log.file_name().unwrap_or_default().to_string_lossy());
    let mut old = Vec::new();
    for entry in fs::read_dir(log.parent().unwrap_or(log))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            old.push(entry.path());
        }
    }
    old.sort();
    for file in old.iter().take(old.len().saturating_sub(KEPT - 1)) {
        fs::remove_file(file)?;
    }
    Ok(())
}
