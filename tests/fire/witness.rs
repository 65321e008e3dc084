//! The witness: sees every panic of this process and every incident in its log.
//!
//! Handlers under fire panic with a text that begins `as asked`. Any other panic is a defect, of the service or of
//! these tests, wherever it was caught.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};
use postroom::CallId;

static ASKED: AtomicU64 = AtomicU64::new(0);
static UNASKED: Mutex<Vec<String>> = Mutex::new(Vec::new());
static INCIDENTS: Mutex<Option<HashMap<String, Incident>>> = Mutex::new(None);
static WITNESS: Witness = Witness;

struct Witness;

/// An incident as the log has it.
#[derive(Clone, Debug)]
pub struct Incident {
    pub text: String,
    /// The call that the line belongs to.
    pub call: Option<CallId>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to look. What was seen before is forgotten.
pub fn call() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let payload = panic.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            if text.is_some_and(|text| text.starts_with("as asked")) {
                ASKED.fetch_add(1, Relaxed);
                return;
            }
            lock(&UNASKED).push(panic.to_string());
            usual(panic);
        }));
        log::set_logger(&WITNESS).unwrap();
        log::set_max_level(LevelFilter::Error);
    });
    ASKED.store(0, Relaxed);
    lock(&UNASKED).clear();
    forget_incidents();
}

/// How many panics there were that handlers were asked for.
pub fn asked_panics() -> u64 {
    ASKED.load(Relaxed)
}

/// Fails if anybody else panicked.
#[track_caller]
pub fn saw_no_other_panic() {
    let unasked = lock(&UNASKED);
    assert!(unasked.is_empty(), "{} panics that nobody asked for: {unasked:#?}", unasked.len());
}

/// What the log says of this incident.
pub fn incident(incident: &str) -> Option<Incident> {
    lock(&INCIDENTS).as_ref()?.get(incident).cloned()
}

/// Those that were seen cost memory, which others measure.
pub fn forget_incidents() {
    *lock(&INCIDENTS) = None;
}

impl Log for Witness {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Error
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        if let Some((_, rest)) = text.clone().rsplit_once("incident ") {
            let incident = rest.split(';').next().unwrap_or(rest).trim().to_owned();
            let logged = Incident { text, call: postroom::call::current() };
            // The health of a service repeats old incidents; what the first line says is the cause.
            lock(&INCIDENTS).get_or_insert_default().entry(incident).or_insert(logged);
        }
    }

    fn flush(&self) {}
}
