//! A Prometheus that scrapes one address every second and evaluates rules.

use std::fs;

use super::answer;
use super::error::{Doing, Error, Result};
use super::port::free_port;
use super::server::{self, Program, Server};

/// A Prometheus; what it has seen is gone when it stops.
#[derive(Debug)]
pub struct Prometheus {
    // Held only to be dropped.
    _server: Server,
    port: u16,
}

impl Prometheus {
    /// Starts one that scrapes `http://target/metrics` as the job `hutong`, once a second, and evaluates `rules`.
    pub async fn start(target: &str, rules: &str) -> Result<Self> {
        if std::process::Command::new("prometheus").arg("--version").output().is_err() {
            return Err(Error::missing("no prometheus in PATH"));
        }
        let folder = server::folder(None)?;
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).doing(|| format!("write {name}"))
        };
        write("hutong.rules.yml", rules)?;
        write(
            "prometheus.yml",
            &format!(
                "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
                 rule_files: [hutong.rules.yml]\n\
                 scrape_configs:\n  - job_name: hutong\n    static_configs: [{{ targets: [\"{target}\"] }}]\n"
            ),
        )?;
        let port = free_port();
        let program = Program::new("prometheus")
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=tsdb")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut server = Server::new("Prometheus", program, folder);
        server.start(async |_: &Server| answer::is_ok(port, "/-/ready").await).await?;
        Ok(Self { _server: server, port })
    }

    /// Returns its address, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
