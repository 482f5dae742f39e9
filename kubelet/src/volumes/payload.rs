//! The files of a volume whose contents come from the API.
//!
//! Entry: [`Payload`]. Invariant: a path is relative and clean (validation refuses others; here they are left out).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::KeyToPath;

use super::VolumeError;

/// The mode of files whose volume does not say.
pub const DEFAULT_MODE: i32 = 0o644;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
}

/// Files by their path inside the volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload(pub BTreeMap<String, File>);

/// What a service-account token was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenKey {
    pub audience: String,
    pub expiration_seconds: i64,
}

/// The tokens of a pod.
pub type Tokens = BTreeMap<TokenKey, String>;

impl Payload {
    /// Adds one file.
    pub fn add(&mut self, path: &str, data: Vec<u8>, mode: i32) {
        if path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return;
        }
        self.0.insert(path.to_owned(), File { data, mode: u32::try_from(mode).unwrap_or(0o644) & 0o777 });
    }

    /// Adds the keys of an object: all of them, or those that `items` names.
    pub fn add_keys(
        &mut self,
        kind: &'static str,
        data: &BTreeMap<String, Vec<u8>>,
        items: Option<&[KeyToPath]>,
        default_mode: i32,
        optional: bool,
    ) -> Result<(), VolumeError> {
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            for (key, value) in data {
                self.add(key, value.clone(), default_mode);
            }
            return Ok(());
        };
        for item in items {
            match data.get(&item.key) {
                Some(value) => self.add(&item.path, value.clone(), item.mode.unwrap_or(default_mode)),
                None if optional => {}
                None => return Err(VolumeError::NoKey { kind, key: item.key.clone() }),
            }
        }
        Ok(())
    }
}
