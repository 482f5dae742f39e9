//! Deleting one object, or all that a selection finds. What happens to each is decided in [`super::deletion`].

use std::sync::Arc;

use api::ApiError;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesOrdered;

use super::deletion::{self, Step};
use super::{Change, Decision, Place, Stored, commit};
use crate::admission::Operation;
use crate::cache::Entry;
use crate::http::options::DeleteOptions;
use crate::object::Object;
use crate::resources::Subresource;

/// How many objects of a collection are deleted at once: so many writes share the store's way to the disk.
const AT_ONCE: usize = 32;

/// How a delete ended.
pub struct Deleted {
    /// The object as it is or was last.
    pub object: Arc<dyn Object>,
    /// Whether it is gone.
    pub removed: bool,
}

/// Deletes an object, or begins to.
pub async fn delete(at: &Place<'_>, options: &DeleteOptions) -> Result<Deleted, ApiError> {
    let key = at.key(at.name);
    let mut change = Delete { at: *at, options, then_remove: false, waits: false };
    let committed = commit(at, &key, &mut change).await?;
    let (mut removed, mut object) = (committed.removed, committed.object);
    if change.then_remove && !at.dry_run {
        let mut last = Remove { uid: object.metadata().uid.clone(), strategy: at.strategy };
        match commit(at, &key, &mut last).await {
            Ok(committed) => {
                removed = committed.removed;
                object = committed.object;
            }
            Err(error) if error.is_not_found() => removed = true,
            Err(error) => return Err(error),
        }
    }
    if removed && !at.dry_run {
        at.server.services.release(at, object.as_ref()).await;
    }
    Ok(Deleted { object, removed: removed || change.then_remove })
}

struct Delete<'a> {
    at: Place<'a>,
    options: &'a DeleteOptions,
    then_remove: bool,
    waits: bool,
}

#[async_trait]
impl Change for Delete<'_> {
    async fn decide(&mut self, current: Option<&Stored>) -> Result<Decision, ApiError> {
        let at = self.at;
        let stored = current.ok_or_else(|| at.not_found())?;
        let old = stored.object.as_ref();
        deletion::check_preconditions(self.options, old.metadata(), at.info(), at.strategy.deleted_by())?;
        // An eviction was admitted as such.
        if at.subresource != Some(Subresource::Eviction) {
            at.admit(Operation::Delete, None, Some(old)).await?;
            at.check_admission(Operation::Delete, None, Some(old)).await?;
        }
        let mut object = old.clone_object();
        let step = deletion::next(at.strategy, object.as_mut(), self.options, at.server.clock.now_seconds());
        self.then_remove = step == Step::MarkAndRemove;
        self.waits = step == Step::Wait;
        Ok(match step {
            Step::Wait => Decision::Unchanged,
            Step::Mark | Step::MarkAndRemove => Decision::Write(object),
            Step::Remove => Decision::Remove(object),
        })
    }
}

/// The second half of a delete: removes the object unless it was replaced or kept meanwhile.
struct Remove<'a> {
    uid: Option<String>,
    strategy: &'a dyn crate::resources::Strategy,
}

#[async_trait]
impl Change for Remove<'_> {
    async fn decide(&mut self, current: Option<&Stored>) -> Result<Decision, ApiError> {
        Ok(match current {
            Some(stored) if stored.metadata().uid != self.uid => Decision::Unchanged,
            Some(stored) if !deletion::is_finished(self.strategy, stored.object.as_ref(), stored.metadata()) => {
                Decision::Unchanged
            }
            Some(stored) => Decision::Remove(stored.object.clone_object()),
            None => Decision::Unchanged,
        })
    }
}

/// Deletes these objects, beginning with the first; one that is gone already does not matter. After a failure no more are begun,
/// and those that were are waited for.
pub async fn delete_collection(
    at: &Place<'_>,
    entries: &[Arc<Entry>],
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let (mut waiting, mut running, mut first) = (entries.iter(), FuturesOrdered::new(), Ok(()));
    loop {
        while running.len() < AT_ONCE
            && first.is_ok()
            && let Some(entry) = waiting.next()
        {
            running.push_back(delete_entry(*at, entry, options));
        }
        let Some(done) = running.next().await else { return first };
        first = first.and(done);
    }
}

async fn delete_entry(at: Place<'_>, entry: &Entry, options: &DeleteOptions) -> Result<(), ApiError> {
    let place = Place { namespace: entry.namespace(), name: entry.name(), ..at };
    match delete(&place, options).await {
        Err(error) if error.is_not_found() => Ok(()),
        done => done.map(drop),
    }
}
