//! Reads: one object, a page of a list, the start of a watch. Entry points: [`get`], [`list`], [`watch`].
//!
//! All answer from the watch cache's bytes. Without a resourceVersion they are linearizable: the cache first reaches what the store
//! had acknowledged. All pages of a list show one revision.

mod page;

use std::sync::Arc;
use std::time::Duration;

use api::ApiError;
use api::names::Revision;

use crate::ApiServer;
use crate::cache::{Entry, ResourceCache, Selection, Snapshot, WatchFrom, Watcher};
use crate::http::options::{ListOptions, VersionMatch};
use crate::resources::ResourceInfo;
use crate::storage::StorageError;
use page::PageToken;

/// How long a read waits for a revision that has not come yet.
const FUTURE_PATIENCE: Duration = Duration::from_secs(3);

/// Why a list failed; an expired page token comes with one that goes on at a newer revision.
#[derive(Debug)]
pub struct ListError {
    /// The error.
    pub error: ApiError,
    /// Where the list can go on.
    pub page: Option<String>,
}

impl From<ApiError> for ListError {
    fn from(error: ApiError) -> Self {
        Self { error, page: None }
    }
}

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    /// The objects in key order.
    pub entries: Vec<Arc<Entry>>,
    /// The state that the whole list shows.
    pub revision: Revision,
    /// The token of the next page; empty after the last one.
    pub next: String,
    /// How many objects follow, where that can be told.
    pub remaining: Option<u64>,
}

/// The cache of a resource.
pub fn cache_of(server: &ApiServer, info: &ResourceInfo) -> Result<Arc<ResourceCache>, ApiError> {
    let found = server.cache.resource(&info.key_prefix());
    found.ok_or_else(|| ApiError::too_many_requests("storage is (re)initializing", 1))
}

/// One object as of the revision asked for or later.
pub async fn get(
    server: &ApiServer,
    info: &ResourceInfo,
    key: &str,
    name: &str,
    version: &str,
) -> Result<Arc<Entry>, ApiError> {
    match version {
        "" => drop(server.cache.fresh().await.map_err(storage_error)?),
        version => wait_for(server, parse_version(version).map_err(ApiError::unclassified)?).await?,
    }
    let found = cache_of(server, info)?.get(key);
    found.ok_or_else(|| ApiError::not_found(&info.group_resource(), name))
}

/// A page of the selected objects.
pub async fn list(
    server: &ApiServer,
    info: &ResourceInfo,
    selection: &Selection,
    options: &ListOptions,
) -> Result<Page, ListError> {
    let cache = cache_of(server, info)?;
    let namespace_prefix = selection_prefix(info, selection);
    if !options.page.is_empty() {
        if !matches!(options.resource_version.as_str(), "" | "0") {
            return Err(ApiError::bad_request("specifying resource version is not allowed when using continue").into());
        }
        let token = PageToken::decode(&options.page)?;
        let snapshot = page_snapshot(server, &cache, &token).await?;
        let after = token.after(&namespace_prefix);
        return Ok(cut(&snapshot, selection, options, Some(&after), &namespace_prefix));
    }
    let snapshot = match (options.resource_version.as_str(), options.version_match) {
        ("", _) => {
            server.cache.fresh().await.map_err(storage_error)?;
            cache.snapshot()
        }
        (version, matching) => {
            let revision = parse_version(version)
                .map_err(|why| ApiError::bad_request(format!("invalid resource version: {why}")))?;
            wait_for(server, revision).await?;
            let exact =
                matching == Some(VersionMatch::Exact) || (matching.is_none() && options.limit > 0 && revision.0 > 0);
            if exact { exact_snapshot(&cache, revision).await? } else { cache.snapshot() }
        }
    };
    Ok(cut(&snapshot, selection, options, None, &namespace_prefix))
}

fn cut(snapshot: &Snapshot, selection: &Selection, options: &ListOptions, after: Option<&str>, prefix: &str) -> Page {
    let limit = if options.limit == 0 || options.resource_version == "0" { usize::MAX } else { options.limit };
    let mut selected = snapshot.select(selection, after);
    let entries: Vec<Arc<Entry>> = selected.by_ref().take(limit).map(Arc::clone).collect();
    let revision = snapshot.revision;
    let last = entries.last().filter(|_| entries.len() == limit);
    let (Some(last), Some(_)) = (last, selected.next()) else {
        return Page { entries, revision, next: String::new(), remaining: None };
    };
    let next = PageToken::new(revision, &last.key, prefix).encode();
    let remaining = (!selection.has_selectors()).then(|| 1 + selected.count() as u64);
    Page { next, remaining, revision, entries }
}

async fn page_snapshot(server: &ApiServer, cache: &ResourceCache, token: &PageToken) -> Result<Snapshot, ListError> {
    let Some(revision) = token.revision else {
        server.cache.fresh().await.map_err(storage_error)?;
        return Ok(cache.snapshot());
    };
    wait_for(server, revision).await?;
    match cache.snapshot_at(revision).await {
        Ok(snapshot) => Ok(snapshot),
        Err(StorageError::Compacted { .. }) => {
            Err(ListError { error: ApiError::expired(page::EXPIRED), page: Some(token.inconsistent().encode()) })
        }
        Err(error) => Err(storage_error(error).into()),
    }
}

async fn exact_snapshot(cache: &ResourceCache, revision: Revision) -> Result<Snapshot, ApiError> {
    match cache.snapshot_at(revision).await {
        Err(StorageError::Compacted { .. }) => {
            Err(ApiError::expired("The resourceVersion for the provided list is too old."))
        }
        other => other.map_err(storage_error),
    }
}

/// The keys of a list begin with this; page tokens hold what follows.
fn selection_prefix(info: &ResourceInfo, selection: &Selection) -> String {
    info.namespace_prefix(selection.requested_namespace().unwrap_or_default())
}

/// How a watch begins.
pub enum Started {
    /// With events.
    Watching(Watcher),
    /// With the news that there is no such revision, any more or yet: what goes wrong once the revision is read is an event.
    Failed(ApiError),
}

/// Starts a watch as the options ask.
pub async fn watch(
    server: &ApiServer,
    info: &ResourceInfo,
    selection: Selection,
    options: &ListOptions,
) -> Result<Started, ApiError> {
    let cache = cache_of(server, info)?;
    let version = match options.resource_version.as_str() {
        "" => None,
        text => Some(parse_version(text).map_err(ApiError::unclassified)?),
    };
    let state = WatchFrom::State { end_bookmark: options.send_initial_events == Some(true) && options.bookmarks };
    let from = match (options.send_initial_events, version) {
        (Some(true), Some(revision)) => match wait_for(server, revision).await {
            Ok(()) => state,
            Err(error) => return Ok(Started::Failed(error)),
        },
        (Some(true) | None, None) => {
            server.cache.fresh().await.map_err(storage_error)?;
            state
        }
        (None, Some(Revision(0))) => state,
        (Some(false), None) => WatchFrom::After(server.cache.fresh().await.map_err(storage_error)?),
        (Some(false), Some(Revision(0))) => WatchFrom::After(server.cache.revision()),
        (Some(false) | None, Some(revision)) => WatchFrom::After(revision),
    };
    Ok(match cache.watch(from, selection) {
        Ok(watcher) => Started::Watching(watcher),
        Err(expired) => Started::Failed(ApiError::expired(expired.to_string())),
    })
}

async fn wait_for(server: &ApiServer, revision: Revision) -> Result<(), ApiError> {
    let waited = server.cache.wait_for(revision, FUTURE_PATIENCE).await;
    waited.map_err(|behind| ApiError::too_large_resource_version(behind.asked.0, behind.current.0))
}

/// Reads a resourceVersion; the error is upstream's text.
pub fn parse_version(text: &str) -> Result<Revision, String> {
    Revision::parse(text).ok_or_else(|| {
        let quoted = api::field::go_quote(text);
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let why = if digits { "value out of range" } else { "invalid syntax" };
        format!("resourceVersion: Invalid value: {quoted}: strconv.ParseUint: parsing {quoted}: {why}")
    })
}

/// What clients see of a failure of the store.
pub fn storage_error(error: StorageError) -> ApiError {
    match error {
        StorageError::Compacted { .. } => ApiError::expired("The resourceVersion for the provided watch is too old."),
        StorageError::Future { newest } => ApiError::too_large_resource_version(newest.0 + 1, newest.0),
        StorageError::Unavailable(_) | StorageError::Failed(_) => ApiError::internal(error),
    }
}
