//! Which version of HTTP a connection speaks: told by its first bytes, which are read again with those that follow.
//!
//! hyper-util looks for itself, too, but gives hyper these first bytes alone. Its buffer of eight kibibytes isn't quite
//! empty then and grows to sixteen, for as long as the connection is there; and most of them only wait.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// What a connection of HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// A stream of which some bytes have been read already.
#[derive(Debug)]
pub(super) struct Begun<S> {
    stream: S,
    first: [u8; PREFACE.len()],
    /// Those of them that nobody has had yet.
    left: std::ops::Range<usize>,
}

impl<S: AsyncRead + Unpin> Begun<S> {
    /// Reads as much as tells the version. Waits for it as long as the other side wants.
    pub(super) async fn read(mut stream: S) -> io::Result<(Version, Self)> {
        let mut first = [0; PREFACE.len()];
        let mut read = 0;
        let version = loop {
            let more = stream.read(&mut first[read..]).await?;
            read += more;
            if more == 0 || !PREFACE.starts_with(&first[..read]) {
                break Version::One;
            }
            if read == PREFACE.len() {
                break Version::Two;
            }
        };
        let left = 0..read;
        Ok((
            version,
            Self {
                stream,
                first,
                left,
            },
        ))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let these = self.left.len().min(buffer.remaining());
        let upto = self.left.start + these;
        buffer.put_slice(&self.first[self.left.start..upto]);
        self.left.start = upto;
        // With what follows, if it is there; what went wrong is seen at the next read.
        if buffer.remaining() > 0 {
            let _ = Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// What is told when these pieces come one after the other, and what can be read then.
    async fn told(pieces: &[&[u8]]) -> (Version, Vec<u8>) {
        let (mut client, server) = tokio::io::duplex(1024);
        let begin = tokio::spawn(Begun::read(server));
        for piece in pieces {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.shutdown().await.unwrap();
        let (version, mut begun) = begin.await.unwrap().unwrap();
        let mut all = Vec::new();
        begun.read_to_end(&mut all).await.unwrap();
        (version, all)
    }

    #[tokio::test]
    async fn versions_are_told_and_nothing_is_lost() {
        let get = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".as_slice();
        let two = [PREFACE.as_slice(), b"frames"].concat();
        for (pieces, version) in [
            (vec![get], Version::One),
            (vec![&get[..2], &get[2..]], Version::One),
            (
                vec![b"P".as_slice(), b"UT /a HTTP/1.1\r\n\r\n"],
                Version::One,
            ),
            (vec![b"PRI * HTTP/1.1\r\n\r\n".as_slice()], Version::One),
            (vec![two.as_slice()], Version::Two),
            (vec![&two[..1], &two[1..20], &two[20..]], Version::Two),
            // Who goes away before it can be told.
            (vec![b"PRI".as_slice()], Version::One),
            (vec![], Version::One),
        ] {
            assert_eq!(
                told(&pieces).await,
                (version, pieces.concat()),
                "{pieces:?}"
            );
        }
    }

    #[tokio::test]
    async fn what_follows_is_read_together_with_the_first() {
        let (mut client, server) = tokio::io::duplex(1024);
        let request = [b'x'; 300];
        client.write_all(&request).await.unwrap();
        let (_, mut begun) = Begun::read(server).await.unwrap();
        let mut buffer = [0; 400];
        assert_eq!(begun.read(&mut buffer).await.unwrap(), 300);
    }

    #[tokio::test]
    async fn small_buffers_get_the_first_piece_by_piece() {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(b"0123456789").await.unwrap();
        client.shutdown().await.unwrap();
        let (_, mut begun) = Begun::read(server).await.unwrap();
        let mut all: Vec<u8> = Vec::new();
        let mut buffer = [0; 3];
        loop {
            let read = begun.read(&mut buffer).await.unwrap();
            if read == 0 {
                break;
            }
            all.extend(&buffer[..read]);
        }
        assert_eq!(all, b"0123456789");
    }
}
