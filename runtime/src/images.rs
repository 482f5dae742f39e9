//! Images: layers unpacked once and shared, and the records that say which layers make an image.
//!
//! On disk, below the runtime's root: `images/<hex>.json` is an image's record, `layers/<hex>/fs` an unpacked layer,
//! named by the chain of layers up to it. Entry: [`Store`]. Invariant: a layer directory under its final name is
//! complete and its contents hash to what the image promised; nothing ever changes it afterwards.

mod archive;
mod builtin;
mod config;
mod pull;
mod source;
mod unpack;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::reference::{self, Reference};
use crate::spec::ImageProcess;

pub use builtin::DEMO;
pub use config::ConfigError;
pub use pull::PullError;

/// Key in `Image.spec.annotations` that says where an image came from: `file`, `registry` or `builtin`.
pub const SOURCE: &str = "kubelab.io/source";

/// Where an image came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// An archive that somebody loaded.
    File,
    /// A registry.
    Registry,
    /// This program itself.
    Builtin,
}

impl Source {
    /// As in [`SOURCE`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Registry => "registry",
            Self::Builtin => "builtin",
        }
    }
}

/// An image on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Digest of its configuration.
    pub id: String,
    /// Full names with tags.
    pub names: BTreeSet<String>,
    /// Full names with the digest of its manifest.
    pub digests: BTreeSet<String>,
    /// Names of its layer directories, the lowest first.
    pub layers: Vec<String>,
    /// Bytes of its unpacked layers.
    pub size: u64,
    /// Where it came from.
    pub source: Source,
    /// What a process needs of it.
    pub process: ImageProcess,
}

/// What went wrong with images.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file of the store or of an archive.
    #[error("{0}")]
    File(PathBuf, #[source] io::Error),
    /// The archive is none that we know.
    #[error("{0} is no image archive: it holds neither manifest.json nor index.json")]
    NotAnArchive(PathBuf),
    /// Something the archive refers to is missing.
    #[error("the image lacks {0}")]
    Missing(String),
    /// A JSON document of the image.
    #[error("the image's {0} is malformed")]
    Json(String, #[source] serde_json::Error),
    /// Contents that do not hash to what was promised.
    #[error("{what} has digest {found}, not {expected}")]
    Digest {
        /// Which contents.
        what: String,
        /// As promised.
        expected: String,
        /// As it is.
        found: String,
    },
    /// A layer.
    #[error("layer {0}")]
    Layer(String, #[source] unpack::UnpackError),
    /// The configuration.
    #[error("image configuration")]
    Config(#[source] ConfigError),
    /// No variant for this machine.
    #[error("the image has no variant for linux/{0}")]
    Platform(String),
    /// A registry.
    #[error("failed to pull image {0:?}")]
    Pull(String, #[source] PullError),
    /// A name.
    #[error(transparent)]
    Reference(#[from] reference::ReferenceError),
}

type Result<T> = std::result::Result<T, ImageError>;

fn at(path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |error| ImageError::File(path, error)
}

/// The images of a runtime.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    images: Mutex<BTreeMap<String, Image>>,
    fetches: AtomicU64,
}

/// Reads an archive into the store below a runtime's root; also while no runtime is running.
pub fn import(root: &Path, file: &Path) -> Result<Vec<Image>> {
    Store::open(root)?.import(file)
}

impl Store {
    /// The store below this root.
    pub fn open(root: &Path) -> Result<Self> {
        for directory in ["images", "layers"] {
            let directory = root.join(directory);
            fs::create_dir_all(&directory).map_err(at(&directory))?;
        }
        let store = Self { root: root.to_owned(), images: Mutex::default(), fetches: AtomicU64::new(0) };
        store.reload()?;
        Ok(store)
    }

    /// Adds the image made of this program, in place of the one made of another build.
    pub fn add_builtin(&self) -> Result<Image> {
        let _lock = self.lock_for_writing()?;
        let image = builtin::make(self)?;
        for stale in self.list().iter().filter(|i| i.source == Source::Builtin && i.id != image.id) {
            self.remove(&stale.id)?;
        }
        self.put(image)
    }

    /// Every image, by id.
    pub fn list(&self) -> Vec<Image> {
        self.lock().values().cloned().collect()
    }

    /// The image that a pod calls so: a name, a digest or an id.
    pub fn find(&self, given: &str) -> Option<Image> {
        let search = || {
            let images = self.lock();
            let full = Reference::parse(given).map(|r| r.to_string()).unwrap_or_default();
            let by_id = |i: &&Image| i.id == given || (given.len() >= 12 && i.id["sha256:".len()..].starts_with(given));
            let by_name = |i: &&Image| i.names.contains(&full) || i.digests.contains(&full);
            images.values().find(by_name).or_else(|| images.values().find(by_id)).cloned()
        };
        // Another process may have imported it.
        search().or_else(|| self.reload().ok().and_then(|()| search()))
    }

    /// Directories of its layers, the topmost first.
    pub fn layers(&self, image: &Image) -> Vec<PathBuf> {
        image.layers.iter().rev().map(|chain| self.layer(chain)).collect()
    }

    /// Reads an archive, which may hold several images.
    pub fn import(&self, file: &Path) -> Result<Vec<Image>> {
        let _lock = self.lock_for_writing()?;
        archive::read(self, file)?.into_iter().map(|image| self.put(image)).collect()
    }

    /// Forgets an image under all its names. Its layers stay until [`Store::collect`].
    pub fn remove(&self, given: &str) -> Result<bool> {
        let Some(image) = self.find(given) else { return Ok(false) };
        let record = self.record(&image.id);
        fs::remove_file(&record).or_else(ignore_missing).map_err(at(&record))?;
        self.lock().remove(&image.id);
        Ok(true)
    }

    /// Deletes layers that no image uses and that are not in `kept` (layers under running containers).
    pub fn collect(&self, kept: &BTreeSet<PathBuf>) -> Result<()> {
        // A layer just unpacked belongs to no image until its writer is done.
        let _lock = self.lock_for_writing()?;
        let directory = self.root.join("layers");
        let used: BTreeSet<String> = self.lock().values().flat_map(|i| i.layers.iter().cloned()).collect();
        for entry in fs::read_dir(&directory).map_err(at(&directory))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !used.contains(&name) && !name.starts_with('.') && !kept.contains(&entry.path().join("fs")) {
                fs::remove_dir_all(entry.path()).map_err(at(&entry.path()))?;
            }
        }
        Ok(())
    }

    /// Bytes of all layers in use.
    pub fn size(&self) -> u64 {
        self.lock().values().map(|i| i.size).sum()
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// One writer of layers at a time, in any process.
    fn lock_for_writing(&self) -> Result<Flock<File>> {
        let path = self.root.join("lock");
        let file = File::create(&path).map_err(at(&path))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| at(&path)(e.into()))
    }

    fn has_layer(&self, name: &str) -> bool {
        self.root.join("layers").join(name).join("size").exists()
    }

    /// Tells fetches of the same layer apart.
    fn fetch_number(&self) -> u64 {
        self.fetches.fetch_add(1, Ordering::Relaxed)
    }

    fn layer(&self, chain: &str) -> PathBuf {
        self.root.join("layers").join(chain).join("fs")
    }

    fn record(&self, id: &str) -> PathBuf {
        self.root.join("images").join(format!("{}.json", id.trim_start_matches("sha256:")))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Image>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload(&self) -> Result<()> {
        let mut known = self.lock();
        let directory = self.root.join("images");
        let mut images = BTreeMap::new();
        for entry in fs::read_dir(&directory).map_err(at(&directory))?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "json") {
                let bytes = fs::read(&path).map_err(at(&path))?;
                let image: Image =
                    serde_json::from_slice(&bytes).map_err(|e| ImageError::Json(path.display().to_string(), e))?;
                images.insert(image.id.clone(), image);
            }
        }
        *known = images;
        Ok(())
    }

    /// Adds an image; its names now mean it and no other one.
    fn put(&self, mut image: Image) -> Result<Image> {
        let mut images = self.lock();
        if let Some(known) = images.get(&image.id) {
            image.names.extend(known.names.iter().cloned());
            image.digests.extend(known.digests.iter().cloned());
        }
        for other in images.values_mut().filter(|i| i.id != image.id) {
            let before = other.names.len();
            other.names.retain(|name| !image.names.contains(name));
            if other.names.len() != before {
                self.write(other)?;
            }
        }
        self.write(&image)?;
        images.insert(image.id.clone(), image.clone());
        Ok(image)
    }

    fn write(&self, image: &Image) -> Result<()> {
        let path = self.record(&image.id);
        let partial = path.with_extension("partial");
        let bytes = serde_json::to_vec_pretty(image).map_err(|e| ImageError::Json(image.id.clone(), e))?;
        fs::write(&partial, bytes).map_err(at(&partial))?;
        fs::rename(&partial, &path).map_err(at(&path))
    }

    /// Unpacks the layers that are not there yet and answers their names and their bytes.
    fn unpack_layers<R: Read>(
        &self,
        diff_ids: &[String],
        mut open: impl FnMut(usize) -> Result<R>,
    ) -> Result<(Vec<String>, u64)> {
        let chain = chain_names(diff_ids);
        let mut size = 0;
        for (index, (diff_id, name)) in diff_ids.iter().zip(&chain).enumerate() {
            if !self.has_layer(name) {
                let lower: Vec<PathBuf> = chain[..index].iter().rev().map(|c| self.layer(c)).collect();
                self.unpack_layer(name, diff_id, &lower, open(index)?)?;
            }
            let size_file = self.root.join("layers").join(name).join("size");
            let text = fs::read_to_string(&size_file).map_err(at(&size_file))?;
            size += text.trim().parse::<u64>().unwrap_or(0);
        }
        Ok((chain, size))
    }

    fn unpack_layer(&self, name: &str, diff_id: &str, lower: &[PathBuf], blob: impl Read) -> Result<()> {
        let partial = self.root.join("layers").join(format!(".{name}"));
        fs::remove_dir_all(&partial).or_else(ignore_missing).map_err(at(&partial))?;
        let place = unpack::Place { upper: partial.join("fs"), work: partial.join("work"), lower };
        let unpacked = unpack::unpack(blob, &place).map_err(|e| ImageError::Layer(diff_id.to_owned(), e))?;
        if unpacked.digest != diff_id {
            fs::remove_dir_all(&partial).map_err(at(&partial))?;
            let (expected, found) = (diff_id.to_owned(), unpacked.digest);
            return Err(ImageError::Digest { what: "a layer".to_owned(), expected, found });
        }
        fs::remove_dir_all(partial.join("work")).or_else(ignore_missing).map_err(at(&partial))?;
        fs::write(partial.join("size"), unpacked.size.to_string()).map_err(at(&partial))?;
        let directory = File::open(&partial).map_err(at(&partial))?;
        rustix::fs::syncfs(directory).map_err(|e| at(&partial)(e.into()))?;
        fs::rename(&partial, self.root.join("layers").join(name)).map_err(at(&partial))
    }
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// OCI's chain ids, without their prefix: what a layer means depends on what lies below it.
fn chain_names(diff_ids: &[String]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chain.push(match chain.last() {
            None => diff_id.trim_start_matches("sha256:").to_owned(),
            Some(below) => hex(&Sha256::digest(format!("sha256:{below} {diff_id}"))),
        });
    }
    chain
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
