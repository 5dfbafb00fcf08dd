//! Asks a program of the operator's whether a file may be kept.

use std::io;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::blobs::Pieces;
use crate::config::ScannerConfig;

/// How long it may take to look at a file.
const PATIENCE: Duration = Duration::from_mins(2);
/// So many bytes of an answer are read.
const ANSWER: u64 = 4_096;

/// What it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Clean,
    Refused,
}

/// Asks it.
pub(crate) struct Scanner {
    config: ScannerConfig,
    http: Option<reqwest::Client>,
}

impl Scanner {
    pub(crate) fn new(config: ScannerConfig) -> io::Result<Self> {
        let http = match &config {
            ScannerConfig::Http(_) => {
                Some(crate::http::client()?.build().map_err(io::Error::other)?)
            }
            _ => None,
        };
        Ok(Self { config, http })
    }

    /// What it says of a file.
    pub(crate) async fn scan(&self, file: Pieces, size: u64) -> io::Result<Verdict> {
        let asked = async {
            match &self.config {
                ScannerConfig::Http(address) => self.post(address, file, size).await,
                ScannerConfig::ClamdTcp(address) => {
                    instream(TcpStream::connect(address).await?, file).await
                }
                ScannerConfig::ClamdUnix(path) => {
                    instream(UnixStream::connect(path).await?, file).await
                }
            }
        };
        let asked = tokio::time::timeout(PATIENCE, asked).await;
        asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn post(&self, address: &str, file: Pieces, size: u64) -> io::Result<Verdict> {
        let Some(http) = &self.http else {
            return Err(io::Error::other("there is no client"));
        };
        let request = http.post(address).header("content-length", size);
        let request = request.header("content-type", "application/octet-stream");
        let body = reqwest::Body::wrap_stream(file);
        let answer = request.body(body).send().await.map_err(io::Error::other)?;
        match answer.status().as_u16() {
            200..=299 => Ok(Verdict::Clean),
            403 | 406 => Ok(Verdict::Refused),
            status => Err(io::Error::other(format!("it answered {status}"))),
        }
    }
}

/// Asks clamd: <https://docs.clamav.net/manual/Usage/Scanning.html#clamd>, `INSTREAM`.
async fn instream(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    mut file: Pieces,
) -> io::Result<Verdict> {
    socket.write_all(b"zINSTREAM\0").await?;
    while let Some(piece) = file.try_next().await? {
        if piece.is_empty() {
            continue;
        }
        let length = u32::try_from(piece.len()).map_err(io::Error::other)?;
        socket.write_all(&length.to_be_bytes()).await?;
        socket.write_all(&piece).await?;
    }
    socket.write_all(&0_u32.to_be_bytes()).await?;
    socket.flush().await?;
    let mut answer = Vec::new();
    socket.take(ANSWER).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let answer = answer.trim_end_matches(['\0', '\n']);
    if answer.ends_with(" OK") {
        Ok(Verdict::Clean)
    } else if answer.ends_with(" FOUND") {
        Ok(Verdict::Refused)
    } else {
        Err(io::Error::other(format!("clamd says {answer:?}")))
    }
}
