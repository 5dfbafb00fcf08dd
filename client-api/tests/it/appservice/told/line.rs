//! The way to a service: cut when it is killed.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Carries what comes at a port to a service.
pub struct Line {
    /// Where it begins.
    pub at: SocketAddr,
    to: SocketAddr,
    state: Mutex<State>,
}

enum State {
    Open(JoinHandle<()>),
    /// The port is kept, but nobody listens: whoever connects is refused.
    Cut {
        _kept: TcpSocket,
    },
    Between,
}

impl Line {
    /// Begins anywhere.
    pub fn to(service: SocketAddr) -> Self {
        let socket = bound("127.0.0.1:0".parse().unwrap());
        let line = Self {
            at: socket.local_addr().unwrap(),
            to: service,
            state: Mutex::new(State::Between),
        };
        line.open(socket);
        line
    }

    pub async fn dies(&self) {
        let was = std::mem::replace(&mut *self.state(), State::Between);
        let State::Open(task) = was else {
            panic!("it is dead already")
        };
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        *self.state() = State::Cut {
            _kept: bound(self.at),
        };
    }

    pub fn rises(&self) {
        *self.state() = State::Between;
        self.open(bound(self.at));
    }

    fn open(&self, socket: TcpSocket) {
        let listener = socket.listen(64).unwrap();
        *self.state() = State::Open(tokio::spawn(carry(listener, self.to)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// Carries until it is aborted, and all that it carries with it.
async fn carry(listener: TcpListener, to: SocketAddr) {
    let mut all = JoinSet::new();
    loop {
        let (mut one, _) = listener.accept().await.unwrap();
        all.spawn(async move {
            let mut other = TcpStream::connect(to).await.unwrap();
            // However it ends.
            drop(copy_bidirectional(&mut one, &mut other).await);
        });
    }
}

fn bound(at: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(at).unwrap();
    socket
}
