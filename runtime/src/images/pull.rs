//! Pulls images from registries, by OCI's distribution protocol over HTTPS (HTTP on this machine's own addresses).
//!
//! Manifest, configuration and layers are checked against their digests while they arrive; layers that are here
//! already are not fetched. Entry: [`Store::pull`].

mod client;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri::v1::AuthConfig;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};

use super::config::{self, Config, Manifest};
use super::source::decompressed;
use super::{Image, ImageError, Result, Source, Store, at, digest};
use crate::reference::Reference;
pub use client::PullError;
use client::{Client, Expected};

/// Layers fetched at the same time.
const AT_ONCE: usize = 3;

/// A fetched layer; its file goes when it is unpacked or not needed.
struct Fetched(Option<PathBuf>);

impl Drop for Fetched {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // The next pull writes under another name.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Store {
    /// Fetches an image from its registry.
    pub async fn pull(self: &Arc<Self>, given: &str, auth: Option<&AuthConfig>) -> Result<Image> {
        let reference = Reference::parse(given)?;
        let failed = |error| ImageError::Pull(reference.to_string(), error);
        let mut client = Client::new(&reference, auth).map_err(failed)?;
        let wanted = reference.digest.clone().or_else(|| reference.tag.clone()).unwrap_or_default();
        let mut bytes = client.manifest(&wanted).await.map_err(failed)?;
        let manifest_digest = digest(&bytes);
        let mut manifest: Manifest = parse("manifest", &bytes)?;
        if !manifest.manifests.is_empty() {
            let fitting = manifest.manifests.iter().find(|d| d.platform.is_some() && d.fits());
            let fitting = fitting.ok_or_else(|| ImageError::Platform(config::architecture().to_owned()))?;
            bytes = client.manifest(&fitting.digest).await.map_err(failed)?;
            manifest = parse("manifest", &bytes)?;
        }
        let descriptor = manifest.config.ok_or_else(|| ImageError::Missing("its configuration".to_owned()))?;
        let document = client.document(&descriptor.digest).await.map_err(failed)?;
        let config = Config::parse(&document, manifest.layers.len()).map_err(ImageError::Config)?;
        let mut fetches = Vec::new();
        for (layer, name) in manifest.layers.into_iter().zip(super::chain_names(&config.diff_ids)) {
            fetches.push(self.fetch(&client, layer.digest, name).boxed());
        }
        let layers = futures::stream::iter(fetches).buffered(AT_ONCE).try_collect::<Vec<Fetched>>().await;
        let layers = layers.map_err(failed)?;
        let store = self.clone();
        let digests = BTreeSet::from([reference.with_digest(&manifest_digest)]);
        let names =
            reference.tag.iter().filter(|_| reference.digest.is_none()).map(|_| reference.to_string()).collect();
        let entered = tokio::task::spawn_blocking(move || store.enter(&document, config, &layers, names, digests));
        entered.await.map_err(|e| at(Path::new("layers"))(io::Error::other(e)))?
    }

    /// A layer's file, unless the layer is here already.
    async fn fetch(&self, client: &Client, digest: String, name: String) -> std::result::Result<Fetched, PullError> {
        if self.has_layer(&name) {
            return Ok(Fetched(None));
        }
        let path = self.root.join(format!(".fetching-{}-{}-{name}", std::process::id(), self.fetch_number()));
        let fetched = Fetched(Some(path.clone()));
        client.blob(&digest, Expected::File(&path)).await?;
        Ok(fetched)
    }

    fn enter(
        &self,
        document: &[u8],
        config: Config,
        fetched: &[Fetched],
        names: BTreeSet<String>,
        digests: BTreeSet<String>,
    ) -> Result<Image> {
        let _lock = self.lock_for_writing()?;
        let (layers, size) = self.unpack_layers(&config.diff_ids, |index| {
            let path = fetched[index].0.as_ref().ok_or_else(|| ImageError::Missing("a layer".to_owned()))?;
            let file = std::fs::File::open(path).map_err(at(path))?;
            decompressed(io::BufReader::new(file)).map_err(at(path))
        })?;
        let (id, source, process) = (digest(document), Source::Registry, config.process);
        self.put(Image { id, names, digests, layers, size, source, process })
    }
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| ImageError::Json(name.to_owned(), e))
}
