//! A TCP connection that loses an answer: what a network does between a commit and the word that it is done.
//!
//! Knows nothing of what is spoken through it but the bytes whose answer it is told to lose.

use std::io::Result;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Passes everything on between its clients and a server, until it is told to lose an answer.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    /// The question whose answer is lost; `None`: none.
    question: Mutex<Option<Vec<u8>>>,
    lost: AtomicBool,
}

impl Proxy {
    /// Starts to listen on a free loopback port, in front of a server on another one. It ends with the runtime.
    #[expect(clippy::disallowed_methods, reason = "a test has no supervisor; the task ends with its runtime")]
    pub async fn start(server_port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let server = (Ipv4Addr::LOCALHOST, server_port).into();
        let shared = Arc::new(Shared { server, question: Mutex::default(), lost: AtomicBool::default() });
        let pass = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&pass);
                tokio::spawn(async move {
                    // Either side learns of an end by the end of its connection.
                    let _ = shared.serve(client).await;
                });
            }
        });
        Ok(Self { port, shared })
    }

    /// Returns the port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Loses the answer to the next question that contains these bytes: the server gets it whole and answers, and then
    /// both sides find the connection closed.
    pub fn lose_answer_to(&self, question: &[u8]) {
        *self.shared.question.lock().unwrap_or_else(PoisonError::into_inner) = Some(question.to_vec());
        self.shared.lost.store(false, Ordering::SeqCst);
    }

    /// States whether the answer was lost since.
    pub fn lost(&self) -> bool {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

impl Shared {
    async fn serve(&self, mut client: TcpStream) -> Result<()> {
        let mut server = TcpStream::connect(self.server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        // The end of what was asked before, for a question in two pieces.
        let mut tail = Vec::new();
        loop {
            tokio::select! {
                read = client.read(&mut asked) => {
                    let read = read?;
                    if read == 0 {
                        return Ok(());
                    }
                    tail.extend_from_slice(&asked[..read]);
                    server.write_all(&asked[..read]).await?;
                    if self.is_the_question(&mut tail) {
                        // The first byte of the answer says that the server is done with it.
                        let answer = server.read(&mut answered).await?;
                        self.lost.store(answer > 0, Ordering::SeqCst);
                        return Ok(());
                    }
                }
                read = server.read(&mut answered) => {
                    let read = read?;
                    if read == 0 {
                        return Ok(());
                    }
                    client.write_all(&answered[..read]).await?;
                }
            }
        }
    }

    /// States whether the question is in what was asked, once; keeps no more of that than may be its beginning.
    fn is_the_question(&self, asked: &mut Vec<u8>) -> bool {
        let mut question = self.question.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bytes) = question.as_ref() else {
            asked.clear();
            return false;
        };
        let found = asked.windows(bytes.len().max(1)).any(|window| window == bytes);
        let kept = asked.len().saturating_sub(bytes.len());
        asked.drain(..kept);
        if found {
            *question = None;
        }
        found
    }
}
