//! Whether this machine lets us run containers, in a sentence for its user.

use std::fs;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{FsOpenFlags, fsopen};

use crate::args::Kind;
use crate::cgroups::Hierarchies;

/// What fits this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// The runtime to use.
    pub runtime: Kind,
    /// Why, in a plain sentence.
    pub why: String,
}

/// Looks at what a container needs: root, namespaces, overlay, cgroups.
pub fn detect() -> Detected {
    match missing() {
        Ok(why) => Detected { runtime: Kind::Linux, why },
        Err(why) => Detected { runtime: Kind::Simulated, why },
    }
}

fn missing() -> Result<String, String> {
    let lacks = |what: &str| format!("containers are simulated: {what}");
    if !nix::unistd::geteuid().is_root() {
        return Err(lacks("running real ones needs root"));
    }
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWPID;
    // On a thread of its own, which ends with its new namespaces.
    let entered = std::thread::scope(|scope| scope.spawn(|| unshare(flags)).join());
    match entered {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(lacks(&format!("this machine allows no new namespaces ({error})"))),
        Err(_) => return Err(lacks("this machine allows no new namespaces")),
    }
    if let Err(error) = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
        return Err(lacks(&format!("the kernel has no overlay filesystem ({error})")));
    }
    let hierarchies = Hierarchies::detect().unwrap_or_default();
    if !hierarchies.has("memory") || !hierarchies.has("cpu") {
        return Err(lacks("no cgroup hierarchy with the cpu and memory controllers is mounted"));
    }
    let probe = format!("kubelab-probe-{}", std::process::id());
    let usable = hierarchies
        .directories(&probe, false)
        .iter()
        .try_for_each(|directory| fs::create_dir(directory).and_then(|()| fs::remove_dir(directory)));
    match usable {
        Ok(()) => Ok(format!("containers are real: root, namespaces, overlay and {}", hierarchies.describe())),
        Err(error) => Err(lacks(&format!("cgroups cannot be written ({error})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_why() {
        let detected = detect();
        let expected = match detected.runtime {
            Kind::Linux => "containers are real: ",
            _ => "containers are simulated: ",
        };
        assert!(detected.why.starts_with(expected), "{}", detected.why);
    }
}
