//! Reads image archives: `docker save`'s form and OCI layouts, as a tar (plain, gzip, zstd) or a directory.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use super::config::{self, Config, Descriptor, DockerManifest, Manifest};
use super::source::{Files, decompressed};
use super::{Image, ImageError, Result, Source, Store, at, digest};
use crate::reference::Reference;

/// JSON documents of an image are small; a larger one is none.
const LARGEST_DOCUMENT: u64 = 16 << 20;

/// Unpacks what is missing and answers the images; the caller enters them into the store.
pub fn read(store: &Store, path: &Path) -> Result<Vec<Image>> {
    let archive = Archive { files: Files::open(path, store.root()).map_err(at(path))?, path, store };
    if let Some(bytes) = archive.document("manifest.json")? {
        let manifests: Vec<DockerManifest> = parse("manifest.json", &bytes)?;
        return manifests.iter().map(|manifest| archive.docker_image(manifest)).collect();
    }
    match archive.document("index.json")? {
        Some(bytes) => archive.layout(&parse("index.json", &bytes)?),
        None => Err(ImageError::NotAnArchive(path.to_owned())),
    }
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| ImageError::Json(name.to_owned(), e))
}

struct Archive<'a> {
    files: Files,
    path: &'a Path,
    store: &'a Store,
}

impl Archive<'_> {
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(reader) = self.files.get(name).map_err(at(self.path))? else { return Ok(None) };
        let mut bytes = Vec::new();
        reader.take(LARGEST_DOCUMENT).read_to_end(&mut bytes).map_err(at(self.path))?;
        Ok(Some(bytes))
    }

    fn needed(&self, name: &str) -> Result<Vec<u8>> {
        self.document(name)?.ok_or_else(|| ImageError::Missing(name.to_owned()))
    }

    /// A blob of a layout, checked against its digest.
    fn blob(&self, expected: &str) -> Result<Vec<u8>> {
        let bytes = self.needed(&blob_path(expected))?;
        let found = digest(&bytes);
        if found == expected {
            return Ok(bytes);
        }
        Err(ImageError::Digest { what: "a document".to_owned(), expected: expected.to_owned(), found })
    }

    fn docker_image(&self, manifest: &DockerManifest) -> Result<Image> {
        let names = manifest.repo_tags.iter().flatten().map(|name| Ok(Reference::parse(name)?.to_string()));
        let names = names.collect::<Result<BTreeSet<_>>>()?;
        self.image(&self.needed(&manifest.config)?, &manifest.layers, names, BTreeSet::new())
    }

    fn layout(&self, index: &Manifest) -> Result<Vec<Image>> {
        let images = index.manifests.iter().map(|descriptor| self.layout_image(descriptor));
        let images = images.filter_map(Result::transpose).collect::<Result<Vec<_>>>()?;
        match images.is_empty() {
            true => Err(ImageError::Platform(config::architecture().to_owned())),
            false => Ok(images),
        }
    }

    /// The image behind a descriptor; none when it is for another machine.
    fn layout_image(&self, descriptor: &Descriptor) -> Result<Option<Image>> {
        if !descriptor.fits() {
            return Ok(None);
        }
        let mut manifest: Manifest = parse("manifest", &self.blob(&descriptor.digest)?)?;
        if let Some(fitting) = manifest.manifests.iter().find(|d| d.platform.is_some() && d.fits()) {
            manifest = parse("manifest", &self.blob(&fitting.digest)?)?;
        }
        let Some(config) = &manifest.config else { return Ok(None) };
        let layers: Vec<String> = manifest.layers.iter().map(|l| blob_path(&l.digest)).collect();
        let reference = descriptor.name().map(Reference::parse).transpose()?;
        let names = reference.iter().map(ToString::to_string).collect();
        let digests = reference.iter().map(|r| r.with_digest(&descriptor.digest)).collect();
        self.image(&self.blob(&config.digest)?, &layers, names, digests).map(Some)
    }

    fn image(
        &self,
        document: &[u8],
        layers: &[String],
        names: BTreeSet<String>,
        digests: BTreeSet<String>,
    ) -> Result<Image> {
        let config = Config::parse(document, layers.len()).map_err(ImageError::Config)?;
        let (chain, size) = self.store.unpack_layers(&config.diff_ids, |index| {
            let blob = self.files.get(&layers[index]).map_err(at(self.path))?;
            let blob = blob.ok_or_else(|| ImageError::Missing(layers[index].clone()))?;
            decompressed(blob).map_err(at(self.path))
        })?;
        Ok(Image {
            id: digest(document),
            names,
            digests,
            layers: chain,
            size,
            source: Source::File,
            process: config.process,
        })
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}
