//! Mutates examples for a while and measures what each input costs. Entry points: [`fuzz`], [`measured`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The stack of a thread of the server.
pub const STACK: usize = 2 * 1024 * 1024;
/// Mutations are no longer than this.
const LONGEST: usize = 64 * 1024;
/// What an input may take, on a machine that does other things besides.
const SLOWEST: Duration = Duration::from_secs(20);
/// Memory that any input may need, and for each of its bytes.
const MEMORY: isize = 48 * 1024 * 1024;
const MEMORY_PER_BYTE: isize = 400;

/// Counts what each thread has allocated.
pub struct Counting;

thread_local! {
    static USED: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends has no counters any more.
    let _ = USED.try_with(|used| {
        used.set(used.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(used.get())));
    });
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps alloc's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps dealloc's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs something with an input and checks what it took.
pub fn measured(name: &str, input: &[u8], run: impl FnOnce(&[u8])) {
    let before = USED.with(Cell::get);
    PEAK.with(|peak| peak.set(before));
    let started = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(|| run(input)));
    let (took, peak) = (started.elapsed(), PEAK.with(Cell::get) - before);
    let shown = || {
        let text = input.escape_ascii().to_string();
        format!("{name}, {} bytes: {}", input.len(), &text[..text.len().min(4_000)])
    };
    if let Err(panic) = done {
        eprintln!("{}", shown());
        resume_unwind(panic);
    }
    assert!(took < SLOWEST, "{took:?} for {}", shown());
    let allowed = MEMORY + MEMORY_PER_BYTE * input.len() as isize;
    assert!(peak < allowed, "{peak} bytes of memory for {}", shown());
}

static QUIET: Once = Once::new();

/// The panics of the YAML parser are caught where it is called; their backtraces would be counted as memory of the decoder.
fn be_quiet_about_caught_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.location().is_some_and(|at| at.file().contains("libyaml-safer")) {
            usual(info);
        }
    }));
}

/// Runs something on a thread with a server's stack.
pub fn on_a_small_stack(name: &str, run: impl FnOnce() + Send + 'static) {
    QUIET.call_once(be_quiet_about_caught_panics);
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(run).expect("a thread");
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Feeds the seeds and mutations of them to a target that `make` builds.
pub fn fuzz<T: Fn(&[u8])>(
    name: &'static str,
    seeds: &'static [&'static [u8]],
    make: impl FnOnce() -> T + Send + 'static,
) {
    on_a_small_stack(name, move || {
        let target = make();
        for seed in seeds {
            measured(name, seed, &target);
        }
        let mut rng = SmallRng::seed_from_u64(setting("FUZZ_SEED", 1));
        let (began, lasts) = (Instant::now(), Duration::from_secs(setting("FUZZ_SECONDS", 3)));
        let mut runs = 0_u64;
        while began.elapsed() < lasts {
            let input = mutated(seeds, &mut rng);
            measured(name, &input, &target);
            runs += 1;
        }
        assert!(runs > 0 || lasts.is_zero(), "nothing was tried");
    });
}

/// Words that mean something to one decoder or another.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\u0000",
    "\\ud800",
    "null",
    "true",
    "-0",
    "1e400",
    "-9223372036854775809",
    "0x",
    "18446744073709551616",
    "&a ",
    "*a",
    "<<: ",
    "!!int ",
    "!!binary ",
    "---\n",
    "\n",
    "  ",
    "\t",
    "|\n ",
    "? ",
    "- ",
    "%2F",
    "%",
    "/",
    "//",
    "..",
    "?",
    "&",
    "=",
    "==",
    "!=",
    "!",
    " in (",
    " notin (",
    ")",
    "\u{0}",
    "\u{fffd}",
    "é",
    "~1",
    "~0",
    "/-",
    "/-1",
    "$patch",
    "delete",
    "replace",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/a",
    "metadata",
    "spec",
    "name",
    "apiVersion",
    "kind",
    "uid",
    "9999999999999999999999",
    "1Ki",
    "1e3",
    "0.0000000001m",
    "Ei",
    "watch=1",
    "limit=-1",
    "continue=",
    "resourceVersion=0",
    "base64url.bearer.authorization.k8s.io.",
    ";q=0.",
    "*/*",
    ";as=Table",
];

fn mutated(seeds: &[&[u8]], rng: &mut SmallRng) -> Vec<u8> {
    let mut bytes = seeds[rng.random_range(0..seeds.len())].to_vec();
    for _ in 0..rng.random_range(1..8) {
        let at = rng.random_range(0..=bytes.len());
        let end = rng.random_range(at..=bytes.len().min(at + 64));
        match rng.random_range(0..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let part = bytes[at..end].to_vec();
                let times = if rng.random_bool(0.05) { 1_000 } else { rng.random_range(1..4) };
                let repeated = part.repeat(times);
                bytes.splice(at..at, repeated);
            }
            4 => {
                let other = seeds[rng.random_range(0..seeds.len())];
                let from = rng.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            5 => bytes.insert(at, rng.random()),
            _ => {
                let word = WORDS[rng.random_range(0..WORDS.len())];
                bytes.splice(at..at, word.bytes());
            }
        }
        bytes.truncate(LONGEST);
    }
    bytes
}
