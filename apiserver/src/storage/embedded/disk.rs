//! The file: one table of writes by revision, kept by redb. A write is a record; compaction removes records that nobody can read.
//!
//! Invariants: every revision from `oldest` on has its record, so history after a restart is what it was before; of what is
//! older there are at least the records that hold the present values. A transaction is on disk when `commit` returns, or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use api::names::Revision;
use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use super::super::deadlines::Deadlines;
use super::super::index::{EMPTY, Index};
use super::super::{KeyValue, StorageError};

/// The name of the file in its directory.
const FILE: &str = "store.redb";
/// Of the file's pages, kept in memory by redb. Small: all values are in the index anyway.
const CACHE_BYTES: usize = 4 << 20;
/// What `meta/format` holds; another number is another program's, or a later version's.
const FORMAT: u64 = 1;

const RECORDS: TableDefinition<u64, &[u8]> = TableDefinition::new("records");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// One write: a value for a key, or its deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) revision: Revision,
    pub(super) key: String,
    pub(super) value: Option<Bytes>,
    /// When the key expires, in milliseconds since 1970.
    pub(super) deadline: Option<i64>,
}

/// What a file held when it was opened.
pub(super) struct Loaded {
    pub(super) index: Index,
    pub(super) deadlines: Deadlines<i64>,
    /// Records that nobody can read any more.
    pub(super) garbage: Vec<Revision>,
}

/// The open, locked file.
pub(super) struct Disk {
    database: Database,
}

impl Disk {
    /// Opens or makes the file and reads it all.
    pub(super) fn open(dir: &Path) -> Result<(Self, Loaded), StorageError> {
        let path = dir.join(FILE);
        let new = prepare(dir, &path)?;
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(!new)
            .create(&path)
            .map_err(|error| StorageError::Failed(open_failure(&path, &error)))?;
        if new {
            let failed =
                |error: std::io::Error| StorageError::Failed(format!("{} can't be made: {error}", path.display()));
            fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        }
        Self::read(database, new, &path)
    }

    /// Reads all that an open file holds; a new one gets its tables first.
    fn read(database: Database, new: bool, path: &Path) -> Result<(Self, Loaded), StorageError> {
        let disk = Self { database };
        let failed = |error: redb::Error| StorageError::Failed(format!("{} can't be read: {error}", path.display()));
        if new {
            disk.format().map_err(failed)?;
        }
        let foreign = || {
            StorageError::Failed(format!("{} is not a store of this program, or of a later version", path.display()))
        };
        let (format, oldest) = disk.meta().map_err(|error| match error {
            redb::Error::TableDoesNotExist(_) => foreign(),
            error => failed(error),
        })?;
        if format != Some(FORMAT) {
            return Err(foreign());
        }
        let loaded = disk
            .load(oldest)
            .map_err(failed)?
            .ok_or_else(|| StorageError::Failed(format!("{} is damaged", path.display())))?;
        Ok((disk, loaded))
    }

    /// Makes one durable transaction: adds records, removes others, sets the oldest readable revision.
    pub(super) fn commit(
        &self,
        records: &[Record],
        remove: &[Revision],
        oldest: Option<Revision>,
    ) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(RECORDS)?;
            for record in records {
                table.insert(record.revision.0, record.encode().as_slice())?;
            }
            for revision in remove {
                table.remove(revision.0)?;
            }
            if let Some(oldest) = oldest {
                transaction.open_table(META)?.insert("oldest", oldest.0)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn format(&self) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        transaction.open_table(RECORDS)?;
        transaction.open_table(META)?.insert("format", FORMAT)?;
        transaction.commit()?;
        Ok(())
    }

    fn meta(&self) -> Result<(Option<u64>, Revision), redb::Error> {
        let meta = self.database.begin_read()?.open_table(META)?;
        let oldest = meta.get("oldest")?.map_or(EMPTY, |oldest| Revision(oldest.value()));
        Ok((meta.get("format")?.map(|format| format.value()), oldest))
    }

    /// None when the records are not what this program writes.
    fn load(&self, oldest: Revision) -> Result<Option<Loaded>, redb::Error> {
        let table = self.database.begin_read()?.open_table(RECORDS)?;
        let mut loading = Loading::new(oldest);
        for row in table.iter()? {
            let (revision, bytes) = row?;
            let Some(record) = Record::decode(Revision(revision.value()), bytes.value()) else { return Ok(None) };
            if !loading.add(record) {
                return Ok(None);
            }
        }
        Ok(loading.finish())
    }
}

/// Whether there is no file yet; its directory is made.
fn prepare(dir: &Path, path: &Path) -> Result<bool, StorageError> {
    let failed =
        |error: std::io::Error| StorageError::Failed(format!("can't use {} as data directory: {error}", dir.display()));
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    if path.try_exists().map_err(failed)? {
        // A crash while the file was made leaves an empty one.
        return Ok(fs::metadata(path).map_err(failed)?.len() == 0);
    }
    let mut others =
        fs::read_dir(dir).map_err(failed)?.filter_map(Result::ok).filter(|entry| entry.file_name() != "lost+found");
    match others.next() {
        None => Ok(true),
        Some(_) => Err(StorageError::Failed(format!(
            "{} is not empty and holds no store; name an empty directory",
            dir.display()
        ))),
    }
}

fn open_failure(path: &Path, error: &DatabaseError) -> String {
    let path = path.display();
    match error {
        DatabaseError::DatabaseAlreadyOpen => format!("{path} is in use by another process"),
        DatabaseError::Storage(redb::StorageError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
            format!("{path} is not a store of this program, or damaged")
        }
        error => format!("{path} can't be opened: {error}"),
    }
}

/// Builds the index from records in revision order.
struct Loading {
    oldest: Revision,
    /// The last write before `oldest` of each key.
    base: BTreeMap<String, Record>,
    /// Made when the first record of the history comes.
    index: Option<Index>,
    deadlines: Deadlines<i64>,
    garbage: Vec<Revision>,
}

impl Loading {
    fn new(oldest: Revision) -> Self {
        Self { oldest, base: BTreeMap::new(), index: None, deadlines: Deadlines::new(), garbage: Vec::new() }
    }

    /// False when a revision is missing.
    fn add(&mut self, record: Record) -> bool {
        self.deadlines.set(&record.key, record.deadline);
        if record.revision < self.oldest {
            let superseded = self.base.insert(record.key.clone(), record);
            self.garbage.extend(superseded.map(|record| record.revision));
            return true;
        }
        self.history().apply(&record.key, record.value) == record.revision
    }

    /// None when the history does not reach back as far as it must.
    fn finish(mut self) -> Option<Loaded> {
        let complete = self.history().revision() >= self.oldest;
        let Self { index, deadlines, garbage, .. } = self;
        index.filter(|_| complete).map(|index| Loaded { index, deadlines, garbage })
    }

    /// The index, which begins with what was there before the history.
    fn history(&mut self) -> &mut Index {
        let (oldest, base, garbage) = (self.oldest, &mut self.base, &mut self.garbage);
        self.index.get_or_insert_with(|| {
            // An empty store has a revision without a record; any other has one for `oldest`.
            let before = if oldest == EMPTY { EMPTY } else { Revision(oldest.0 - 1) };
            let mut index = Index::restored(before, oldest);
            for record in std::mem::take(base).into_values() {
                match record.value {
                    Some(value) => index.restore(KeyValue { key: record.key, value, revision: record.revision }),
                    None => garbage.push(record.revision),
                }
            }
            index
        })
    }
}

impl Record {
    /// Deadline (8 bytes, 0 is none), length of the key (4), 1 if there is a value, the key, the value.
    fn encode(&self) -> Vec<u8> {
        let value = self.value.as_deref().unwrap_or_default();
        let mut bytes = Vec::with_capacity(13 + self.key.len() + value.len());
        bytes.extend_from_slice(&self.deadline.unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&(self.key.len() as u32).to_le_bytes());
        bytes.push(u8::from(self.value.is_some()));
        bytes.extend_from_slice(self.key.as_bytes());
        bytes.extend_from_slice(value);
        bytes
    }

    fn decode(revision: Revision, bytes: &[u8]) -> Option<Self> {
        let (deadline, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (present, rest) = rest.split_first()?;
        let (key, value) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        Some(Self {
            revision,
            key: String::from_utf8(key.to_vec()).ok()?,
            value: (*present == 1).then(|| Bytes::copy_from_slice(value)),
            deadline: Some(i64::from_le_bytes(*deadline)).filter(|deadline| *deadline != 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use process::Rng;
    use redb::StorageBackend;

    use super::*;

    /// The atom of a write: a power cut leaves it old or new.
    const SECTOR: usize = 512;

    /// A disk that loses, when the power is cut, any part of what was written since the last sync.
    #[derive(Clone, Debug, Default)]
    struct Platter(Arc<Mutex<Sectors>>);

    #[derive(Clone, Debug, Default)]
    struct Sectors {
        durable: Vec<u8>,
        written: Vec<u8>,
    }

    impl Platter {
        fn cut_power(&self, rng: &Rng) -> Self {
            let sectors = self.0.lock().expect("lock");
            let mut left = if rng.range(0..2) == 0 { sectors.durable.clone() } else { sectors.written.clone() };
            for at in (0..left.len()).step_by(SECTOR) {
                let end = (at + SECTOR).min(left.len());
                let source = if rng.range(0..2) == 0 { &sectors.durable } else { &sectors.written };
                let zeros = vec![0; end - at];
                let source = source.get(at..end).unwrap_or(&zeros);
                left[at..end].copy_from_slice(source);
            }
            Self(Arc::new(Mutex::new(Sectors { durable: left.clone(), written: left })))
        }

        fn open(&self, new: bool) -> (Disk, Loaded) {
            let database = Database::builder().create_with_backend(self.clone()).expect("the store opens");
            Disk::read(database, new, Path::new("platter")).expect("the store is whole")
        }
    }

    impl StorageBackend for Platter {
        fn len(&self) -> io::Result<u64> {
            Ok(self.0.lock().expect("lock").written.len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            let at = offset as usize;
            let sectors = self.0.lock().expect("lock");
            out.copy_from_slice(sectors.written.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.lock().expect("lock").written.resize(len as usize, 0);
            Ok(())
        }

        fn sync_data(&self) -> io::Result<()> {
            let mut sectors = self.0.lock().expect("lock");
            sectors.durable = sectors.written.clone();
            Ok(())
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.lock().expect("lock").written[offset as usize..][..data.len()].copy_from_slice(data);
            Ok(())
        }
    }

    /// What is acknowledged survives a power cut right after it, whatever of later writes reached the disk.
    #[test]
    fn a_commit_survives_a_power_cut() {
        let rng = Rng::seeded(7);
        let mut platter = Platter::default();
        let mut acknowledged = Vec::new();
        let (mut disk, _) = platter.open(true);
        for n in 0..60 {
            let value = Bytes::from(vec![b'a' + (n % 26) as u8; rng.range(1..3000) as usize]);
            let record =
                Record { revision: Revision(2 + n), key: format!("/k/{}", n % 7), value: Some(value), deadline: None };
            disk.commit(std::slice::from_ref(&record), &[], None).expect("commit");
            acknowledged.push(record);
            if n % 3 == 0 {
                platter = platter.cut_power(&rng);
                drop(disk);
                let loaded;
                (disk, loaded) = platter.open(false);
                assert_eq!(loaded.index.revision(), Revision(2 + n));
                for record in acknowledged.iter().rev().take(7) {
                    let found = loaded.index.get(&record.key).expect("acknowledged");
                    assert_eq!((Some(found.value), found.revision), (record.value.clone(), record.revision));
                }
            }
        }
    }

    #[test]
    fn records_come_back_as_they_were() {
        let table = [
            ("/a", Some("value"), None),
            ("/a", Some(""), Some(17)),
            ("/é", None, None),
            ("", Some("x"), Some(i64::MAX)),
        ];
        for (key, value, deadline) in table {
            let value = value.map(|value: &str| Bytes::copy_from_slice(value.as_bytes()));
            let record = Record { revision: Revision(9), key: key.into(), value, deadline };
            assert_eq!(Record::decode(Revision(9), &record.encode()), Some(record));
        }
        for damaged in [&b""[..], &[0; 12], &[0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, b'a']] {
            assert_eq!(Record::decode(Revision(1), damaged), None);
        }
    }
}
