//! emptyDir volumes: a directory that lives as long as its pod, on disk or in memory.
//!
//! Entry: [`plan`], [`make`], [`unmount_below`]. Invariant: making an existing one again keeps its contents.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use api::Quantity;
use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Plan, VolumeError};

/// What the source asks for.
pub(super) fn plan(source: &EmptyDirVolumeSource) -> Plan {
    let size_limit = source.size_limit.as_ref().and_then(|wire| Quantity::try_from(wire).ok()).map(|q| q.value());
    Plan::EmptyDir { in_memory: source.medium.as_deref() == Some("Memory"), size_limit }
}

/// Makes the directory, world-writable as in Kubernetes (a container may run as anyone).
pub(super) fn make(
    dir: &Path,
    in_memory: bool,
    size_limit: Option<i64>,
    fs_group: Option<i64>,
) -> Result<(), VolumeError> {
    if !dir.exists() {
        fs::create_dir_all(dir).map_err(VolumeError::io(dir))?;
    } else if !in_memory || is_mount_point(dir) {
        return Ok(());
    }
    if in_memory {
        let size = size_limit.filter(|size| *size > 0).map(|size| format!("size={size}"));
        mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, size.as_deref())
            .map_err(|errno| VolumeError::Io { path: dir.display().to_string(), source: errno.into() })?;
    }
    let mode = match fs_group {
        Some(group) => {
            chown(dir, None, u32::try_from(group).ok()).map_err(VolumeError::io(dir))?;
            0o2777
        }
        None => 0o777,
    };
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(VolumeError::io(dir))
}

fn is_mount_point(dir: &Path) -> bool {
    mount_points().iter().any(|point| Path::new(point) == dir)
}

/// Every mount point of this machine, in the order of mounting.
fn mount_points() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let unescape = |text: &str| text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect()
}

/// Unmounts everything below a directory, the last mounted first.
pub(super) fn unmount_below(dir: &Path) -> Result<(), VolumeError> {
    for point in mount_points().into_iter().rev().filter(|point| Path::new(point).starts_with(dir)) {
        umount2(point.as_str(), MntFlags::MNT_DETACH)
            .map_err(|errno| VolumeError::Io { path: point.clone(), source: errno.into() })?;
    }
    Ok(())
}
