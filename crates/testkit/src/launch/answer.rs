//! Whether a server answers a question over HTTP; too little to deserve an HTTP client.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Says whether a loopback port answers `GET path` with status 200.
pub(crate) async fn is_ok(port: u16, path: &str) -> bool {
    ask(port, path).await.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
}

async fn ask(port: u16, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}
