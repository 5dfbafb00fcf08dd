//! A mail server on the loopback, the other side of the connection (RFC 5321).

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::mime::Received;

/// An answer that never comes.
pub const SILENCE: &str = "";

/// How it behaves.
#[derive(Default)]
pub struct Manners {
    /// What it can encrypt with.
    pub tls: Option<TlsAcceptor>,
    /// Whether it does from the first byte on; else it offers STARTTLS.
    pub implicit: bool,
    /// The ways to log in; without, everybody may send.
    pub logins: Option<&'static str>,
    /// Answers that aren't the usual ones, by what a line begins with; the greeting's is `GREETING`, the end of a mail's
    /// is a dot.
    pub answers: Vec<(&'static str, String)>,
    /// Mails are answered after this.
    pub gate: Option<watch::Receiver<bool>>,
}

/// Who may log in.
pub const USER: &str = "matrix";
/// By what.
pub const PASSWORD: &str = "pass\"wörd";

/// What it saw.
#[derive(Default)]
pub struct Seen {
    pub connections: usize,
    pub commands: Vec<String>,
    /// Lines that came before encryption.
    pub plain: Vec<String>,
    pub mails: Vec<Received>,
    /// How many mails wait for the gate, and the most that ever did.
    pub waiting: usize,
    pub most_waiting: usize,
}

/// A mail server, as long as it lives.
pub struct Sink {
    pub port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    manners: Manners,
    seen: Mutex<Seen>,
}

impl Sink {
    pub async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Mutex::default();
        let shared = Arc::new(Shared { manners, seen });
        let ours = shared.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                ours.seen.lock().unwrap().connections += 1;
                tokio::spawn(connection(ours.clone(), stream));
            }
        });
        Self { port, shared, task }
    }

    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.shared.seen.lock().unwrap())
    }

    /// The only mail that came.
    pub fn mail(&self) -> Received {
        self.seen(|seen| {
            assert_eq!(seen.mails.len(), 1);
            seen.mails[0].clone()
        })
    }

    pub fn mails(&self) -> usize {
        self.seen(|seen| seen.mails.len())
    }

    /// Whether a line came that begins so.
    pub fn got(&self, command: &str) -> bool {
        self.seen(|seen| seen.commands.iter().any(|line| line.starts_with(command)))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    let tls = shared.manners.tls.clone();
    if shared.manners.implicit {
        if let Ok(stream) = tls.unwrap().accept(stream).await {
            let mut talk = Talk::new(shared, stream, true);
            talk.greet().await;
            talk.go_on().await;
        }
        return;
    }
    let mut talk = Talk::new(shared.clone(), stream, false);
    talk.greet().await;
    if talk.go_on().await
        && let Ok(stream) = tls.unwrap().accept(talk.stream.into_inner()).await
    {
        Talk::new(shared, stream, true).go_on().await;
    }
}

/// One connection.
struct Talk<S> {
    shared: Arc<Shared>,
    stream: BufReader<S>,
    encrypted: bool,
    logged_in: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    fn new(shared: Arc<Shared>, stream: S, encrypted: bool) -> Self {
        let stream = BufReader::new(stream);
        Self {
            shared,
            stream,
            encrypted,
            logged_in: false,
        }
    }

    async fn greet(&mut self) {
        self.answer("GREETING", "220 sink.example").await;
    }

    /// Until the end; whether it goes on encrypted.
    async fn go_on(&mut self) -> bool {
        while let Some(line) = self.line().await {
            let verb = line.split(' ').next().unwrap().to_ascii_uppercase();
            match verb.as_str() {
                "STARTTLS" => return self.answer(&line, "220 go on").await.starts_with("220"),
                "QUIT" => {
                    self.answer(&line, "221 bye").await;
                    return false;
                }
                "AUTH" => self.login(&line).await,
                "DATA" => {
                    if self.answer(&line, "354 go on").await.starts_with("354") {
                        self.take_mail().await;
                    }
                }
                "EHLO" => {
                    let able = self.able();
                    self.answer(&line, &able).await;
                }
                "MAIL" if self.shared.manners.logins.is_some() && !self.logged_in => {
                    self.answer(&line, "530 5.7.0 log in first").await;
                }
                "MAIL" | "RCPT" | "RSET" | "NOOP" => {
                    self.answer(&line, "250 fine").await;
                }
                _ => {
                    self.answer(&line, "500 what?").await;
                }
            }
        }
        false
    }

    fn able(&self) -> String {
        let manners = &self.shared.manners;
        let mut able = vec!["sink.example".to_owned(), "8BITMIME".to_owned()];
        if manners.tls.is_some() && !self.encrypted {
            able.push("STARTTLS".to_owned());
        }
        able.extend(manners.logins.map(|logins| format!("AUTH {logins}")));
        let last = able.pop().unwrap();
        let lines = able.iter().map(|line| format!("250-{line}\r\n"));
        lines.chain([format!("250 {last}")]).collect()
    }

    async fn login(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let given = match words[1..] {
            ["PLAIN", given] => decoded(given),
            ["LOGIN"] => {
                self.say("334 VXNlcm5hbWU6").await;
                let user = decoded(&self.line().await.unwrap());
                self.say("334 UGFzc3dvcmQ6").await;
                let password = decoded(&self.line().await.unwrap());
                format!("\0{user}\0{password}")
            }
            _ => String::new(),
        };
        self.logged_in = given == format!("\0{USER}\0{PASSWORD}");
        let answer = if self.logged_in {
            "235 welcome"
        } else {
            "535 5.7.8 wrong"
        };
        self.answer(line, answer).await;
    }

    async fn take_mail(&mut self) {
        let mut mail = Vec::new();
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if line == b".\r\n" {
                break;
            }
            let dots = usize::from(line[0] == b'.');
            mail.extend(&line[dots..]);
        }
        if let Some(mut gate) = self.shared.manners.gate.clone() {
            {
                let mut seen = self.shared.seen.lock().unwrap();
                seen.waiting += 1;
                seen.most_waiting = seen.most_waiting.max(seen.waiting);
            }
            gate.wait_for(|open| *open).await.unwrap();
            self.shared.seen.lock().unwrap().waiting -= 1;
        }
        let mail = Received::read(&mail);
        self.shared.seen.lock().unwrap().mails.push(mail);
        self.answer(".", "250 taken").await;
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let length = self.stream.read_line(&mut line).await.ok()?;
        let line = line.strip_suffix("\r\n").filter(|_| length > 0)?.to_owned();
        let mut seen = self.shared.seen.lock().unwrap();
        if !self.encrypted {
            seen.plain.push(line.clone());
        }
        seen.commands.push(line.clone());
        Some(line)
    }

    /// Says this, or what is to be said instead.
    async fn answer(&mut self, line: &str, usual: &str) -> String {
        let answers = &self.shared.manners.answers;
        let other = answers.iter().find(|(to, _)| line.starts_with(to));
        let answer = other.map_or(usual, |(_, answer)| answer).to_owned();
        if answer != SILENCE {
            self.say(&answer).await;
        }
        answer
    }

    async fn say(&mut self, answer: &str) {
        // Who is gone needs no answer.
        let _ = self
            .stream
            .write_all(format!("{answer}\r\n").as_bytes())
            .await;
        let _ = self.stream.flush().await;
    }
}

fn decoded(text: &str) -> String {
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}
