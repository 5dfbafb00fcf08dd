//! What is said of one address: its connection, its certificate, and what the server there answers.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use rhizome_protocol::{canonical, server_keys, server_keys::ServerKeys, sign::KeyPair};
use ruma::ServerName;
use rustls::{CertificateError, Error as TlsError};
use serde_json::Value;

use super::{certificate, finding::Finding};
use crate::outbound::{
    date::http_date,
    probe::{Shown, Unconnected},
};

/// A certificate that ends sooner than this is noted, in seconds.
const SOON: i64 = 14 * 86_400;
/// Clocks that differ by more are wrong, in seconds.
const APART: i64 = 60;
/// Characters of other servers' texts that are shown.
const MAX_TEXT: usize = 100;

/// Whether a connection was opened.
pub(super) fn connection(address: SocketAddr, outcome: &Result<(), Unconnected>) -> Finding {
    const STEP: &str = "tcp";
    match outcome {
        Ok(()) => Finding::ok(STEP, format!("{address} accepts connections")),
        Err(Unconnected { why, has_no_way }) if *has_no_way => Finding::note(
            STEP,
            format!("this machine has no way to {address}, so that isn't looked at: {why}"),
            "nothing, if the server is reached at another address; to look at this one, check it from a machine that has a way",
        ),
        Err(Unconnected { why, .. }) => Finding::bad(
            STEP,
            format!("{address} can't be connected to: {why}"),
            "see that a server or a reverse proxy listens there, and that firewalls on the way let this port through",
        ),
    }
}

/// No address is one to which this machine has a way.
pub(super) fn no_way() -> Finding {
    Finding::bad(
        "tcp",
        "this machine has no way to any of its addresses",
        "give this machine an address of that kind (IPv4 or IPv6), or let the name have one of the other kind",
    )
}

/// What a certificate for this name is worth; `now` in seconds since 1970. `answered`: whether there was an answer over the
/// connection, or why not.
pub(super) fn tls(
    address: SocketAddr,
    name: &str,
    shown: Option<&Shown>,
    answered: Result<(), &str>,
    now: i64,
) -> Finding {
    const STEP: &str = "tls";
    let Some(shown) = shown else {
        let why = answered.err().unwrap_or("no certificate was shown");
        return Finding::bad(
            STEP,
            format!("{address} speaks no TLS that can be used: {why}"),
            "give the listener a certificate (tls), or let the reverse proxy speak HTTPS on this port, TLS 1.2 or 1.3",
        );
    };
    let end = certificate::ends(&shown.certificate);
    match &shown.fault {
        Some(fault) => {
            let (what, remedy) = fault_of(fault, name);
            Finding::bad(STEP, format!("the certificate at {address} {what}"), remedy)
        }
        None => match end.map(|end| end.saturating_sub(now)) {
            Some(left) if left < SOON => Finding::note(
                STEP,
                format!(
                    "the certificate at {address} is valid for {name}, and ends in {} days",
                    left / 86_400
                ),
                "see that it is renewed, and that the server or the reverse proxy takes the new one (SIGHUP)",
            ),
            Some(left) => Finding::ok(
                STEP,
                format!(
                    "the certificate at {address} is valid for {name}, for {} days more",
                    left / 86_400
                ),
            ),
            None => Finding::ok(
                STEP,
                format!("the certificate at {address} is valid for {name}"),
            ),
        },
    }
}

/// What is wrong with a certificate, and what to do.
fn fault_of(fault: &TlsError, name: &str) -> (String, String) {
    let renew = "renew it, and see that the server or the reverse proxy takes the new one (SIGHUP)";
    let (what, remedy) = match fault {
        TlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => ("has ended".to_owned(), renew.to_owned()),
        TlsError::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => (
            "isn't valid yet".to_owned(),
            "see that the clocks are right here and where it was issued".to_owned(),
        ),
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => (
            format!("isn't for {name}"),
            format!(
                "use one for {name}; by .well-known the name is another: that of the host which m.server names"
            ),
        ),
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => (
            "is issued by nobody whom this machine trusts".to_owned(),
            "use one of a public authority, and let the server send the whole chain (fullchain.pem); for an authority of your own, \
             name it in federation.extra_ca_certificates"
                .to_owned(),
        ),
        other => (
            format!("isn't good: {other}"),
            "use a certificate of a public authority".to_owned(),
        ),
    };
    (what, remedy)
}

/// What the server answers to `/_matrix/federation/v1/version`.
pub(super) fn version(address: SocketAddr, answer: &Result<Response<Bytes>, String>) -> Finding {
    const STEP: &str = "version";
    let pass_on = "let the reverse proxy pass on all of /_matrix/federation/ and /_matrix/key/ as it comes, to a listener with the \
                   \"federation\" API";
    match answer {
        Err(why) => Finding::bad(STEP, format!("{address} gives no answer: {why}"), pass_on),
        Ok(response) if response.status() != StatusCode::OK => {
            let status = response.status();
            let what = format!("{address} answers {status}");
            Finding::bad(STEP, what, pass_on)
        }
        Ok(response) => match software(response.body()) {
            Some(software) => Finding::ok(STEP, format!("{address} is {software}")),
            None => Finding::bad(
                STEP,
                format!("{address} answers, but not as a Matrix server does"),
                pass_on,
            ),
        },
    }
}

fn software(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let server = answer.get("server")?.as_object()?;
    let text = |field: &str| {
        let text = server.get(field).and_then(Value::as_str);
        short(text.unwrap_or("?"))
    };
    Some(format!("{} {}", text("name"), text("version")))
}

/// How far the server's clock is from ours; `None` where it doesn't say.
pub(super) fn clock(headers: &HeaderMap, now: i64) -> Option<Finding> {
    const STEP: &str = "clock";
    let date = headers.get(header::DATE)?.to_str().ok()?;
    let ahead = http_date(date)?.saturating_sub(now);
    let apart = ahead.saturating_abs();
    if apart <= APART {
        return Some(Finding::ok(STEP, "its clock and ours agree"));
    }
    let which = if ahead > 0 { "ahead of" } else { "behind" };
    Some(Finding::bad(
        STEP,
        format!("its clock is {apart} seconds {which} ours"),
        "set both by NTP: signatures and keys count by time (here: timedatectl)",
    ))
}

/// What the server says of its keys.
pub(super) fn keys(
    address: SocketAddr,
    server: &ServerName,
    answer: &Result<Response<Bytes>, String>,
    now_ms: i64,
) -> (Finding, Option<ServerKeys>) {
    const STEP: &str = "keys";
    let told = read_keys(server, answer);
    let keys = match told {
        Ok(keys) => keys,
        Err(why) => {
            let finding = Finding::bad(
                STEP,
                format!("{address} tells no keys of {server} that count: {why}"),
                "see that server.name there is this name, and that /_matrix/key/v2/server gets to the server",
            );
            return (finding, None);
        }
    };
    let ids: Vec<&str> = keys.verify_keys.keys().map(String::as_str).collect();
    let shown = short(&ids.join(", "));
    let finding = if keys.valid_until_ts <= now_ms {
        Finding::bad(
            STEP,
            format!("the keys {shown} at {address} count no more"),
            "see that the clocks are right, and that nothing on the way caches /_matrix/key/v2/server",
        )
    } else {
        let hours = keys.valid_until_ts.saturating_sub(now_ms) / 3_600_000;
        Finding::ok(
            STEP,
            format!("{address} tells its keys ({shown}), signed, for {hours} hours"),
        )
    };
    (finding, Some(keys))
}

fn read_keys(
    server: &ServerName,
    answer: &Result<Response<Bytes>, String>,
) -> Result<ServerKeys, String> {
    let response = answer.as_ref().map_err(Clone::clone)?;
    if response.status() != StatusCode::OK {
        return Err(format!("it answers {}", response.status()));
    }
    let object = canonical::parse_object(response.body()).map_err(|error| error.to_string())?;
    server_keys::verify(&object, server).map_err(|error| error.to_string())
}

/// Whether our own name's server tells the key that we sign with.
pub(super) fn own_key(keys: &ServerKeys, own: &KeyPair) -> Finding {
    const STEP: &str = "own key";
    let id = own.key_id();
    match keys.verify_keys.get(id) {
        Some(public) if *public == own.public() => {
            Finding::ok(STEP, format!("it tells {id}, with which this server signs"))
        }
        Some(_) => Finding::bad(
            STEP,
            format!("it tells another key under the id {id} than this server has"),
            "another server has this name, or another signing key file is in use there: put back the right one (`rhizome keys path`)",
        ),
        None => Finding::bad(
            STEP,
            format!("it doesn't tell {id}, with which this server signs"),
            "restart the server if the key was changed; else another server answers under this name: see where .well-known and DNS lead",
        ),
    }
}

/// The beginning of a stranger's text.
fn short(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests;
