//! Figures as lines for people.

use super::figures::{Between, Took};
use crate::cli::{clean, how_long};

/// Of requests to these it isn't said how long they took: they wait for something, or move files.
const WAIT: [&str; 5] = ["/sync\"", "/events\"", "stream\"", "/media/", "/join"];

/// How a server of this name does.
pub(super) fn lines(name: &str, of: &Between) -> Vec<String> {
    let any = |_: &str| true;
    let version = of.each("rhizome_build_info", "version");
    let version = version.first().map_or("", |(version, _)| *version);
    let began = of.now("process_start_time_seconds", "");
    let ran = (of.now("rhizome_time_seconds", "") - began) * 1e3;
    let mut lines = vec![format!(
        "{name}, Rhizome {}, running for {}",
        clean(version),
        how_long(whole(ran))
    )];
    let mut line = |what: &str, text: String| lines.push(format!("{what:<12} {text}"));
    line("requests", requests(of));
    line("delivery", took(of.took("rhizome_delivery_seconds", any)));
    line(
        "clients",
        format!(
            "{} wait, {} connections",
            named(&of.each("rhizome_client_waiting", "form")),
            of.now("rhizome_http_connections", "")
        ),
    );
    line(
        "commits",
        format!(
            "{:.1} a second; {}",
            of.per_second("rhizome_commit_seconds_count", any),
            took(of.took("rhizome_commit_seconds", any))
        ),
    );
    let is_writable = of.now("rhizome_database_writable", "") > 0.0;
    line(
        "database",
        format!(
            "{:.1} statements a second, {} errors{}",
            of.per_second("rhizome_database_statements_total", any),
            of.counted("rhizome_database_errors_total", any),
            if is_writable {
                ""
            } else {
                "; it CAN'T BE WRITTEN"
            }
        ),
    );
    line(
        "federation",
        format!(
            "{}; transactions: {} arrived, {} failed",
            named(&of.each("rhizome_federation_destinations", "state")),
            of.counted("rhizome_federation_transactions_total", |labels| labels
                .contains("arrived")),
            of.counted("rhizome_federation_transactions_total", |labels| labels
                .contains("failed"))
        ),
    );
    line("waiting", named(&of.each("rhizome_queue_length", "queue")));
    line(
        "readers",
        readers(&of.each("rhizome_log_reader_behind", "reader")),
    );
    line(
        "process",
        format!(
            "{:.0} MiB, {:.0} % of a core, {} of {} files open",
            of.now("process_resident_memory_bytes", "") / f64::from(1 << 20),
            of.per_second("process_cpu_seconds_total", any) * 100.0,
            of.now("process_open_fds", ""),
            of.now("process_max_fds", "")
        ),
    );
    line("room", room(of));
    lines
}

fn requests(of: &Between) -> String {
    let name = "rhizome_http_request_seconds";
    let count = "rhizome_http_request_seconds_count";
    let is_short = |labels: &str| !WAIT.iter().any(|waits| labels.contains(waits));
    format!(
        "{:.1} a second, {} errors; {}",
        of.per_second(count, |_| true),
        of.counted(count, |labels| labels.contains("5xx")),
        took(of.took(name, is_short))
    )
}

/// As a whole number.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is a time in this century"
)]
fn whole(number: f64) -> i64 {
    number as i64
}

fn took(took: Option<Took>) -> String {
    let Some(Took { half, most }) = took else {
        return "nothing was measured".to_owned();
    };
    format!(
        "half within {}, 99 of 100 within {}",
        span(half),
        span(most)
    )
}

fn span(seconds: f64) -> String {
    if seconds.is_infinite() {
        "longer than is told apart".to_owned()
    } else if seconds < 1.0 {
        format!("{} ms", (seconds * 1e6).round() / 1e3)
    } else {
        format!("{seconds} s")
    }
}

/// `1 of this, 2 of that`
fn named(each: &[(&str, f64)]) -> String {
    let each = each.iter();
    let each = each.map(|(name, value)| format!("{value} {}", clean(name).replace('_', " ")));
    each.collect::<Vec<_>>().join(", ")
}

fn readers(each: &[(&str, f64)]) -> String {
    let behind: Vec<_> = each.iter().copied().filter(|(_, by)| *by > 0.0).collect();
    match (each.len(), behind.is_empty()) {
        (0, _) => "none in this process".to_owned(),
        (_, true) => "all have read the log".to_owned(),
        _ => format!("positions behind: {}", named(&behind)),
    }
}

fn room(of: &Between) -> String {
    let sizes = of.each("rhizome_filesystem_size_bytes", "place");
    let free = of.each("rhizome_filesystem_free_bytes", "place");
    let parts = free.iter().filter_map(|(place, free)| {
        let (_, size) = sizes.iter().find(|(of, _)| of == place)?;
        let part = 100.0 * free / size.max(1.0);
        Some(format!("{} {part:.0} % free", clean(place)))
    });
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::figures::Figures;
    use super::*;

    #[test]
    fn a_server_is_told_of_in_a_few_lines() {
        let text = "process_start_time_seconds 1000.0\nrhizome_time_seconds 8200.0\nrhizome_build_info{version=\"1.2\"} 1.0\n\
            rhizome_http_request_seconds_bucket{route=\"/a\",status=\"2xx\",le=\"0.0025\"} 60\n\
            rhizome_http_request_seconds_bucket{route=\"/a\",status=\"2xx\",le=\"+Inf\"} 72\n\
            rhizome_http_request_seconds_count{route=\"/a\",status=\"2xx\"} 72\n\
            rhizome_http_request_seconds_bucket{route=\"/sync\",status=\"5xx\",le=\"+Inf\"} 648\n\
            rhizome_http_request_seconds_count{route=\"/sync\",status=\"5xx\"} 648\n\
            rhizome_client_waiting{form=\"sync\"} 3.0\nrhizome_client_waiting{form=\"sliding_sync\"} 1.0\n\
            rhizome_log_reader_behind{reader=\"push\"} 12.0\nrhizome_log_reader_behind{reader=\"search\"} 0.0\n\
            rhizome_database_writable 0.0\nrhizome_filesystem_size_bytes{place=\"data\"} 200.0\n\
            rhizome_filesystem_free_bytes{place=\"data\"} 50.0\nprocess_resident_memory_bytes 10485760.0\n";
        let lines = lines("a.org", &Between::since_start(Figures::read(text)));
        let told = lines.join("\n");
        for part in [
            "a.org, Rhizome 1.2, running for 120 minutes",
            "requests     0.1 a second, 648 errors; half within 2.5 ms, 99 of 100 within longer",
            "delivery     nothing was measured",
            "clients      3 sync, 1 sliding sync wait",
            "CAN'T BE WRITTEN",
            "readers      positions behind: 12 push",
            "process      10 MiB",
            "room         data 25 % free",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
        assert!(!told.contains("search"), "{told}");
    }
}
