//! `kubelab logs COMPONENT [-f]`.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::cluster::Cluster;
use crate::components;

/// Prints the component's log, and with `follow` what is added to it until interrupted.
pub fn run(cluster: &Cluster, component: &str, follow: bool) -> Result<()> {
    let names: Vec<String> = components::of(cluster).iter().map(components::Component::name).collect();
    // `kubelet` alone is the first node's.
    let name = match names
        .iter()
        .find(|name| *name == component || (component == "kubelet" && name.starts_with("kubelet-")))
    {
        Some(name) => name,
        None => bail!("cluster {:?} has no component {component:?}; it has: {}", cluster.spec.name, names.join(", ")),
    };
    let path = cluster.log(name);
    let mut file = File::open(&path).with_context(|| format!("{name} has no log yet ({})", path.display()))?;
    copy(&mut file)?;
    if follow { follow_from(&path, &mut file) } else { Ok(()) }
}

fn follow_from(path: &Path, file: &mut File) -> Result<()> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(path, AddWatchFlags::IN_MODIFY)?;
    loop {
        copy(file)?;
        inotify.read_events()?;
    }
}

fn copy(file: &mut File) -> Result<()> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let mut out = std::io::stdout().lock();
    match out.write_all(&text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}
