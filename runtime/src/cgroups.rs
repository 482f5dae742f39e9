//! Limits on what a container uses, and what it has used: cgroups, version 1 and 2, as the machine has them.
//!
//! A container's group is `<parent>/<container id>` in every hierarchy that matters. On a machine with version 1
//! controllers the container also joins the (then empty) version 2 hierarchy, whose `cgroup.kill` ends all at once.
//! Invariant: limits are in place before the first process joins; removing twice is no error.

mod limits;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use limits::Limits;
pub use usage::Usage;

/// Controllers of version 1 that every container joins; `cpuset` only when it is asked for.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuacct", "memory", "pids"];
/// Removing a group fails until the kernel has let go of its last process: how often and how long to wait.
const REMOVE_TRIES: u32 = 200;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Reading or writing a control file.
    #[error("cgroup file {0}")]
    File(PathBuf, #[source] io::Error),
    /// Processes are still in it.
    #[error("cgroup {0} cannot be removed")]
    Busy(PathBuf, #[source] io::Error),
}

/// The cgroup hierarchies of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// Version 1: where each controller is mounted.
    pub v1: BTreeMap<String, PathBuf>,
    /// Version 2: where it is mounted, and its controllers.
    pub v2: Option<(PathBuf, BTreeSet<String>)>,
}

impl Hierarchies {
    /// What is mounted here.
    pub fn detect() -> io::Result<Self> {
        let mut found = Self::parse(&fs::read_to_string("/proc/self/mountinfo")?);
        if let Some((mount, controllers)) = &mut found.v2 {
            let text = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
            *controllers = text.split_whitespace().map(str::to_owned).collect();
        }
        Ok(found)
    }

    fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let Some(mount) = before.split(' ').nth(4) else { continue };
            let mut after = after.split(' ');
            let kind = after.next().unwrap_or_default();
            let options = after.nth(1).unwrap_or_default();
            match kind {
                "cgroup2" if found.v2.is_none() => found.v2 = Some((mount.into(), BTreeSet::new())),
                "cgroup" => {
                    for option in options.split(',').filter(|o| !matches!(*o, "rw" | "ro") && !o.contains('=')) {
                        found.v1.entry(option.to_owned()).or_insert_with(|| mount.into());
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Whether a controller is there in either version.
    pub fn has(&self, controller: &str) -> bool {
        self.v1.contains_key(controller) || self.v2.as_ref().is_some_and(|(_, c)| c.contains(controller))
    }

    /// In words, for people.
    pub fn describe(&self) -> String {
        let controllers: Vec<_> = ["cpu", "memory", "pids"].into_iter().filter(|c| self.has(c)).collect();
        let version = if self.v1.contains_key("memory") { "v1" } else { "v2" };
        format!("cgroup {version} ({})", controllers.join(", "))
    }

    /// The directories of a group, one in each hierarchy.
    pub fn directories(&self, group: &str, with_cpuset: bool) -> Vec<PathBuf> {
        let group = group.trim_start_matches('/');
        let controllers = CONTROLLERS.into_iter().chain(with_cpuset.then_some("cpuset"));
        let v1 = controllers.filter_map(|c| self.v1.get(c));
        let roots: BTreeSet<_> = v1.chain(self.v2.as_ref().map(|(mount, _)| mount)).collect();
        roots.into_iter().map(|root| root.join(group)).collect()
    }

    /// Makes a group with its limits. Making it again sets the limits again.
    pub fn create(&self, group: &str, limits: &Limits) -> Result<(), CgroupError> {
        let relative = Path::new(group.trim_start_matches('/'));
        for directory in self.directories(group, limits.has_cpuset()) {
            make_directories(&directory)?;
        }
        if limits.has_cpuset()
            && let Some(root) = self.v1.get("cpuset")
        {
            inherit_cpuset(root, relative)?;
        }
        if let Some((root, controllers)) = &self.v2
            && !controllers.is_empty()
        {
            delegate(root, relative, controllers)?;
        }
        self.apply(group, limits)
    }

    /// Sets the limits of a group.
    pub fn apply(&self, group: &str, limits: &Limits) -> Result<(), CgroupError> {
        let group = group.trim_start_matches('/');
        for setting in limits.v1() {
            if let Some(root) = self.v1.get(setting.controller) {
                setting.write(&root.join(group))?;
            }
        }
        if let Some((root, controllers)) = &self.v2 {
            for setting in limits.v2().iter().filter(|s| controllers.contains(s.controller)) {
                setting.write(&root.join(group))?;
            }
        }
        Ok(())
    }

    /// Kills every process in a group.
    pub fn kill(&self, group: &str) {
        for directory in self.directories(group, true) {
            if fs::write(directory.join("cgroup.kill"), "1").is_ok() {
                return;
            }
        }
        for pid in self.processes(group) {
            // It may be gone by now, which is what is wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// The processes in a group.
    pub fn processes(&self, group: &str) -> BTreeSet<i32> {
        let files = self.directories(group, true).into_iter().map(|d| d.join("cgroup.procs"));
        let texts = files.filter_map(|file| fs::read_to_string(file).ok());
        texts.flat_map(|text| text.lines().filter_map(|l| l.parse().ok()).collect::<Vec<i32>>()).collect()
    }

    /// Removes a group, killing what is left in it, and then its parents as far as they are empty.
    pub fn remove(&self, group: &str) -> Result<(), CgroupError> {
        for directory in self.directories(group, true) {
            self.remove_directory(group, &directory)?;
        }
        Ok(())
    }

    fn remove_directory(&self, group: &str, directory: &Path) -> Result<(), CgroupError> {
        for attempt in 1.. {
            match fs::remove_dir(directory) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) if attempt == REMOVE_TRIES => return Err(CgroupError::Busy(directory.to_owned(), error)),
                Err(_) => {
                    self.kill(group);
                    std::thread::sleep(REMOVE_PAUSE);
                }
            }
        }
        Ok(())
    }

    /// Removes the ancestors of a group that became empty, up to the root of each hierarchy.
    pub fn remove_empty_parents(&self, group: &str) {
        let depth = Path::new(group.trim_start_matches('/')).components().count();
        for directory in self.directories(group, true) {
            // A directory that is in use refuses to be removed: that is where to stop.
            directory.ancestors().skip(1).take(depth.saturating_sub(1)).all(|d| fs::remove_dir(d).is_ok());
        }
    }

    /// How many processes of the group were killed for lack of memory.
    pub fn out_of_memory_kills(&self, group: &str) -> u64 {
        let group = group.trim_start_matches('/');
        let v1 = self.v1.get("memory").map(|root| root.join(group).join("memory.oom_control"));
        let v2 = self.v2.as_ref().map(|(root, _)| root.join(group).join("memory.events"));
        let texts = v1.into_iter().chain(v2).filter_map(|file| fs::read_to_string(file).ok());
        texts.filter_map(|text| usage::field(&text, "oom_kill")).max().unwrap_or(0)
    }

    /// What the group has used.
    pub fn usage(&self, group: &str) -> Usage {
        Usage::read(self, Path::new(group.trim_start_matches('/')))
    }
}

/// One control file and what belongs in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    controller: &'static str,
    file: String,
    value: String,
    /// A kernel may lack the file.
    optional: bool,
}

impl Setting {
    fn write(&self, directory: &Path) -> Result<(), CgroupError> {
        let path = directory.join(&self.file);
        match fs::write(&path, &self.value) {
            Err(error) if self.optional && error.kind() == io::ErrorKind::NotFound => Ok(()),
            written => written.map_err(|e| CgroupError::File(path, e)),
        }
    }
}

/// A directory may vanish between two steps, when another container's removal empties its parent: then once more.
fn make_directories(directory: &Path) -> Result<(), CgroupError> {
    let again = |_| fs::create_dir_all(directory);
    fs::create_dir_all(directory).or_else(again).or_else(again).map_err(|e| CgroupError::File(directory.to_owned(), e))
}

/// In version 1 a cpuset holds nothing until it is told its CPUs and memory nodes, level by level.
fn inherit_cpuset(root: &Path, relative: &Path) -> Result<(), CgroupError> {
    let mut directory = root.to_owned();
    for component in relative {
        let parent = directory.clone();
        directory.push(component);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let path = directory.join(file);
            let failed = |e| CgroupError::File(path.clone(), e);
            if fs::read_to_string(&path).map_err(failed)?.trim().is_empty() {
                let inherited = fs::read_to_string(parent.join(file)).map_err(failed)?;
                fs::write(&path, inherited.trim()).map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// In version 2 every ancestor must hand its controllers down.
fn delegate(root: &Path, relative: &Path, controllers: &BTreeSet<String>) -> Result<(), CgroupError> {
    let parents = relative.parent().unwrap_or(Path::new(""));
    let mut directory = root.to_owned();
    let wanted = ["cpu", "memory", "pids", "cpuset"].into_iter().filter(|c| controllers.contains(*c));
    let line = wanted.map(|c| format!("+{c}")).collect::<Vec<_>>().join(" ");
    hand_down(&directory, &line)?;
    for component in parents {
        directory.push(component);
        hand_down(&directory, &line)?;
    }
    Ok(())
}

fn hand_down(directory: &Path, line: &str) -> Result<(), CgroupError> {
    let path = directory.join("cgroup.subtree_control");
    match fs::write(&path, line) {
        // Inside a container the root group holds processes; they have to move to a leaf first.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            let leaf = directory.join("init");
            make_directories(&leaf)?;
            let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            for pid in processes.lines() {
                // One that ended meanwhile needs no move.
                let _ = fs::write(leaf.join("cgroup.procs"), pid);
            }
            fs::write(&path, line).map_err(|e| CgroupError::File(path, e))
        }
        written => written.map_err(|e| CgroupError::File(path, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions() {
        let mixed = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = Hierarchies::parse(mixed);
        assert!(found.has("cpu") && found.has("memory") && !found.has("pids"));
        let directories = found.directories("/kubepods/a", false);
        let expected = ["cpu,cpuacct", "memory", "unified"].map(|d| format!("/sys/fs/cgroup/{d}/kubepods/a"));
        assert_eq!(directories, expected.map(PathBuf::from));
        let unified = Hierarchies::parse("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert_eq!(unified.directories("a", true), [PathBuf::from("/sys/fs/cgroup/a")]);
    }
}
