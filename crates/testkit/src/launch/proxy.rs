//! A way to a server that can be cut in the midst of a message, and stalled without being closed.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::error::{Doing, Result};
use super::port::free_port;

/// No number of bytes is reached.
const NEVER: u64 = u64::MAX;

/// A loopback port whose connections are carried to a server's port. Dropping it cuts them.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    way: Arc<Way>,
    // Held only to be dropped: dropping the set ends the task.
    _listener: JoinSet<()>,
}

#[derive(Debug)]
struct Way {
    /// The server's port; 0 while there is no server.
    to: AtomicU16,
    /// How many bytes are carried before the next cut.
    left: AtomicU64,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// How often all connections have been cut.
    cuts: u64,
    /// How often all connections have been forgotten.
    stranded: u64,
    /// Nothing is carried, and nothing is closed.
    stalled: bool,
    /// Whoever comes is sent away.
    closed: bool,
}

impl Proxy {
    /// Listens; until [`Proxy::forward`] whoever comes is sent away.
    pub async fn start() -> Result<Self> {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.doing(|| format!("listen on port {port}"))?;
        let way = Arc::new(Way {
            to: AtomicU16::new(0),
            left: AtomicU64::new(NEVER),
            state: watch::Sender::new(State::default()),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, Arc::clone(&way)));
        Ok(Self { port, way, _listener: tasks })
    }

    /// Starts a way to a server's port.
    pub async fn to(server: u16) -> Result<Self> {
        let proxy = Self::start().await?;
        proxy.forward(server);
        Ok(proxy)
    }

    /// Carries new connections to a server's port.
    pub fn forward(&self, server: u16) {
        self.way.to.store(server, Ordering::Relaxed);
    }

    /// Returns the port on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every connection now; new ones are carried.
    pub fn cut(&self) {
        self.way.state.send_modify(State::cut);
    }

    /// Cuts every connection after as many more bytes, of all connections and both directions together, once.
    pub fn cut_after(&self, bytes: u64) {
        self.way.left.store(bytes, Ordering::Relaxed);
    }

    /// States whether a [`Proxy::cut_after`] is still to come.
    pub fn is_to_cut(&self) -> bool {
        self.way.left.load(Ordering::Relaxed) != NEVER
    }

    /// Carries nothing any more, and closes nothing: new connections are taken, and nobody answers.
    pub fn stall(&self) {
        self.way.state.send_modify(|state| state.stalled = true);
    }

    /// Carries nothing any more over the connections that are there, and closes none of them; new ones are carried.
    ///
    /// So it looks when a firewall between the two has forgotten them.
    pub fn strand(&self) {
        self.way.state.send_modify(|state| state.stranded += 1);
    }

    /// Cuts every connection and sends away whoever comes.
    pub fn close(&self) {
        self.way.state.send_modify(|state| {
            state.cut();
            state.closed = true;
        });
    }

    /// Ends a [`Proxy::stall`] or a [`Proxy::close`]; what was held up goes on where it stood.
    pub fn resume(&self) {
        self.way.state.send_modify(|state| {
            state.stalled = false;
            state.closed = false;
        });
    }
}

impl State {
    fn cut(&mut self) {
        self.cuts += 1;
    }
}

impl Way {
    /// Returns how many of the next bytes may still be carried.
    fn take(&self, bytes: usize) -> usize {
        let mut taken = bytes;
        // The outcome is in `taken`; the update never refuses.
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            taken = bytes.min(usize::try_from(left).unwrap_or(usize::MAX));
            Some(match left {
                NEVER => NEVER,
                left if left < bytes as u64 => NEVER,
                left => left - bytes as u64,
            })
        });
        taken
    }
}

async fn listen(listener: TcpListener, way: Arc<Way>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // The other end of one that cannot be taken is closed as well: its owner comes again.
            Ok((client, _)) = listener.accept() => {
                if !way.state.borrow().closed {
                    connections.spawn(connect(client, Arc::clone(&way)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(client: TcpStream, way: Arc<Way>) {
    let mut state = way.state.subscribe();
    let State { cuts, stranded, .. } = *state.borrow();
    tokio::select! {
        // An end of it that fails ends the whole, as a cut does.
        _ = carry(client, &way, stranded) => {}
        _ = state.wait_for(|state| state.cuts != cuts) => {}
    }
}

async fn carry(mut client: TcpStream, way: &Way, stranded: u64) -> io::Result<()> {
    moves(way, stranded).await;
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, way.to.load(Ordering::Relaxed))).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::try_join!(
        pump(&mut from_client, &mut to_server, way, stranded),
        pump(&mut from_server, &mut to_client, way, stranded)
    )?;
    Ok(())
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    way: &Way,
    stranded: u64,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        moves(way, stranded).await;
        if read == 0 {
            return to.shutdown().await;
        }
        let carried = way.take(read);
        to.write_all(&buffer[..carried]).await?;
        if carried < read {
            way.state.send_modify(State::cut);
            // Not a byte more: behind a gap it would be another message.
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
}

/// Waits until nothing stalls a connection of before the next time that all are forgotten.
async fn moves(way: &Way, stranded: u64) {
    // The sender is in `way`, so the wait ends with it or with a resume.
    let _ = way.state.subscribe().wait_for(|state| !state.stalled && state.stranded == stranded).await;
}
