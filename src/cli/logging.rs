//! Log lines: text for people or JSON for machines, on standard error.

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, Logging};

/// Libraries that at finer levels print what they carry: tokens, messages. Nobody gets to see that.
const PAYLOAD_PRINTERS: [&str; 4] = ["h2", "hyper", "tokio_tungstenite", "tungstenite"];

/// Starts logging for the whole process. Call once.
pub fn init(config: &Logging) -> anyhow::Result<()> {
    let mut filter = EnvFilter::try_new(&config.level).context("logging.level")?;
    for library in PAYLOAD_PRINTERS {
        filter = filter.add_directive(format!("{library}=info").parse()?);
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Or a line that can't be written, because the disk is full, makes whoever wrote it panic.
        .log_internal_errors(false)
        .with_target(true);
    match config.format {
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colour).finish().try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .context("logging was started already")
}
