//! A mail server.

use std::sync::{Arc, Mutex};

use rhizome_storage::testing::eventually;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// A mail server that takes everything, or refuses a recipient.
#[derive(Clone)]
pub struct Mails {
    pub port: u16,
    pub got: Arc<Mutex<Vec<String>>>,
    /// What it says to the next recipient.
    pub says: Arc<Mutex<Option<&'static str>>>,
}

impl Mails {
    pub async fn begin() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mails = Self {
            port: listener.local_addr().unwrap().port(),
            got: Arc::default(),
            says: Arc::default(),
        };
        let serving = mails.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mails = serving.clone();
                tokio::spawn(async move { mails.serve(stream).await });
            }
        });
        mails
    }

    /// Speaks as much of RFC 5321 as it takes.
    async fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 sink\r\n").await.ok()?;
        let mut line = String::new();
        loop {
            line.clear();
            stream.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
            let refusal = line
                .starts_with("RCPT")
                .then(|| self.says.lock().unwrap().take());
            let answer = match (refusal.flatten(), line.trim_end()) {
                (Some(says), _) => format!("{says}\r\n"),
                (None, "DATA") => "354 go on\r\n".to_owned(),
                (None, _) => "250 ok\r\n".to_owned(),
            };
            stream.write_all(answer.as_bytes()).await.ok()?;
            if line.trim_end() == "DATA" {
                let mut mail = String::new();
                while !mail.ends_with("\r\n.\r\n") {
                    stream.read_line(&mut mail).await.ok().filter(|n| *n > 0)?;
                }
                self.got
                    .lock()
                    .unwrap()
                    .push(mail.replace("=\r\n", "").replace("=3D", "="));
                stream.write_all(b"250 taken\r\n").await.ok()?;
            }
        }
    }

    pub fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }

    /// The last mail, once there are that many.
    pub async fn last(&self, many: usize) -> String {
        eventually("a mail comes", async || self.count() >= many).await;
        let got = self.got.lock().unwrap();
        assert_eq!(got.len(), many, "{got:#?}");
        got[many - 1].clone()
    }
}
