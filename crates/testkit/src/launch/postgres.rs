//! A PostgreSQL that can be a source and a sink.

use std::env;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config, NoTls};

use super::error::{Doing, Error, Result};
use super::port::free_port;
use super::server::{self, Program, Server, User};
use super::template;

/// A folder with `initdb` and `postgres`, to test against another version than the one found.
const BINARIES: &str = "HUTONG_POSTGRES_BIN";

const SETTINGS: [(&str, &str); 15] = [
    ("listen_addresses", "127.0.0.1"),
    ("wal_level", "logical"),
    ("max_wal_senders", "64"),
    ("max_replication_slots", "64"),
    ("max_connections", "200"),
    ("max_slot_wal_keep_size", "8GB"),
    // Nobody pulls the plug of a test; a killed server still finds what the system's cache holds.
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "64MB"),
    // In the data folder, so that a killed server leaves nothing outside; /dev/shm is small in containers.
    ("dynamic_shared_memory_type", "mmap"),
    ("jit", "off"),
    ("TimeZone", "UTC"),
    ("log_timezone", "UTC"),
    ("lc_messages", "C"),
    ("log_line_prefix", "%m [%p] %d %a "),
];

/// A PostgreSQL server with superuser `postgres`.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    port: u16,
    password: Option<String>,
}

/// What a [`Postgres`] starts with.
#[derive(Debug, Default)]
pub struct PostgresBuilder {
    settings: Vec<(String, String)>,
    removed: Vec<String>,
    password: Option<String>,
}

/// A database of the shared server, for one test alone.
#[derive(Debug)]
pub struct Database {
    /// The database's name, unlike any other's of this test process.
    pub name: String,
    /// Where it is, as the superuser.
    pub url: String,
}

impl Postgres {
    /// Starts a server of one's own: loopback without password, no fsync, ready for logical replication.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Starts with settings of one's own.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// Returns a fresh database in the one server of this test process.
    ///
    /// Slots and roles belong to the server: put the database's name into theirs.
    pub async fn shared() -> Result<Database> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let server = SHARED.get_or_try_init(Self::start).await?;
        let name = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let url = server.create_database(&name).await?;
        Ok(Database { name, url })
    }

    /// Returns the URL of the database `postgres`.
    pub fn url(&self) -> String {
        self.url_for("postgres")
    }

    /// Returns the URL of a database, as the superuser.
    pub fn url_for(&self, database: &str) -> String {
        let password = self.password.as_ref().map(|password| format!(":{password}")).unwrap_or_default();
        format!("postgres://postgres{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// Returns the loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Creates a database and returns its URL.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        let name = name.replace('"', "\"\"");
        self.execute(&format!("CREATE DATABASE \"{name}\"")).await?;
        Ok(self.url_for(&name))
    }

    /// Stops the server, ending open sessions first (SIGINT, PostgreSQL's fast shutdown).
    pub async fn stop(&mut self) -> Result<()> {
        self.server.signal("INT").await
    }

    /// Stops the server without a word to its sessions, to recover when it starts (SIGQUIT, `pg_ctl -m immediate`).
    pub async fn quit(&mut self) -> Result<()> {
        self.server.signal("QUIT").await
    }

    /// Kills the server in the middle of whatever it does (SIGKILL).
    pub async fn kill(&mut self) -> Result<()> {
        self.server.signal("KILL").await
    }

    /// Stops the server if it runs, and starts it again at the same address with what it holds.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match self.up().await {
                // A killed server's sessions notice its end only after a moment.
                Err(error) if error.contains("shared memory block") && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Stops the server, copies everything that it holds, and starts it again: a cold backup.
    pub async fn back_up(&mut self) -> Result<()> {
        self.stop().await?;
        let (data, backup) = self.folders();
        template::copy_folder(&data, &backup)?;
        self.restart().await
    }

    /// Puts the backup in the place of what the server holds now.
    pub async fn restore(&mut self) -> Result<()> {
        self.stop().await?;
        let (data, backup) = self.folders();
        fs::remove_dir_all(&data).doing(|| format!("remove {}", data.display()))?;
        template::copy_folder(&backup, &data)?;
        self.restart().await
    }

    fn folders(&self) -> (PathBuf, PathBuf) {
        let folder = self.server.folder();
        (folder.join("data"), folder.join("backup"))
    }

    async fn up(&mut self) -> Result<()> {
        let admin = self.admin();
        self.server.start(async |_: &Server| open(&admin).await.is_ok()).await
    }

    /// Where the superuser needs no password.
    fn admin(&self) -> Config {
        let mut config = Config::new();
        config.host_path(self.server.folder()).port(self.port).user("postgres").dbname("postgres");
        config
    }

    async fn execute(&self, sql: &str) -> Result<()> {
        let client = open(&self.admin()).await.doing(|| "connect to PostgreSQL".into())?;
        client.batch_execute(sql).await.doing(|| format!("execute {sql}"))
    }
}

impl PostgresBuilder {
    /// Sets a parameter of the server; an `ALTER SYSTEM` may change it later.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Leaves out a parameter that the launcher sets, so that PostgreSQL's own default holds.
    pub fn without(mut self, name: impl Into<String>) -> Self {
        self.removed.push(name.into());
        self
    }

    /// Makes commits as durable and as slow as in production.
    pub fn fsync(self) -> Self {
        self.setting("fsync", "on").setting("full_page_writes", "on")
    }

    /// Asks for a password (SCRAM) on the loopback port; letters and digits only, since it goes into the URL.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Starts the server and waits until it answers.
    pub async fn start(self) -> Result<Postgres> {
        let binaries = binaries()?;
        let user = user()?;
        let folder = server::folder(user)?;
        let data = folder.path().join("data");
        make_data(&binaries, user, &data)?;

        let port = free_port();
        self.configure(&data, folder.path(), port)?;
        let program = Program::new(binaries.join("postgres")).arg("-D").arg(data).user(user);
        // At once, but without leaving shared memory behind as SIGKILL would.
        let program = program.farewell("QUIT");
        let server = Server::new("PostgreSQL", program, folder);
        let mut postgres = Postgres { server, port, password: self.password };
        postgres.up().await?;
        if let Some(password) = &postgres.password {
            postgres.execute(&format!("ALTER ROLE postgres PASSWORD '{password}'")).await?;
        }
        Ok(postgres)
    }

    fn configure(&self, data: &Path, folder: &Path, port: u16) -> Result<()> {
        let mut text = format!("port = {port}\nunix_socket_directories = '{}'\n", folder.display());
        let defaults = SETTINGS.iter().map(|(name, value)| (*name, *value));
        let own = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in
            defaults.filter(|(name, _)| !self.removed.iter().any(|removed| removed == name)).chain(own)
        {
            // Of two lines with one name, PostgreSQL takes the later.
            writeln!(text, "{name} = '{}'", value.replace('\'', "''"))
                .expect("a string takes whatever is written");
        }
        let method = if self.password.is_some() { "scram-sha-256" } else { "trust" };
        let access = ["all", "replication"].map(|database| {
            format!("local {database} all trust\nhost {database} all 127.0.0.1/32 {method}\n")
        });
        // Both files are there already and keep their owner.
        for (name, text) in [("postgresql.conf", text), ("pg_hba.conf", access.concat())] {
            let path = data.join(name);
            fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }
}

/// Connects to a database, as a test does that looks into it.
pub async fn connect(url: &str) -> Result<Client> {
    let config: Config = url.parse().doing(|| "parse a PostgreSQL URL".into())?;
    open(&config).await.doing(|| "connect to PostgreSQL".into())
}

#[expect(clippy::disallowed_methods, reason = "a test has no supervisor; the task ends with its client")]
async fn open(config: &Config) -> std::result::Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // The client's next call tells the test of it.
        let _ = connection.await;
    });
    Ok(client)
}

fn binaries() -> Result<PathBuf> {
    if let Some(folder) = env::var_os(BINARIES) {
        return Ok(folder.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian keeps them out of the search path, one folder a version; the newest is taken.
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    debian.sort();
    env::split_paths(&path)
        .chain(debian.into_iter().rev())
        .find(|folder| ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file()))
        .ok_or_else(|| {
            Error::missing("no PostgreSQL server (initdb, postgres) in PATH or /usr/lib/postgresql")
        })
}

/// Returns the user to run as: PostgreSQL refuses root.
fn user() -> Result<Option<User>> {
    let id = |args: &[&str]| -> Result<u32> {
        let number = Program::new("id").args(args).run()?;
        number.trim().parse().doing(|| "read a user's number".into())
    };
    if id(&["-u"])? != 0 {
        return Ok(None);
    }
    Ok(Some(User { uid: id(&["-u", "postgres"])?, gid: id(&["-g", "postgres"])? }))
}

/// Makes a data folder: a second of `initdb` that is the same each time.
fn make_data(binaries: &Path, user: Option<User>, data: &Path) -> Result<()> {
    let version = Program::new(binaries.join("postgres")).arg("--version").run()?;
    let version: String = version.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
    let owner = user.map_or(String::new(), |user| format!("-{}", user.uid));
    template::copy(&format!("{version}{owner}"), data, || initialised(binaries, user))?;
    if let Some(User { uid, gid }) = user {
        chown(data, Some(uid), Some(gid)).doing(|| format!("give {} to user {uid}", data.display()))?;
    }
    Ok(())
}

fn initialised(binaries: &Path, user: Option<User>) -> Result<TempDir> {
    let folder = server::folder(user)?;
    Program::new(binaries.join("initdb"))
        .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
        .arg("--pgdata")
        .arg(folder.path())
        .user(user)
        .run()?;
    Ok(folder)
}
