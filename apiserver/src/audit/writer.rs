//! The thread that writes the log. Entry point: [`Writer::write`]; nothing is lost, whoever is too fast waits.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::QUEUE;
use super::event::Event;

/// An event, and its place in the queue; the last words of a request take none, because they can't wait.
type Item = (Event, Option<OwnedSemaphorePermit>);

/// See the module.
pub(super) struct Writer {
    /// None once the log is finished.
    sender: Mutex<Option<UnboundedSender<Item>>>,
    places: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let out: Box<dyn Write + Send> = if path.as_os_str() == "-" {
            Box::new(io::stdout())
        } else {
            Box::new(OpenOptions::new().create(true).append(true).mode(0o600).open(path)?)
        };
        let (sender, receiver) = unbounded_channel();
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || write_all(receiver, out))?;
        Ok(Self {
            sender: Mutex::new(Some(sender)),
            places: Arc::new(Semaphore::new(QUEUE)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Queues an event, once there is room.
    pub(super) async fn write(&self, event: Event) {
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        self.send((event, place));
    }

    /// Queues an event whether or not there is room.
    pub(super) fn write_now(&self, event: Event) {
        self.send((event, None));
    }

    fn send(&self, item: Item) {
        if let Some(sender) = &*self.sender.lock().unwrap_or_else(PoisonError::into_inner) {
            // The thread only ends after the sender.
            let _ = sender.send(item);
        }
    }

    pub(super) async fn finish(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
            if !matches!(joined, Ok(true)) {
                tracing::error!("the audit log did not end well");
            }
        }
    }
}

/// Writes until all senders are gone; what was written is handed to the system whenever nothing waits.
fn write_all(mut receiver: UnboundedReceiver<Item>, out: Box<dyn Write + Send>) {
    let mut out = BufWriter::new(out);
    let mut failing = false;
    while let Some(first) = receiver.blocking_recv() {
        let mut done = write_one(&mut out, &first.0);
        drop(first);
        while let Ok(next) = receiver.try_recv() {
            done = done.and(write_one(&mut out, &next.0));
        }
        let done = done.and_then(|()| out.flush());
        if let Err(error) = &done
            && !failing
        {
            tracing::error!(%error, "the audit log can't be written");
        }
        failing = done.is_err();
    }
}

fn write_one(out: &mut impl Write, event: &Event) -> io::Result<()> {
    serde_json::to_writer(&mut *out, event)?;
    out.write_all(b"\n")
}
