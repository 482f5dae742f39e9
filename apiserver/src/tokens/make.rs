//! The key of a cluster that has none yet: RSA, as upstream's. Entry point: [`begin`].
//!
//! The primes take a tenth of a second or more to find, so nothing waits for them but the first token. Invariant: a key that exists
//! is never written over.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rsa::RsaPrivateKey;
use rsa::pkcs1::{EncodeRsaPrivateKey, LineEnding};
use rsa::rand_core::OsRng;

use super::Tokens;

/// As kubeadm's.
const BITS: usize = 2048;
/// Of the thread that looks for the primes: whatever starts beside it comes first.
const LOW_PRIORITY: i32 = 10;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error("no RSA key can be made")]
    Key(#[from] rsa::Error),
    #[error("the RSA key can't be written down")]
    Form(#[from] rsa::pkcs1::Error),
    #[error("can't write {0}")]
    Write(PathBuf, #[source] io::Error),
}

/// Begins to make the key that is missing, if one is, on a thread of its own; those who wait for it are told.
pub fn begin(tokens: &Arc<Tokens>) {
    let Some(file) = tokens.missing().map(Path::to_owned) else { return };
    let tokens = Arc::clone(tokens);
    let maker = thread::Builder::new().name("service-account-key".to_owned());
    let spawned = maker.spawn(move || {
        // Of this thread alone; if it can't be, the key is made all the same.
        let _ = rustix::process::setpriority_process(None, LOW_PRIORITY);
        match make(&file) {
            Ok(()) => tracing::info!(key = %file.display(), "made the service account key"),
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "service accounts have no key"),
        }
        tokens.made.notify_waiters();
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "service accounts have no key");
    }
}

fn make(file: &Path) -> Result<(), MakeError> {
    let pem = RsaPrivateKey::new(&mut OsRng, BITS)?.to_pkcs1_pem(LineEnding::LF)?;
    let partial = file.with_extension(format!("partial-{}", std::process::id()));
    let wrong = |error| MakeError::Write(file.to_owned(), error);
    let written = write(&partial, pem.as_bytes()).and_then(|()| match fs::hard_link(&partial, file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    let _ = fs::remove_file(&partial);
    written.map_err(wrong)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::KeySource;
    use crate::tokens::tests::{ISSUER, claims};
    use k8s_openapi::jiff::Timestamp;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn a_key_is_made_once_and_signs() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("sa.key");
        make(&file).expect("a key");
        let pem = fs::read_to_string(&file).expect("it is there");
        assert!(pem.starts_with("-----BEGIN RSA PRIVATE KEY-----"));
        assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
        fs::write(&file, "another's").expect("written");
        make(&file).expect("nothing to do");
        assert_eq!(fs::read_to_string(&file).expect("it is there"), "another's");
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1);

        let tokens = Tokens::new(ISSUER, &KeySource::Here { signing: pem, verifying: vec![] }).expect("tokens");
        let token = tokens.sign(&claims()).expect("a token");
        let header = jsonwebtoken::decode_header(&token).expect("a header");
        assert_eq!((header.alg, header.typ), (jsonwebtoken::Algorithm::RS256, None));
        let now = Timestamp::from_second(2000).expect("a time");
        assert!(tokens.verify(&token, &[ISSUER.to_owned()], now).is_ok());
    }
    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_the_key_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("sa.key");
        let source = KeySource::of_files(&file, std::slice::from_ref(&file)).expect("a source");
        let tokens = Tokens::new(ISSUER, &source).expect("tokens");
        let began = Instant::now();
        let maker = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
            fs::write(&file, key).expect("written");
            tokens.made.notify_waiters();
        };
        tokio::join!(tokens.ready(), maker);
        assert_eq!(began.elapsed().as_secs(), 1);
        assert!(tokens.sign(&claims()).is_ok());
    }
}
