//! Objects from files: YAML (several documents) or JSON, folders, standard input, and `kind: List` unpacked.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::resources::Resource;
use crate::session::Session;

/// `-f` and `-R`.
#[derive(Debug, Default, clap::Args)]
pub struct Files {
    /// File, folder or - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "FILE", value_delimiter = ',')]
    pub files: Vec<PathBuf>,
    /// Process folders in the folder too
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// One object and where it comes from.
#[derive(Debug)]
pub struct Manifest {
    /// For messages.
    pub source: String,
    /// The object.
    pub object: Value,
}

/// A manifest with its resource and its namespace settled.
pub struct Located<'a> {
    /// The manifest.
    pub manifest: Manifest,
    /// Its resource.
    pub resource: &'a Resource,
    /// Its namespace; empty for cluster-scoped kinds.
    pub namespace: String,
}

impl Files {
    /// Reads all objects in order.
    pub fn read(&self) -> Result<Vec<Manifest>> {
        let mut manifests = Vec::new();
        for file in &self.files {
            if file.as_os_str() == "-" {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text)?;
                parse("STDIN", &text, &mut manifests)?;
            } else {
                self.read_path(file, &mut manifests)?;
            }
        }
        if manifests.is_empty() {
            return Err(Failure::usage("no objects passed to apply").reworded(&self.files));
        }
        Ok(manifests)
    }

    fn read_path(&self, path: &Path, manifests: &mut Vec<Manifest>) -> Result<()> {
        if !path.exists() {
            return Err(Failure::usage(format!("the path \"{}\" does not exist", path.display())));
        }
        if !path.is_dir() {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
            return parse(&path.display().to_string(), &text, manifests);
        }
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
        entries.sort();
        for entry in entries {
            let is_manifest = entry
                .extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json");
            if entry.is_dir() && self.recursive || entry.is_file() && is_manifest {
                self.read_path(&entry, manifests)?;
            }
        }
        Ok(())
    }

    /// Whether any was given.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

impl Failure {
    fn reworded(self, files: &[PathBuf]) -> Self {
        match files {
            [] => Failure::usage("must specify one of -f and -k"),
            _ => self,
        }
    }
}

/// Parses a file's text into objects.
pub fn parse(source: &str, text: &str, manifests: &mut Vec<Manifest>) -> Result<()> {
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = serde_yaml::Value::deserialize(document).map_err(|error| {
            Failure::usage(format!("error parsing {source}: error converting YAML to JSON: yaml: {error}"))
        })?;
        let object =
            serde_json::to_value(value).map_err(|error| Failure::usage(format!("error parsing {source}: {error}")))?;
        add(source, object, manifests)?;
    }
    Ok(())
}

fn add(source: &str, object: Value, manifests: &mut Vec<Manifest>) -> Result<()> {
    if object.is_null() {
        return Ok(());
    }
    let unable = |why: &str| Failure::usage(format!("unable to decode \"{source}\": {why}"));
    if !object.is_object() {
        return Err(unable("an object is expected"));
    }
    for field in ["apiVersion", "kind"] {
        if object[field].as_str().is_none_or(str::is_empty) {
            let missing = if field == "kind" { "Object 'Kind' is missing" } else { "Object 'apiVersion' is missing" };
            return Err(unable(&format!("{missing} in '{object}'")));
        }
    }
    if object["kind"].as_str().is_some_and(|kind| kind.ends_with("List"))
        && let Some(items) = object["items"].as_array()
    {
        return items.iter().try_for_each(|item| add(source, item.clone(), manifests));
    }
    manifests.push(Manifest { source: source.to_owned(), object });
    Ok(())
}

impl Manifest {
    /// A text field of the metadata.
    pub fn metadata(&self, field: &str) -> &str {
        self.object["metadata"][field].as_str().unwrap_or_default()
    }

    /// Finds the resource and settles the namespace; the object gets it too.
    pub async fn locate(mut self, session: &Session) -> Result<Located<'_>> {
        let (api_version, kind) = (text(&self.object["apiVersion"]), text(&self.object["kind"]));
        let Some(resource) = session.resources().await?.for_kind(&api_version, &kind) else {
            return Err(Failure::usage(format!(
                "resource mapping not found for name: \"{}\" namespace: \"{}\" from \"{}\": no matches for kind \"{kind}\" in version \"{api_version}\"\nensure CRDs are installed first",
                self.metadata("name"),
                self.metadata("namespace"),
                self.source
            )));
        };
        if !resource.namespaced {
            return Ok(Located { manifest: self, resource, namespace: String::new() });
        }
        let own = self.metadata("namespace").to_owned();
        if !own.is_empty() && session.namespace_given && own != session.namespace {
            return Err(Failure::usage(format!(
                "the namespace from the provided object \"{own}\" does not match the namespace \"{}\". You must pass '--namespace={own}' to perform this operation.",
                session.namespace
            )));
        }
        let namespace = if own.is_empty() { session.namespace.clone() } else { own };
        self.object["metadata"]["namespace"] = namespace.clone().into();
        Ok(Located { manifest: self, resource, namespace })
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Manifest>> {
        let mut manifests = Vec::new();
        parse("f.yaml", text, &mut manifests).map(|()| manifests)
    }

    #[test]
    fn documents_and_lists_are_unpacked_in_order() {
        let text = "---\n# nothing\n---\napiVersion: v1\nkind: A\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: B}\n- {apiVersion: v1, kind: C}\n";
        let kinds: Vec<Value> =
            parsed(text).unwrap().into_iter().map(|manifest| manifest.object["kind"].clone()).collect();
        assert_eq!(kinds, ["A", "B", "C"]);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for (text, part) in [
            ("- a\n", "an object"),
            ("kind: A\n", "'apiVersion' is missing"),
            ("apiVersion: v1\n", "'Kind' is missing"),
            ("a: [\n", "yaml:"),
        ] {
            assert!(parsed(text).unwrap_err().to_string().contains(part), "{text}");
        }
    }
}
