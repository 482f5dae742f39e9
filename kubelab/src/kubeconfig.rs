//! kubeconfig files: those of the components, and the user's own, into which a cluster's context is merged without touching the rest.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_yaml::{Mapping, Value};

use crate::pki::Pair;

/// The file that kubectl would write: `--kubeconfig`, the first of `$KUBECONFIG`, or `~/.kube/config`.
pub fn users_file(flag: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = flag {
        return Ok(std::path::absolute(path)?);
    }
    let listed = std::env::var_os("KUBECONFIG").unwrap_or_default();
    if let Some(first) = std::env::split_paths(&listed).find(|path| !path.as_os_str().is_empty()) {
        return Ok(std::path::absolute(first)?);
    }
    let home = std::env::var_os("HOME").context("HOME is not set; say where the kubeconfig is with --kubeconfig")?;
    Ok(Path::new(&home).join(".kube").join("config"))
}

/// Writes a kubeconfig with one context.
pub fn write(path: &Path, name: &str, server: &str, ca: &Path, client: &Pair) -> Result<()> {
    let mut config = empty();
    set_context(&mut config, name, server, ca, client)?;
    save(path, &config)
}

/// Adds (or replaces) the cluster's context in the user's file and makes it the current one.
pub fn merge(path: &Path, name: &str, server: &str, ca: &Path, client: &Pair) -> Result<()> {
    let mut config = load(path)?.unwrap_or_else(empty);
    set_context(&mut config, name, server, ca, client)?;
    save(path, &config)
}

/// Takes the cluster's context out of the user's file.
pub fn remove(path: &Path, name: &str) -> Result<()> {
    let Some(mut config) = load(path)? else { return Ok(()) };
    for list in ["clusters", "users", "contexts"] {
        if let Some(entries) = config.get_mut(list).and_then(Value::as_sequence_mut) {
            entries.retain(|entry| entry.get("name").and_then(Value::as_str) != Some(name));
        }
    }
    if config.get("current-context").and_then(Value::as_str) == Some(name) {
        config.insert("current-context".into(), "".into());
    }
    save(path, &config)
}

fn empty() -> Mapping {
    let mut config = Mapping::new();
    config.insert("apiVersion".into(), "v1".into());
    config.insert("kind".into(), "Config".into());
    config.insert("preferences".into(), Value::Mapping(Mapping::new()));
    config
}

fn load(path: &Path) -> Result<Option<Mapping>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("can't read {}", path.display())),
    };
    match serde_yaml::from_str(&text) {
        Ok(Value::Mapping(config)) => Ok(Some(config)),
        Ok(Value::Null) => Ok(None),
        _ => bail!("{} is not a kubeconfig; mend it or name another file with --kubeconfig", path.display()),
    }
}

fn set_context(config: &mut Mapping, name: &str, server: &str, ca: &Path, client: &Pair) -> Result<()> {
    let cluster = mapping([("certificate-authority-data", encoded(ca)?), ("server", server.to_owned())]);
    let user =
        mapping([("client-certificate-data", encoded(&client.cert)?), ("client-key-data", encoded(&client.key)?)]);
    let context = mapping([("cluster", name.to_owned()), ("user", name.to_owned())]);
    for (list, field, value) in
        [("clusters", "cluster", cluster), ("users", "user", user), ("contexts", "context", context)]
    {
        let entries = config.entry(list.into()).or_insert_with(|| Value::Sequence(vec![]));
        if entries.is_null() {
            *entries = Value::Sequence(vec![]);
        }
        let Some(entries) = entries.as_sequence_mut() else { bail!("`{list}` in the kubeconfig is not a list") };
        entries.retain(|entry| entry.get("name").and_then(Value::as_str) != Some(name));
        let mut entry = mapping([("name", name.to_owned())]);
        entry.insert(field.into(), Value::Mapping(value));
        entries.push(Value::Mapping(entry));
    }
    config.insert("current-context".into(), name.into());
    Ok(())
}

fn mapping<const N: usize>(entries: [(&str, String); N]) -> Mapping {
    entries.into_iter().map(|(key, value)| (Value::from(key), Value::from(value))).collect()
}

fn encoded(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
    Ok(STANDARD.encode(bytes))
}

fn save(path: &Path, config: &Mapping) -> Result<()> {
    use std::io::Write;
    let folder = path.parent().context("the kubeconfig path has no folder")?;
    fs::create_dir_all(folder).with_context(|| format!("can't create {}", folder.display()))?;
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let mut options = fs::OpenOptions::new();
    let file = options.create(true).write(true).truncate(true).mode(0o600).open(&partial);
    let mut file = file.with_context(|| format!("can't write {}", Path::new(&partial).display()))?;
    file.write_all(serde_yaml::to_string(config)?.as_bytes())?;
    fs::rename(&partial, path).with_context(|| format!("can't write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(dir: &Path) -> Pair {
        let pair = Pair { cert: dir.join("c"), key: dir.join("k") };
        fs::write(&pair.cert, "C").unwrap();
        fs::write(&pair.key, "K").unwrap();
        pair
    }

    #[test]
    fn merging_keeps_what_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        let theirs =
            "clusters:\n- name: other\n  cluster: {server: https://x, extra: 1}\nusers: null\ncurrent-context: other\n";
        fs::write(&file, theirs).unwrap();
        let pair = pair(dir.path());
        merge(&file, "lab", "https://127.0.0.1:1", &pair.cert, &pair).unwrap();
        let config = load(&file).unwrap().unwrap();
        assert_eq!(config["clusters"][0]["cluster"]["extra"], 1);
        assert_eq!(config["clusters"][1]["cluster"]["server"], "https://127.0.0.1:1");
        assert_eq!(config["current-context"], "lab");
        remove(&file, "lab").unwrap();
        let config = load(&file).unwrap().unwrap();
        assert_eq!(config["clusters"].as_sequence().unwrap().len(), 1);
        assert_eq!(config["current-context"], "");
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        fs::write(&file, "- a list\n").unwrap();
        let pair = pair(dir.path());
        assert!(merge(&file, "lab", "https://127.0.0.1:1", &pair.cert, &pair).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "- a list\n");
    }
}
