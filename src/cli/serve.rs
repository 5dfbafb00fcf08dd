//! `rhizome serve`: the banner, and what signals do.

use std::net::SocketAddr;

use anyhow::bail;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::logging;
use crate::config::{Api, Config, ContactRule, LogFormat, Registration, RegistrationMode};
use crate::server::{self, Running};

use super::say;

pub(super) fn serve(config: Config) -> anyhow::Result<()> {
    logging::init(&config.logging)?;
    open_many();
    super::block_on(run(config))
}

async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let running = tokio::select! {
        running = server::start(config) => running?,
        () = either(&mut terminate, &mut interrupt) => return Ok(()),
    };
    greet(&running);
    let mut is_outdated = false;
    loop {
        tokio::select! {
            () = either(&mut terminate, &mut interrupt) => break,
            () = running.outdated() => {
                is_outdated = true;
                break;
            }
            _ = hangup.recv() => {
                running.reload_certificates();
                running.reload_appservices().await;
            }
            () = running.failed() => {
                bail!("the commit queue has ended, so nothing can be stored: see the log; start the server again");
            }
        }
    }
    tracing::info!("stopping: long polls are answered, requests under way are finished");
    tokio::select! {
        () = running.shutdown() => tracing::info!("stopped"),
        () = either(&mut terminate, &mut interrupt) => bail!("stopped at once by a second signal"),
    }
    if is_outdated {
        bail!(
            "another process was started with a newer signing key, and the one of this process counts no more: see that its \
             file is the newer one here too, and start it again"
        );
    }
    Ok(())
}

/// Lets this process have as many files and connections open as the system lets it: what is usual otherwise is meant
/// for programs of former times.
fn open_many() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

async fn either(a: &mut Signal, b: &mut Signal) {
    tokio::select! {
        _ = a.recv() => {}
        _ = b.recv() => {}
    }
}

/// Tells the operator what runs and what to do next.
fn greet(running: &Running) {
    let config = running.config();
    if running.made_key() {
        tracing::info!(path = %config.server.signing_key_path().display(), "made a signing key: keep a copy of it");
    }
    for (listener, address) in config.listeners.iter().zip(running.addresses()) {
        let apis: Vec<_> = listener.apis.iter().map(|api| api.name()).collect();
        tracing::info!(%address, tls = listener.tls.is_some(), apis = apis.join(","), "listening");
    }
    if let Some(address) = running.metrics_address() {
        tracing::info!(%address, "metrics are at /metrics");
    }
    if config.logging.format == LogFormat::Json {
        return;
    }
    say(format_args!(
        "\nRhizome {} serves {}\n",
        env!("CARGO_PKG_VERSION"),
        config.server.name
    ));
    for line in summary(config, Some(running.addresses())) {
        say(format_args!("  {line}"));
    }
    say("");
    for line in next_steps(config, running.addresses()) {
        say(format_args!("  {line}"));
    }
    say("");
}

/// What a configuration amounts to. `addresses`: the real ones, once bound.
pub(super) fn summary(config: &Config, addresses: Option<&[SocketAddr]>) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let address = addresses
            .and_then(|a| a.get(index))
            .unwrap_or(&listener.address);
        let scheme = if listener.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let apis: Vec<_> = listener.apis.iter().map(|api| api.name()).collect();
        lines.push(format!(
            "listens      {scheme}://{address} ({})",
            apis.join(", ")
        ));
    }
    let data_dir = &config.server.data_dir;
    lines.push(format!(
        "database     {}",
        config.database.url_for_display(data_dir)
    ));
    lines.push(format!(
        "signing key  {}",
        config.server.signing_key_path().display()
    ));
    let file = match &config.file {
        Some(file) => file.display().to_string(),
        None => "defaults; `rhizome config example > rhizome.toml` to change them".to_owned(),
    };
    lines.push(format!("settings     {file}"));
    let federation = if !config.federation.enabled {
        "off".to_owned()
    } else if config.server.name.host() == "localhost" {
        "this machine only: other servers can't reach the name `localhost`; set server.name"
            .to_owned()
    } else if serves(config, Api::Federation) {
        format!("on, as {}", config.server.name)
    } else {
        "out only: no listener serves \"federation\", so other servers can't reach us".to_owned()
    };
    lines.push(format!("federation   {federation}"));
    lines.push(format!(
        "registration {}",
        registration(&config.registration)
    ));
    if let Some(address) = config.metrics.listen {
        lines.push(format!("metrics      http://{address}/metrics"));
    }
    if let Some(host) = &config.mail.host {
        lines.push(format!("mail         by {host}"));
    }
    lines
}

/// Who may register, and what it takes.
fn registration(rules: &Registration) -> String {
    let mut parts = vec![match rules.mode {
        RegistrationMode::Open => "open to anyone",
        RegistrationMode::Token => "with a token (`rhizome token create`)",
        RegistrationMode::Closed => return "closed (`rhizome user create`)".to_owned(),
    }];
    parts.extend(rules.captcha.is_some().then_some("a captcha"));
    parts.extend((rules.email == ContactRule::Required).then_some("an e-mail address"));
    parts.extend((rules.phone == ContactRule::Required).then_some("a telephone number"));
    parts.extend((!rules.terms.is_empty()).then_some("consent to policies"));
    parts.extend(
        rules
            .require_approval
            .then_some("your approval (`rhizome user approve`)"),
    );
    parts.join(", ")
}

fn next_steps(config: &Config, addresses: &[SocketAddr]) -> Vec<String> {
    let option = config.file.as_ref().map_or(String::new(), |file| {
        format!(" --config {}", file.display())
    });
    let mut lines = vec!["What to do next:".to_owned()];
    lines.push(format!(
        "  1. make a user, in another terminal:   rhizome user create alice{option}"
    ));
    let client = config
        .listeners
        .iter()
        .zip(addresses)
        .find(|(l, _)| l.apis.contains(&Api::Client));
    match (&config.well_known.client, client) {
        (Some(url), _) => lines.push(format!("  2. log in with a Matrix client at      {url}")),
        (None, Some((listener, address))) => {
            let scheme = if listener.tls.is_some() {
                "https"
            } else {
                "http"
            };
            lines.push(format!(
                "  2. log in with a Matrix client at      {scheme}://{address}"
            ));
        }
        (None, None) => lines
            .push("  2. give a listener the \"client\" API, so that clients can log in".to_owned()),
    }
    lines.push("  3. watch two servers talk:             rhizome demo".to_owned());
    lines
}

fn serves(config: &Config, api: Api) -> bool {
    config
        .listeners
        .iter()
        .any(|listener| listener.apis.contains(&api))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_are_open_as_may_be() {
        open_many();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
