//! A schema registry that keeps everything in memory.

use std::fs;
use std::path::PathBuf;

use tokio::sync::OnceCell;

use super::error::{Doing, Error, Result};
use super::port::free_port;
use super::server::{self, Server};
use super::{answer, java, template};

/// The unpacked archive's folder, where it is not `target/servers/apicurio`.
const HOME: &str = "HUTONG_APICURIO";

/// The path under which Apicurio answers the Confluent API.
const API: &str = "/apis/ccompat/v7";

/// An Apicurio Registry; what it holds is gone when it stops.
#[derive(Debug)]
pub struct Registry {
    server: Server,
    port: u16,
}

/// What a [`Registry`] starts with.
#[derive(Debug, Default)]
pub struct RegistryBuilder {
    properties: Vec<(String, String)>,
}

impl Registry {
    /// Starts a registry of one's own.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Starts with properties of one's own.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    /// Returns the registry of this test process, which all its tests share.
    ///
    /// Choose subjects that no other test uses, and do not change the global compatibility.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Registry> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// Returns the base of the Confluent API, without a slash at its end.
    pub fn url(&self) -> String {
        Self::url_at(self.port)
    }

    /// Returns the base of the Confluent API for whoever comes by another loopback port.
    pub fn url_at(port: u16) -> String {
        format!("http://127.0.0.1:{port}{API}")
    }

    /// Returns the loopback port on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops the registry (SIGTERM).
    pub async fn stop(&mut self) -> Result<()> {
        self.server.signal("TERM").await
    }

    /// Kills the registry (SIGKILL).
    pub async fn kill(&mut self) -> Result<()> {
        self.server.signal("KILL").await
    }

    /// Stops the registry if it runs, and starts it again at the same address, empty.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.up().await
    }

    async fn up(&mut self) -> Result<()> {
        let port = self.port;
        self.server.start(async |_: &Server| answer::is_ok(port, &format!("{API}/subjects")).await).await
    }
}

impl RegistryBuilder {
    /// Sets a property of Apicurio or Quarkus, over the default or over an earlier call's.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Starts the registry and waits until it answers.
    pub async fn start(self) -> Result<Registry> {
        let jar = jar()?;
        let port = free_port();
        let defaults = [
            ("quarkus.http.host", "127.0.0.1"),
            ("quarkus.http.port", &port.to_string()),
            ("quarkus.banner.enabled", "false"),
            // Without these three, Apicurio refuses what the Confluent API calls a delete.
            ("apicurio.rest.deletion.group.enabled", "true"),
            ("apicurio.rest.deletion.artifact.enabled", "true"),
            ("apicurio.rest.deletion.artifact-version.enabled", "true"),
        ]
        .map(|(name, value)| format!("-D{name}={value}"));
        let own = self.properties.iter().map(|(name, value)| format!("-D{name}={value}"));
        let program = java::java(384)?.args(defaults).args(own).arg("-jar").arg(jar);

        let mut registry = Registry { server: Server::new("Apicurio", program, server::folder(None)?), port };
        registry.up().await?;
        Ok(registry)
    }
}

fn jar() -> Result<PathBuf> {
    let home = std::env::var_os(HOME).map_or_else(|| template::servers().join("apicurio"), PathBuf::from);
    let missing =
        || Error::missing(&format!("no Apicurio in {} ({HOME} names another folder)", home.display()));
    for entry in fs::read_dir(&home).map_err(|_| missing())? {
        let path = entry.doing(|| format!("list {}", home.display()))?.path();
        if path.to_string_lossy().ends_with("-runner.jar") {
            return Ok(path);
        }
    }
    Err(missing())
}
