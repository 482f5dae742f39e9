//! What a container's root may do: Linux capabilities.
//!
//! The usual set is containerd's without MKNOD: devices are kept from containers by having no way to make them
//! (and root filesystems mounted without devices), instead of by a device cgroup.

use std::io;

use serde::{Deserialize, Serialize};

/// By number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
const USUAL: [&str; 13] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Sets of capabilities, as bit masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Bounding, effective and permitted.
    pub bounding: u64,
    /// Kept by programs of a user that is not root.
    pub ambient: u64,
}

impl Capabilities {
    /// What a container gets when nothing is said.
    pub fn usual() -> Self {
        let bounding = USUAL.iter().filter_map(|n| bit(n)).fold(0, |set, bit| set | bit);
        Self { bounding, ambient: 0 }
    }

    /// Everything there is.
    pub fn all() -> Self {
        Self { bounding: (1 << NAMES.len()) - 1, ambient: 0 }
    }

    /// With some added and some dropped; `ALL` stands for each. The error is the unknown name.
    pub fn changed(self, add: &[String], drop: &[String], ambient: &[String]) -> Result<Self, String> {
        let set = |names: &[String]| {
            names.iter().try_fold(0, |set, name| {
                let all = name.eq_ignore_ascii_case("ALL").then(|| Self::all().bounding);
                all.or_else(|| bit(name)).map(|bits| set | bits).ok_or_else(|| name.clone())
            })
        };
        let (added, dropped, ambient) = (set(add)?, set(drop)?, set(ambient)?);
        let drops_all = drop.iter().any(|n| n.eq_ignore_ascii_case("ALL"));
        let adds_all = add.iter().any(|n| n.eq_ignore_ascii_case("ALL"));
        let bounding = match (drops_all, adds_all) {
            (true, _) => added,
            (false, true) => added & !dropped,
            (false, false) => (self.bounding | added) & !dropped,
        };
        Ok(Self { bounding: bounding | ambient, ambient: self.ambient | ambient })
    }

    /// Shrinks the bounding set of this process. Before changing the user.
    pub fn drop_bounding(&self) -> io::Result<()> {
        for number in (0..64).filter(|n| self.bounding & (1 << n) == 0) {
            // SAFETY: prctl with plain numbers touches no memory of ours.
            let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
            if done != 0 {
                match io::Error::last_os_error() {
                    // Past the last capability of this kernel.
                    error if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
                    error => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Sets what this process may do. After changing the user; `is_root` says to whom.
    pub fn apply(&self, is_root: bool) -> io::Result<()> {
        let own = current()?.permitted & self.bounding;
        let keep = if is_root { own } else { own & self.ambient };
        set(Current { effective: keep, permitted: keep, inheritable: keep & self.ambient })?;
        for number in (0..64).filter(|n| keep & self.ambient & (1 << n) != 0) {
            // SAFETY: prctl with plain numbers touches no memory of ours.
            if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}

fn bit(name: &str) -> Option<u64> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|n| *n == short).map(|number| 1 << number)
}

struct Current {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

/// The kernel's layout: a header, then two words of each set.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Words {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}
const VERSION_3: u32 = 0x2008_0522;

fn current() -> io::Result<Current> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut words = [Words::default(); 2];
    // SAFETY: both structures have the kernel's layout and outlive the call.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let join = |get: fn(&Words) -> u32| u64::from(get(&words[0])) | u64::from(get(&words[1])) << 32;
    Ok(Current {
        effective: join(|w| w.effective),
        permitted: join(|w| w.permitted),
        inheritable: join(|w| w.inheritable),
    })
}

fn set(sets: Current) -> io::Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Words {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let words = [half(0), half(32)];
    // SAFETY: both structures have the kernel's layout and outlive the call.
    match unsafe { libc::syscall(libc::SYS_capset, &raw mut header, words.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_and_dropped() {
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let changed = |add: &[&str], drop: &[&str]| Capabilities::usual().changed(&names(add), &names(drop), &[]);
        let only = |list: &[&str]| list.iter().filter_map(|n| bit(n)).sum::<u64>();
        assert_eq!(changed(&[], &["ALL"]).expect("known").bounding, 0);
        assert_eq!(changed(&["NET_ADMIN"], &["all"]).expect("known").bounding, only(&["NET_ADMIN"]));
        assert_eq!(changed(&["ALL"], &[]).expect("known"), Capabilities::all());
        let without = changed(&["ALL"], &["CAP_SYS_ADMIN"]).expect("known").bounding;
        assert_eq!(without, Capabilities::all().bounding & !only(&["SYS_ADMIN"]));
        let usual = changed(&["cap_net_admin"], &["KILL"]).expect("known").bounding;
        assert!(usual & only(&["NET_ADMIN"]) != 0 && usual & only(&["KILL"]) == 0 && usual & only(&["CHOWN"]) != 0);
        assert_eq!(changed(&["FLY"], &[]), Err("FLY".to_owned()));
    }
}
