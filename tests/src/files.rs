//! Where things are in the checkout and in the build folder.

use std::path::{Path, PathBuf};

/// The checkout's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the checkout").to_owned()
}

/// The folder with this profile's programs: the one above the `deps` folder that test programs run from.
fn programs() -> PathBuf {
    let exe = std::env::current_exe().expect("a test program knows its file");
    let folder = exe.parent().expect("a file is in a folder");
    if folder.ends_with("deps") { folder.parent().expect("deps is in a folder").to_owned() } else { folder.to_owned() }
}

/// The `kubelab` under test: `$KUBELAB_PROGRAM`, or that of this build.
pub fn kubelab() -> PathBuf {
    if let Some(program) = std::env::var_os("KUBELAB_PROGRAM") {
        return program.into();
    }
    let path = programs().join("kubelab");
    assert!(path.exists(), "{} is missing: run `cargo build --workspace` first", path.display());
    path
}

/// A folder of `make test`'s set-up: the build folder.
pub fn target() -> PathBuf {
    programs().parent().expect("a profile's folder is in the build folder").to_owned()
}

/// The nginx image that `make test` builds from Debian's package.
pub fn nginx_image() -> PathBuf {
    let path = target().join("nginx.tar");
    assert!(path.exists(), "{} is missing: run tests/make-nginx-image.sh {} first", path.display(), path.display());
    path
}

/// The Python of `make test`, with the official client.
pub fn python() -> PathBuf {
    let path = target().join("python/bin/python");
    assert!(path.exists(), "{} is missing: run scripts/install-python-client first", path.display());
    path
}

/// The folder of `make test` with the official Node client.
pub fn node_client() -> PathBuf {
    let path = target().join("node");
    assert!(path.exists(), "{} is missing: run scripts/install-node-client first", path.display());
    path
}

/// An example manifest.
pub fn example(name: &str) -> PathBuf {
    root().join("manifests/examples").join(name)
}
