//! Free loopback ports.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Ports that this process has handed out: a server that is being started does not listen yet.
static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// Returns a loopback port that nobody listens on, and that this process has not returned before.
///
/// It lies below the range from which Linux takes ports for outgoing connections (from 32768 on), so
/// a server that is stopped finds its port free when it is started again.
///
/// # Panics
///
/// If a thousand random ports are all in use.
pub fn free_port() -> u16 {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..1000 {
        let port = rand::random_range(15_000..32_000);
        if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            taken.insert(port);
            return port;
        }
    }
    panic!("no free loopback port between 15000 and 32000");
}
