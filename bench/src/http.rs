//! One kept-alive HTTP/1.1 connection: the lightest client there is, since it shares the machine with
//! the server that it measures.

use std::{fmt, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// Why an operation counts as an error.
#[derive(Debug)]
pub struct Failure {
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// What the server or the connection said.
    pub message: String,
}

impl Failure {
    /// Something other than an answer with an error status.
    pub fn of(message: impl fmt::Display) -> Self {
        Self {
            status: None,
            message: message.to_string(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{status} {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Failure {}

/// A connection that is opened with the first request, and again when the server has closed it.
pub struct Connection {
    address: SocketAddr,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    open: Option<SendRequest<Full<Bytes>>>,
    patience: Duration,
}

const JSON: &str = "application/json";

/// The longest that any request may take.
const PATIENCE: Duration = Duration::from_mins(1);

impl Connection {
    /// A connection to `address` with an access token.
    pub fn new(address: SocketAddr, token: Option<&str>) -> Result<Self, Failure> {
        let authorization = match token {
            Some(token) => {
                Some(HeaderValue::from_str(&format!("Bearer {token}")).map_err(Failure::of)?)
            }
            None => None,
        };
        Ok(Self {
            address,
            host: HeaderValue::from_str(&address.to_string()).map_err(Failure::of)?,
            authorization,
            open: None,
            patience: PATIENCE,
        })
    }

    /// Speaks for another user from now on.
    pub fn speak_for(&mut self, token: &str) -> Result<(), Failure> {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(Failure::of)?;
        self.authorization = Some(value);
        Ok(())
    }

    /// Lets requests take longer: for long polls.
    pub fn wait_longer(&mut self, poll: Duration) {
        self.patience = PATIENCE + poll;
    }

    /// The body of the answer to one request, which must be a 2xx.
    pub async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Bytes, Failure> {
        let body = Bytes::from(body.unwrap_or_default());
        let mut answer = Vec::new();
        let keep = |piece: &[u8]| answer.extend_from_slice(piece);
        self.exchanged(method, path, (JSON, body), keep).await?;
        Ok(answer.into())
    }

    /// The same with a file.
    pub async fn upload(&mut self, path: &str, kind: &str, body: Bytes) -> Result<Bytes, Failure> {
        let mut answer = Vec::new();
        let keep = |piece: &[u8]| answer.extend_from_slice(piece);
        self.exchanged(Method::POST, path, (kind, body), keep)
            .await?;
        Ok(answer.into())
    }

    /// How many bytes the answer to a GET has; none of them are kept.
    pub async fn download(&mut self, path: &str) -> Result<u64, Failure> {
        let mut size = 0;
        let body = (JSON, Bytes::new());
        self.exchanged(Method::GET, path, body, |piece| size += piece.len() as u64)
            .await?;
        Ok(size)
    }

    /// Hands out an answer, which must be a 2xx, piece by piece.
    async fn exchanged(
        &mut self,
        method: Method,
        path: &str,
        body: (&str, Bytes),
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        let mut refusal = Vec::new();
        let each = |status: u16, piece: &[u8]| {
            if (200..300).contains(&status) {
                take(piece);
            } else if refusal.len() < 1000 {
                refusal.extend_from_slice(piece);
            }
        };
        let answer = timeout(self.patience, self.exchange(method, path, body, each)).await;
        match answer {
            Ok(Ok(status)) if (200..300).contains(&status) => Ok(()),
            Ok(Ok(status)) => Err(Failure {
                status: Some(status),
                message: String::from_utf8_lossy(&refusal)
                    .chars()
                    .take(300)
                    .collect(),
            }),
            Ok(Err(failure)) => {
                self.open = None;
                Err(failure)
            }
            Err(_) => {
                self.open = None;
                Err(Failure::of(format_args!(
                    "no answer within {:?}",
                    self.patience
                )))
            }
        }
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        (kind, body): (&str, Bytes),
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<u16, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(Failure::of)?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_str(kind).map_err(Failure::of)?,
        );
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let sender = self.ready().await?;
        let answer = sender.send_request(request).await.map_err(Failure::of)?;
        let status = answer.status().as_u16();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            if let Some(piece) = frame.map_err(Failure::of)?.data_ref() {
                each(status, piece);
            }
        }
        Ok(status)
    }

    async fn ready(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Failure> {
        let usable = match &mut self.open {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            self.open = Some(connect(self.address).await?);
        }
        self.open
            .as_mut()
            .ok_or_else(|| Failure::of("no connection"))
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let stream = TcpStream::connect(address).await.map_err(Failure::of)?;
    stream.set_nodelay(true).map_err(Failure::of)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(Failure::of)?;
    // It ends with the sender; its errors are told to whoever waits for an answer.
    tokio::spawn(connection);
    Ok(sender)
}
