//! The example client: one page, for a browser on this machine.

use std::{fmt::Write as _, net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{SHA256, digest};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

/// The client. It asks for `servers.json` beside it.
const PAGE: &str = include_str!("client.html");

/// Serves the page until this is dropped.
pub(crate) struct Page {
    url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Page {
    /// Serves it for these servers, on a free port.
    pub(crate) async fn serve(servers: &Value) -> anyhow::Result<Page> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let answers = Arc::new(Answers::new(servers)?);
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let answers = answers.clone();
                        tokio::spawn(async move {
                            // Who hangs up or takes too long gets no answer.
                            let _ = timeout(PATIENCE, answer(stream, &answers)).await;
                        });
                    }
                    // Out of file descriptors: not for long.
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        });
        Ok(Page { url, task })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whole answers, ready to be written: there are no more than these.
struct Answers {
    page: String,
    servers: String,
    unknown: String,
}

impl Answers {
    fn new(servers: &Value) -> anyhow::Result<Answers> {
        let bases = servers.as_object().into_iter().flatten();
        let bases: Vec<&str> = bases.filter_map(|(_, of)| of["url"].as_str()).collect();
        let nothing = "default-src 'none'";
        let html = "text/html; charset=utf-8";
        Ok(Answers {
            page: whole("200 OK", html, &policy(&bases)?, PAGE),
            servers: whole("200 OK", "application/json", nothing, &servers.to_string()),
            unknown: whole(
                "404 Not Found",
                "text/plain",
                nothing,
                "There is no such page.\n",
            ),
        })
    }

    /// The answer to a request with this head.
    fn to(&self, head: &[u8]) -> &str {
        let line = head.split(|byte| *byte == b'\r').next();
        match line.unwrap_or_default() {
            b"GET / HTTP/1.1" => &self.page,
            b"GET /servers.json HTTP/1.1" => &self.servers,
            _ => &self.unknown,
        }
    }
}

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the head of a request may have, in bytes.
const MOST_HEAD: usize = 16 * 1024;

fn whole(status: &str, content_type: &str, policy: &str, body: &str) -> String {
    let mut answer = format!("HTTP/1.1 {status}\r\n");
    let length = body.len().to_string();
    for (name, value) in [
        ("Content-Type", content_type),
        ("Content-Length", &length),
        ("Content-Security-Policy", policy),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
    ] {
        let _ = write!(answer, "{name}: {value}\r\n");
    }
    answer + "\r\n" + body
}

/// Answers the one request of a connection.
async fn answer(mut stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > MOST_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(answers.to(&head).as_bytes()).await?;
    stream.shutdown().await
}

/// What the page may do: run its own script and style, which the policy knows by their hashes, and talk to where
/// it comes from and to these servers.
fn policy(bases: &[&str]) -> anyhow::Result<String> {
    let sockets = bases.iter().map(|base| base.replacen("http", "ws", 1));
    let sockets: Vec<String> = sockets.collect();
    Ok(format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self' {} {}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script")?,
        hash("style")?,
        bases.join(" "),
        sockets.join(" "),
    ))
}

/// The hash of what the page has in its only element of this name.
fn hash(element: &str) -> anyhow::Result<String> {
    let between = || {
        let (_, rest) = PAGE.split_once(&format!("<{element}>"))?;
        Some(rest.split_once(&format!("</{element}>"))?.0)
    };
    let text = between().with_context(|| format!("the page has no {element}"))?;
    Ok(STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing of it would get past the policy: no handlers or styles in attributes, nothing from elsewhere, and
    /// nothing that makes markup of text.
    #[test]
    fn the_page_keeps_to_its_policy() {
        for element in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{element}")).count(), 1, "{element}");
        }
        let markup = PAGE.split("<script>").next().unwrap_or_default();
        for forbidden in [" on", "style=", "src=", "href=", "javascript:", "<base"] {
            assert!(!markup.contains(forbidden), "{forbidden}");
        }
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
        ] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        assert!(!PAGE.contains("https://"));
    }

    #[test]
    fn there_is_the_page_and_nothing_else() {
        let servers = serde_json::json!({ "north": { "url": "http://127.0.0.1:1" } });
        let answers = Answers::new(&servers);
        let status = |head: &str| {
            let answer = answers.as_ref().map(|answers| answers.to(head.as_bytes()));
            answer.unwrap_or_default()[9..12].to_owned()
        };
        assert_eq!(status("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "200");
        assert_eq!(status("GET /servers.json HTTP/1.1\r\n\r\n"), "200");
        for wrong in [
            "GET /../etc/passwd HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\n\r\n",
            "",
        ] {
            assert_eq!(status(wrong), "404", "{wrong}");
        }
    }

    #[test]
    fn it_may_talk_to_the_servers_only() {
        let policy = policy(&["http://127.0.0.1:1", "http://127.0.0.1:2"]);
        let policy = policy.unwrap_or_default();
        let connect = "connect-src 'self' http://127.0.0.1:1 http://127.0.0.1:2 ws://127.0.0.1:1 ws://127.0.0.1:2;";
        assert!(policy.contains(connect), "{policy}");
        assert!(!policy.contains("unsafe"));
    }
}
