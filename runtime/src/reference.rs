//! Names of images: `nginx` means `docker.io/library/nginx:latest`. Pure.
//!
//! Invariant: two texts that name the same image on a registry normalize to the same [`Reference`].

use std::fmt;

/// A full name of an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Host, with a port if it has one.
    pub registry: String,
    /// Path on the registry.
    pub repository: String,
    /// Tag; `latest` when neither a tag nor a digest was given.
    pub tag: Option<String>,
    /// `sha256:…`
    pub digest: Option<String>,
}

/// Why a text names no image.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("couldn't parse image name {0:?}: invalid reference format")]
pub struct ReferenceError(String);

impl Reference {
    /// Reads a name as people write it.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let wrong = || ReferenceError(text.to_owned());
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) if is_digest(digest) => (name, Some(digest.to_owned())),
            Some(_) => return Err(wrong()),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            Some(_) | None => (name, None),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
                (host.to_owned(), path.to_owned())
            }
            Some(_) => ("docker.io".to_owned(), name.to_owned()),
            None => ("docker.io".to_owned(), format!("library/{name}")),
        };
        let tag_is_valid = tag.as_deref().is_none_or(is_tag);
        if !tag_is_valid || registry.is_empty() || !repository.split('/').all(is_path_component) {
            return Err(wrong());
        }
        let tag = if tag.is_none() && digest.is_none() { Some("latest".to_owned()) } else { tag };
        Ok(Self { registry, repository, tag, digest })
    }

    /// The name by digest, `registry/repository@digest`.
    pub fn with_digest(&self, digest: &str) -> String {
        format!("{}/{}@{digest}", self.registry, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match (&self.digest, &self.tag) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, Some(tag)) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

/// Whether the text is `sha256:` and 64 hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_path_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.bytes().next().is_some_and(word)
        && text.bytes().last().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_normalize() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (given, full) in [
            ("nginx".to_owned(), "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27".to_owned(), "docker.io/library/nginx:1.27".to_owned()),
            ("user/app".to_owned(), "docker.io/user/app:latest".to_owned()),
            ("localhost/app".to_owned(), "localhost/app:latest".to_owned()),
            ("localhost:5000/a/b:v1".to_owned(), "localhost:5000/a/b:v1".to_owned()),
            ("registry.k8s.io/pause:3.10".to_owned(), "registry.k8s.io/pause:3.10".to_owned()),
            (format!("nginx:1@{digest}"), format!("docker.io/library/nginx@{digest}")),
        ] {
            assert_eq!(Reference::parse(&given).expect("valid").to_string(), full);
        }
    }

    #[test]
    fn wrong_names_are_refused() {
        for bad in ["", "Nginx", "a//b", "nginx:", "nginx:a b", "nginx@sha256:12", "a/../b", "-x"] {
            assert_eq!(Reference::parse(bad), Err(ReferenceError(bad.to_owned())), "{bad}");
        }
    }
}
