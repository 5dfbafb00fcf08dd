//! Which of several places answers ([RFC 8305](https://www.rfc-editor.org/rfc/rfc8305#section-5), "happy eyeballs").
//!
//! Connections are begun one after the other, without waiting for those before to fail; the first that is made wins, and
//! the others are dropped. It is only asked who is there: the winner is connected to once more, by the client that
//! speaks TLS, and stays the one that is asked. So that is done when a server is asked for the first time, and when
//! something was wrong.

use std::{future::Future, net::SocketAddr, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::net::TcpStream;

use crate::outbound::{dns::Reason, places::Place};

/// How much earlier than the next address of the same target one is tried.
const STAGGER: Duration = Duration::from_millis(250);
/// The same for the last address of a target: SRV records want that the next one is for when this one isn't there.
const NEXT_TARGET: Duration = Duration::from_secs(2);
/// How long the last one has.
const LAST: Duration = Duration::from_secs(8);

type Trying<'a> = FuturesUnordered<BoxFuture<'a, (SocketAddr, Result<(), Reason>)>>;

/// The place that answers first.
///
/// # Errors
/// None does; why the last one to fail doesn't.
pub(crate) async fn winner(places: &[Place]) -> Result<SocketAddr, Reason> {
    let connect = |address: SocketAddr| {
        let connecting = TcpStream::connect(address);
        connecting.map(|made| made.map(drop).map_err(|error| error.to_string()))
    };
    won(places, connect).await
}

async fn won<F>(places: &[Place], connect: impl Fn(SocketAddr) -> F) -> Result<SocketAddr, Reason>
where
    F: Future<Output = Result<(), Reason>> + Send,
{
    let mut trying: Trying<'_> = FuturesUnordered::new();
    let mut why = "none of its addresses answers".to_owned();
    for (index, place) in places.iter().enumerate() {
        let address = place.address;
        let made = connect(address);
        trying.push(Box::pin(async move { (address, made.await) }));
        let patience = match places.get(index + 1) {
            Some(next) if next.target == place.target => STAGGER,
            Some(_) => NEXT_TARGET,
            None => LAST,
        };
        // Once all that were begun have failed, the next one begins at once.
        let first = tokio::time::timeout(patience, first_made(&mut trying, &mut why)).await;
        if let Ok(Some(address)) = first {
            return Ok(address);
        }
    }
    Err(why)
}

/// The first of these connections that is made; `None` once all have failed.
async fn first_made(trying: &mut Trying<'_>, why: &mut Reason) -> Option<SocketAddr> {
    while let Some((address, made)) = trying.next().await {
        match made {
            Ok(()) => return Some(address),
            Err(reason) => *why = format!("{address}: {reason}"),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    /// How a place behaves.
    #[derive(Clone, Copy)]
    enum Is {
        There,
        Silent,
        Closed,
    }

    /// Counts who was dropped before it answered.
    struct Counted<'a>(&'a AtomicUsize);

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Who wins among places with these targets, in which order they were tried, and how many were dropped.
    async fn race(of: &[(usize, Is)]) -> (Option<u16>, Vec<u16>, usize) {
        let places: Vec<Place> = (of.iter().zip(0_u16..))
            .map(|((target, _), port)| Place {
                target: *target,
                address: ([127, 0, 0, 1], port).into(),
            })
            .collect();
        let (tried, dropped) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
        let connect = |address: SocketAddr| {
            tried.lock().unwrap().push(address.port());
            let is = of[usize::from(address.port())].1;
            let dropped = &dropped;
            async move {
                match is {
                    Is::There => Ok(()),
                    Is::Closed => Err("closed".to_owned()),
                    Is::Silent => {
                        let _counted = Counted(dropped);
                        std::future::pending().await
                    }
                }
            }
        };
        let won = won(&places, connect).await;
        let won = won.ok().map(|address| address.port());
        let tried = tried.lock().unwrap().clone();
        (won, tried, dropped.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn the_first_connection_that_is_made_wins() {
        use Is::{Closed, Silent, There};
        type Case<'a> = (&'a [(usize, Is)], Option<u16>, u16, usize);
        let cases: [Case<'_>; 5] = [
            (&[(0, There), (0, There)], Some(0), 1, 0),
            // Who says nothing holds up nobody, and is dropped.
            (&[(0, Silent), (0, There), (0, There)], Some(1), 2, 1),
            (&[(0, Closed), (0, Closed), (1, There)], Some(2), 3, 0),
            (&[(0, Closed), (1, Closed)], None, 2, 0),
            (&[], None, 0, 0),
        ];
        for (of, won, tried, dropped) in cases {
            let order: Vec<u16> = (0..tried).collect();
            assert_eq!(race(of).await, (won, order, dropped));
        }
    }

    #[tokio::test]
    async fn sockets_are_raced() {
        let there = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = closed.local_addr().unwrap();
        drop(closed);
        let place = |address| Place { target: 0, address };
        let there = there.local_addr().unwrap();
        let won = winner(&[place(gone), place(there)]).await;
        assert_eq!(won, Ok(there));
        let lost = winner(&[place(gone)]).await.unwrap_err();
        assert!(lost.contains(&gone.to_string()), "{lost}");
    }
}
