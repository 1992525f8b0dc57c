//! Serving routes on an address until the process is asked to stop.

use std::net::SocketAddr;

use axum::Router;
use hutong_core::{Error, ErrorKind, Result};
use hutong_engine::Supervisor;
use hutong_engine::supervisor::OnError;
use tokio::net::TcpListener;

/// Listens on `address` and serves `routes` as a task of the supervisor. Returns the address with its real port.
pub async fn serve(
    supervisor: &mut Supervisor,
    name: &'static str,
    address: SocketAddr,
    routes: Router,
) -> Result<SocketAddr> {
    let doing = || format!("listen on {address} for {name}");
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Error::caused(ErrorKind::Config, doing(), e)
            .hint("another process may run there; choose another address")
    })?;
    let bound = listener.local_addr().map_err(|e| Error::caused(ErrorKind::Broken, doing(), e))?;
    let token = supervisor.token();
    supervisor.spawn(name, OnError::StopAll, async move {
        axum::serve(listener, routes)
            .with_graceful_shutdown(token.cancelled_owned())
            .await
            .map_err(|e| Error::caused(ErrorKind::Broken, format!("serve {name}"), e))
    });
    Ok(bound)
}
