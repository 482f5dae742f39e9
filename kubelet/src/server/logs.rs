//! `GET /containerLogs/…`: the log of a container, from the past or as it comes.
//!
//! Entry: [`serve`]. Invariants: nothing is polled: following waits for inotify and for the container's end; a slow
//! client slows only its own stream.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cri::v1::{ContainerEventType, GetEventsRequest};
use http::StatusCode;
use jiff::SignedDuration;
use nix::sys::inotify::AddWatchFlags;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::log_file::{Filter, files, start_of_tail};
use super::streams::parse_query;
use super::{Refusal, find_pod};
use crate::directory_watch::DirectoryWatch;
use crate::shared::Shared;
use crate::view::{ContainerView, RunState};

const CHUNK: usize = 64 * 1024;
/// Chunks on their way to a client.
const WAITING: usize = 8;

/// What a client asks for.
#[derive(Debug, Default)]
struct Options {
    follow: bool,
    previous: bool,
    tail: Option<u64>,
    limit: Option<u64>,
    filter: Filter,
}

impl Options {
    fn of(query: &str, now: jiff::Timestamp) -> Result<Self, Refusal> {
        let mut options = Self::default();
        let bad = |key: &str, value: &str| {
            Refusal(StatusCode::BAD_REQUEST, format!("invalid value \"{value}\" for parameter {key}"))
        };
        for (key, value) in parse_query(query) {
            let on = matches!(value.as_str(), "true" | "1");
            let number = || value.parse::<u64>().map_err(|_| bad(&key, &value));
            match key.as_str() {
                "follow" => options.follow = on,
                "previous" => options.previous = on,
                "timestamps" => options.filter.timestamps = on,
                "tailLines" => options.tail = Some(number()?),
                "limitBytes" => options.limit = Some(number()?),
                "sinceSeconds" => {
                    let seconds = i64::try_from(number()?).unwrap_or(i64::MAX);
                    options.filter.since = now.checked_sub(SignedDuration::from_secs(seconds)).ok();
                }
                "sinceTime" => options.filter.since = Some(value.parse().map_err(|_| bad(&key, &value))?),
                "stream" => options.filter.stream = Some(value).filter(|stream| stream != "All"),
                _ => {}
            }
        }
        Ok(options)
    }
}

/// Answers with the log.
pub(super) async fn serve(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let options = Options::of(request.uri().query().unwrap_or_default(), shared.clock.now())?;
    let found = find_pod(&shared, &namespace, &pod)?;
    let known = crate::members::members(&found).iter().any(|member| member.name() == container);
    if !known {
        let text = format!("container \"{container}\" in pod \"{pod}\" is not available");
        return Err(Refusal(StatusCode::NOT_FOUND, text));
    }
    let uid = found.metadata.uid.clone().unwrap_or_default();
    let internal = |text: &str| Refusal(StatusCode::INTERNAL_SERVER_ERROR, text.to_owned());
    // Listened to before the state is looked at, so that no end is missed.
    let events = if options.follow {
        let stream = shared.runtime.runtime.clone().get_container_events(GetEventsRequest {}).await;
        Some(stream.map_err(|status| internal(status.message()))?.into_inner())
    } else {
        None
    };
    let view = shared.runtime.observe(&uid).await.map_err(|status| internal(status.message()))?;
    let run = pick(&view, &container, options.previous).ok_or_else(|| absent(&pod, &container, options.previous))?;
    let path = log_path(&shared, &namespace, &pod, &uid, run);
    let (sender, receiver) = mpsc::channel(WAITING);
    let mut reader = Reader { sender, left: options.limit, filter: options.filter.clone() };
    let follow = options.follow && run.is_running();
    let id = run.id.clone();
    tokio::spawn(async move {
        // An error here is a client that went away, or a log that did.
        if let Err(error) = read(&mut reader, &path, options.tail, follow, &id, events).await {
            tracing::debug!(%error, path = %path.display(), "log stream ended");
        }
    });
    let headers = [(http::header::CONTENT_TYPE, "text/plain")];
    Ok((headers, Body::from_stream(ReceiverStream::new(receiver))).into_response())
}

fn pick<'a>(view: &'a crate::view::PodView, name: &str, previous: bool) -> Option<&'a ContainerView> {
    let newest = view.newest(name)?;
    if !previous {
        return Some(newest).filter(|run| run.state != RunState::Created);
    }
    view.previous(name)
}

fn absent(pod: &str, container: &str, previous: bool) -> Refusal {
    let text = if previous {
        format!("previous terminated container \"{container}\" in pod \"{pod}\" not found")
    } else {
        format!("container \"{container}\" in pod \"{pod}\" is waiting to start: ContainerCreating")
    };
    Refusal(StatusCode::BAD_REQUEST, text)
}

fn log_path(shared: &Shared, namespace: &str, pod: &str, uid: &str, run: &ContainerView) -> PathBuf {
    let given = PathBuf::from(&run.log_path);
    if given.is_absolute() {
        return given;
    }
    let directory = shared.config.pod_log_dir(namespace, pod, uid).unwrap_or_default();
    directory.join(&run.name).join(format!("{}.log", run.restart_count))
}

/// Sends lines to one client.
struct Reader {
    sender: mpsc::Sender<Result<Bytes, io::Error>>,
    left: Option<u64>,
    filter: Filter,
}

impl Reader {
    /// Sends the complete lines of a buffer and keeps the rest in it; false when the client has enough.
    async fn send(&mut self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        let Some(end) = buffer.iter().rposition(|byte| *byte == b'\n') else { return Ok(true) };
        let rest = buffer.split_off(end + 1);
        let mut out = Vec::with_capacity(buffer.len());
        for line in buffer[..end].split(|byte| *byte == b'\n') {
            out.extend(self.filter.apply(line).unwrap_or_default());
        }
        *buffer = rest;
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
        }
        if !out.is_empty() {
            self.sender.send(Ok(Bytes::from(out))).await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(self.left != Some(0))
    }

    /// Sends what a file has from its position on; false when the client has enough.
    async fn drain(&mut self, file: &mut File, buffer: &mut Vec<u8>) -> io::Result<bool> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = file.read(&mut chunk)?;
            if count == 0 {
                return Ok(true);
            }
            buffer.extend_from_slice(&chunk[..count]);
            if !self.send(buffer).await? {
                return Ok(false);
            }
        }
    }
}

type Events = tonic::Streaming<cri::v1::ContainerEventResponse>;

async fn read(
    reader: &mut Reader,
    path: &FilePath,
    tail: Option<u64>,
    follow: bool,
    id: &str,
    events: Option<Events>,
) -> io::Result<()> {
    let watch = if follow { Some(watch(path)?) } else { None };
    let mut last = None;
    for (mut file, start) in open_from(path, tail)? {
        file.seek(SeekFrom::Start(start))?;
        let mut buffer = Vec::new();
        if !reader.drain(&mut file, &mut buffer).await? {
            return Ok(());
        }
        last = Some((file, buffer));
    }
    match (watch, events, last) {
        (Some(watch), Some(events), Some((file, buffer))) => {
            follow_on(reader, path, file, buffer, id, watch, events).await
        }
        _ => Ok(()),
    }
}

/// The files to read and where in each to begin.
fn open_from(path: &FilePath, tail: Option<u64>) -> io::Result<Vec<(File, u64)>> {
    let mut opened = Vec::new();
    let mut wanted = tail;
    for name in files(path).into_iter().rev() {
        let mut file = match File::open(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let start = match &mut wanted {
            None => 0,
            Some(0) => file.metadata()?.len(),
            Some(lines) => {
                let (start, found) = start_of_tail(&mut file, *lines)?;
                *lines -= found;
                start
            }
        };
        opened.push((file, start));
        if wanted == Some(0) {
            break;
        }
    }
    opened.reverse();
    Ok(opened)
}

fn watch(path: &FilePath) -> io::Result<DirectoryWatch> {
    let directory = path.parent().unwrap_or(path);
    // The directory's events cover the file's writes and the file that takes its place.
    let wanted = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    DirectoryWatch::new(directory, wanted)
}

async fn follow_on(
    reader: &mut Reader,
    path: &FilePath,
    mut file: File,
    mut buffer: Vec<u8>,
    id: &str,
    watch: DirectoryWatch,
    mut events: Events,
) -> io::Result<()> {
    loop {
        let client = reader.sender.clone();
        let ended = tokio::select! {
            biased;
            () = client.closed() => return Ok(()),
            changed = watch.changed() => {
                changed?;
                false
            }
            event = events.message() => match event {
                Ok(Some(event)) => event.container_id == id && is_end(event.container_event_type()),
                Ok(None) | Err(_) => true,
            },
        };
        if !reader.drain(&mut file, &mut buffer).await? {
            return Ok(());
        }
        let rotated =
            std::fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|mine| mine.ino() != now.ino()));
        if rotated {
            file = File::open(path)?;
            if !reader.drain(&mut file, &mut buffer).await? {
                return Ok(());
            }
        }
        if ended {
            return Ok(());
        }
    }
}

fn is_end(event: ContainerEventType) -> bool {
    matches!(event, ContainerEventType::ContainerStoppedEvent | ContainerEventType::ContainerDeletedEvent)
}
