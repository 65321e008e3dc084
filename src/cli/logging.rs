//! The log of the binary: a line for each record, on standard error.
//!
//! `TIME LEVEL module client=ID serial=N trace=CONTEXT message`. The client, the serial and the trace context come with
//! the record, or from the call whose handler runs on the thread, so that handlers need not say them.

use std::io::Write;

use env_logger::fmt::Formatter;
use env_logger::{Builder, Target};
use log::Record;
use log::kv::Key;
use postroom_actors::call;

/// Starts logging what `filter` lets through. Panics go to the log too.
pub(super) fn init(filter: &str) -> Result<(), String> {
    // The logger itself only warns of a filter that it does not understand, and logs nothing then.
    env_filter::Builder::new().try_parse(filter).map_err(|error| error.to_string())?;
    let mut builder = Builder::new();
    builder.parse_filters(filter).target(Target::Stderr).format(format);
    builder.try_init().map_err(|error| error.to_string())?;
    std::panic::set_hook(Box::new(|info| log::error!(target: "panic", "{info}")));
    Ok(())
}

fn format(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    let level = record.level();
    let style = out.default_level_style(level);
    write!(out, "{} {style}{level:<5}{style:#} {}", out.timestamp_millis(), record.target())?;
    let key = |key: &str| record.key_values().get(Key::from_str(key)).and_then(|value| value.to_u64());
    let current = call::current();
    if let Some(client) = key("client").or(current.map(|call| call.client_id)) {
        write!(out, " client={client}")?;
    }
    if let Some(serial) = key("serial").or(current.map(|call| call.serial.into())) {
        write!(out, " serial={serial}")?;
    }
    let trace = record.key_values().get(Key::from_str("trace"));
    if let Some(trace) = trace.as_ref().and_then(|trace| trace.to_borrowed_str()) {
        write!(out, " trace={}", trace.escape_debug())?;
    } else if let Some(trace) = call::current_trace() {
        write!(out, " trace={}", trace.escape_debug())?;
    }
    writeln!(out, " {}", record.args())
}
