//! `rhizome status`: how the server does, in a few lines. Asks its listener of metrics, so it must have one.

mod figures;
mod text;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;

use self::figures::{Between, Figures};
use super::say;
use crate::config::Config;

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Look again every so many seconds, and say what happened between; without, what happened since the server started
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
}

pub(super) fn status(config: &Config, args: &StatusArgs) -> anyhow::Result<()> {
    let Some(address) = config.metrics.listen else {
        bail!(
            "this server tells no figures: set metrics.listen in the configuration, such as \"127.0.0.1:9108\", and start it again"
        );
    };
    let name = config.server.name.as_str();
    let mut now = ask(address)?;
    let Some(seconds) = args.watch else {
        show(name, &Between::since_start(now));
        return Ok(());
    };
    let pause = Duration::from_secs(seconds);
    loop {
        let asked = Instant::now();
        thread::sleep(pause);
        let next = ask(address)?;
        let between = Between::two(now, next.clone(), asked.elapsed());
        show(name, &between);
        say("");
        now = next;
    }
}

fn show(name: &str, between: &Between) {
    for line in text::lines(name, between) {
        say(line);
    }
}

/// What the server tells now.
fn ask(address: SocketAddr) -> anyhow::Result<Figures> {
    let asking = || {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = asking().with_context(|| {
        format!("nobody tells figures at {address} (metrics.listen); does the server run?")
    })?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("what listens at {address} is no server of metrics");
    };
    if !head.starts_with("HTTP/1.1 200 ") {
        let status = head.lines().next().unwrap_or_default();
        bail!(
            "what listens at {address} answers {:?}",
            super::clean(status)
        );
    }
    Ok(Figures::read(body))
}
