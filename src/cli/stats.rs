//! `postroom list --stats`: the numbers of a service, as text.

use std::time::Duration;

use postroom_client::{Client, Procedure};
use serde_json::Value;

use super::{Exit, explain};

const STATS: Procedure = Procedure::new(crate::builtin::directory::NUMBER, crate::builtin::directory::VERSION, 3);

/// Asks the service.
pub(super) async fn ask(client: &Client) -> Result<Value, Exit> {
    client.call(STATS, &()).await.map_err(|error| explain(&error))
}

/// All of it, as the service tells it.
pub(super) fn json(stats: &Value) -> Result<String, Exit> {
    serde_json::to_string_pretty(stats).map_err(|error| Exit::usage(error.to_string()))
}

/// What people look for, a line for each thing. A number that an older service does not tell is left out.
pub(super) fn text(stats: &Value) -> String {
    let mut lines = vec![
        numbers("clients", &stats["clients"]),
        numbers("workers", &stats["workers"]),
        numbers("pending", &stats["pending"]),
    ];
    let counted = [("limits", "limits"), ("refused", "refused")];
    lines.extend(
        counted.into_iter().filter(|(_, key)| is_full(&stats[key])).map(|(title, key)| numbers(title, &stats[key])),
    );
    if let Some(health) = stats.get("health") {
        lines.push(row("health", &self::health(health)));
    }
    lines.extend(events(&stats["events"]));
    let procedures: &[Value] = stats["procedures"].as_array().map_or(&[], Vec::as_slice);
    if procedures.is_empty() {
        lines.push("no procedure was called yet".to_owned());
        return lines.join("\n");
    }
    let name = |it: &Value| format!("{}/{}", it["name"].as_str().unwrap_or("?"), it["version"]);
    let width = procedures.iter().map(|it| name(it).len()).max().unwrap_or(0).max(9);
    lines.push(String::new());
    lines.push(format!(
        "{:<width$}  {:>10}  {:>7}  {:>9} {:>9}  {:>9} {:>9}  outcomes",
        "procedure", "accepted", "running", "wait p50", "p99", "run p50", "p99"
    ));
    for it in procedures {
        let time = |times: &str, percentile: &str| {
            let times = &it[times];
            let ns = times[percentile].as_u64().filter(|_| times["count"].as_u64() > Some(0));
            ns.map_or("-".to_owned(), |ns| format!("{:.1?}", Duration::from_nanos(ns)))
        };
        lines.push(format!(
            "{:<width$}  {:>10}  {:>7}  {:>9} {:>9}  {:>9} {:>9}  {}",
            name(it),
            it["accepted"].to_string(),
            it["in_progress"].to_string(),
            time("queued", "p50_ns"),
            time("queued", "p99_ns"),
            time("ran", "p50_ns"),
            time("ran", "p99_ns"),
            list(&it["outcomes"]),
        ));
    }
    lines.join("\n")
}

/// Each event that somebody subscribed to.
fn events(events: &Value) -> Vec<String> {
    let events = events.as_array().map_or(&[][..], Vec::as_slice);
    let line = |it: &Value| {
        let count = |key: &str| format!("{} {key}", it[key]);
        let counts = ["subscriptions", "published", "delivered", "lost"].map(count).join(", ");
        row("event", &format!("{}/{}: {counts}", it["name"].as_str().unwrap_or("?"), it["version"]))
    };
    events.iter().map(line).collect()
}

fn numbers(title: &str, numbers: &Value) -> String {
    row(title, &list(numbers))
}

fn row(title: &str, text: &str) -> String {
    format!("{title:<9} {text}")
}

/// `3 idle, 1 busy`
fn list(numbers: &Value) -> String {
    let Some(numbers) = numbers.as_object() else { return String::new() };
    numbers.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

fn is_full(numbers: &Value) -> bool {
    numbers.as_object().is_some_and(|numbers| !numbers.is_empty())
}

/// `healthy`, or `degraded` and each reason.
fn health(health: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let reasons = health["reasons"].as_array().map_or(&[][..], Vec::as_slice).iter().map(text);
    std::iter::once(text(&health["state"])).chain(reasons).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_procedure_is_a_line_with_its_times_and_outcomes() {
        let times = json!({ "count": 2, "p50_ns": 1500, "p99_ns": 2_000_000 });
        let none = json!({ "count": 0, "p50_ns": 0, "p99_ns": 0 });
        let procedure = json!({
            "name": "echo.echo", "version": 1, "accepted": 3, "in_progress": 1,
            "outcomes": { "ok": 2 }, "queued": times, "ran": none,
        });
        let stats = json!({
            "clients": { "connected": 1 }, "workers": {}, "pending": {}, "limits": {}, "refused": { "protocol": 4 },
            "health": { "state": "healthy", "reasons": [] }, "procedures": [procedure],
            "events": [{ "name": "a.b", "version": 1, "subscriptions": 1, "published": 2, "delivered": 1, "lost": 1 }],
        });
        let text = text(&stats);
        let line = text.lines().last().unwrap();
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>(),
            ["echo.echo/1", "3", "1", "1.5µs", "2.0ms", "-", "-", "2", "ok"]
        );
        assert!(text.contains("refused   4 protocol") && !text.contains("limits"), "{text}");
        assert!(text.contains("health    healthy"), "{text}");
        assert!(text.contains("event     a.b/1: 1 subscriptions, 2 published, 1 delivered, 1 lost"), "{text}");
    }
}
