//! Reads a store's address: what tokio-postgres understands, and the TLS parameters of libpq that it does not.

use std::path::PathBuf;
use std::time::Duration;

use hutong_core::{Error, ErrorKind, Result, Secret};
use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::connect::SETTINGS;
use super::tls::{Given, Tls};

/// Where a server is, and how to speak to it.
pub(crate) struct Address {
    pub(crate) config: Config,
    pub(crate) tls: Tls,
}

/// Reads an address (`postgres://user:password@host:port/database?sslmode=…` or `host=… dbname=…`).
///
/// `Err(Config)` does not repeat the address, since it may hold a password.
pub(crate) fn parse(url: &Secret) -> Result<Address> {
    let (text, given) = split(url.reveal());
    let mut config: Config = text.parse().map_err(|_: tokio_postgres::Error| {
        Error::new(
            ErrorKind::Config,
            "read the address of a PostgreSQL store",
            "it is not a PostgreSQL address",
        )
        .hint("write postgres://user@host:5432/database")
    })?;
    let mut tls = Tls::new(given)?;
    // As in libpq, a socket in the file system is not encrypted, whatever the address says.
    let hosts = config.get_hosts();
    if !hosts.is_empty() && hosts.iter().all(|host| matches!(host, Host::Unix(_))) {
        tls = Tls::disabled();
    }
    config.ssl_mode(match () {
        () if tls.is_disabled() => SslMode::Disable,
        () if tls.is_required() => SslMode::Require,
        () => SslMode::Prefer,
    });
    if config.get_hosts().is_empty() {
        // A certificate is checked against the host: here that is the address itself.
        let addresses: Vec<_> = config.get_hostaddrs().iter().map(ToString::to_string).collect();
        for address in &addresses {
            config.host(address);
        }
    }
    let options = match config.get_options() {
        Some(own) => format!("{own} {SETTINGS}"),
        None => SETTINGS.to_owned(),
    };
    config.options(&options);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(10));
    }
    // I7: a server that is gone without a word is given up within a minute, and not after the system's two hours.
    if !text.contains("keepalives") {
        config.keepalives_idle(Duration::from_secs(30));
        config.keepalives_interval(Duration::from_secs(5));
        config.keepalives_retries(4);
    }
    Ok(Address { config, tls })
}

/// Returns the files of certificates that an address names: `authorities` or `own`, and where.
///
/// `Err(Config)` when it is no address; the files are not touched.
pub fn certificates(url: &Secret) -> Result<Vec<(&'static str, PathBuf)>> {
    Ok(parse(url)?.tls.files())
}

/// Returns where an address leads to, without who asks: hosts, ports and database.
///
/// `Err(Config)` when it is no address.
pub fn place(url: &Secret) -> Result<String> {
    let config = parse(url)?.config;
    Ok(format!("{:?} {:?} {:?}", config.get_hosts(), config.get_ports(), config.get_dbname()))
}

/// Takes the TLS parameters out of an address of either form.
fn split(text: &str) -> (String, Given) {
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        split_url(text)
    } else {
        // What cannot be read stays as it is: tokio-postgres refuses it.
        split_pairs(text).unwrap_or_else(|| (text.to_owned(), Given::default()))
    }
}

fn split_url(url: &str) -> (String, Given) {
    let mut given = Given::default();
    // As tokio-postgres reads it: the first `@` ends the credentials, whatever they hold.
    let host = url.find('@').map_or(0, |at| at + 1);
    let Some(query) = url[host..].find('?').map(|at| host + at) else {
        return (url.to_owned(), given);
    };
    let mut rest = url[..query].to_owned();
    let mut mark = '?';
    for parameter in url[query + 1..].split('&') {
        let taken = parameter.split_once('=').is_some_and(|(key, value)| {
            given.take(&percent_decode_str(key).decode_utf8_lossy(), || {
                percent_decode_str(value).decode_utf8_lossy().into_owned()
            })
        });
        if !taken {
            rest.push(mark);
            rest.push_str(parameter);
            mark = '&';
        }
    }
    (rest, given)
}

/// Splits `key = value key = 'quoted value'`. `None`: it is not that.
fn split_pairs(text: &str) -> Option<(String, Given)> {
    let (mut rest, mut given) = (String::new(), Given::default());
    let mut left = text.trim_start();
    while !left.is_empty() {
        let (key, after) = left.split_once('=')?;
        let after = after.trim_start();
        let (value, length) = value(after)?;
        let end = left.len() - after.len() + length;
        if !given.take(key.trim_end(), || value) {
            rest.push_str(&left[..end]);
            rest.push(' ');
        }
        left = left[end..].trim_start();
    }
    Some((rest, given))
}

/// Returns the value that `text` begins with, and its length there.
/// Source: PostgreSQL, "Keyword/Value Connection Strings".
fn value(text: &str) -> Option<(String, usize)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' if quoted => return Some((value, at + 1)),
            c if !quoted && c.is_whitespace() => return Some((value, at)),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(mode: &str, root: &str) -> Given {
        let mut given = Given::default();
        assert!(given.take("sslmode", || mode.to_owned()));
        assert!(given.take("sslrootcert", || root.to_owned()));
        given
    }

    #[test]
    fn names_the_certificates_that_are_read() {
        let of = |url: &str| certificates(&Secret::new(url)).unwrap();
        let (ca, own) = (PathBuf::from("/ca.pem"), PathBuf::from("/c.pem"));
        assert_eq!(
            of("postgres://u@h/d?sslmode=verify-full&sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem"),
            [("authorities", ca), ("own", own.clone())]
        );
        assert_eq!(of("postgres://u@h/d?sslmode=require&sslcert=/c.pem&sslkey=/k.pem"), [("own", own)]);
        for none in ["postgres://u@h/d", "host=/run/postgresql sslmode=verify-full sslrootcert=/ca.pem"] {
            assert_eq!(of(none), [], "{none}");
        }
    }

    #[test]
    fn the_tls_parameters_are_taken_out_and_the_rest_stays() {
        let some = given("verify-full", "/etc/户 籍.pem");
        for (text, rest, expected) in [
            ("postgres://u@h/d", "postgres://u@h/d", Given::default()),
            ("postgres://u@h/d?connect_timeout=3", "postgres://u@h/d?connect_timeout=3", Given::default()),
            (
                "postgresql://u:a?sslmode=b@h:1/d?sslmode=verify-full&connect_timeout=3&sslrootcert=/etc/%E6%88%B7%20%E7%B1%8D.pem",
                "postgresql://u:a?sslmode=b@h:1/d?connect_timeout=3",
                some.clone(),
            ),
            (
                "host=h sslmode = verify-full password='a b\\'' sslrootcert='/etc/户 籍.pem' user=u",
                "host=h password='a b\\'' user=u ",
                some,
            ),
            ("host='h", "host='h", Given::default()),
            ("nonsense", "nonsense", Given::default()),
        ] {
            assert_eq!(split(text), (rest.to_owned(), expected), "{text}");
        }
    }

    #[test]
    fn the_mode_decides_and_a_socket_in_the_file_system_is_not_encrypted() {
        for (url, mode) in [
            ("postgres://u@h/d", SslMode::Prefer),
            ("postgres://u@h/d?sslmode=disable", SslMode::Disable),
            ("postgres://u@h/d?sslmode=require", SslMode::Require),
            ("host=h sslmode=verify-ca", SslMode::Require),
            ("host=/run/postgresql sslmode=verify-full", SslMode::Disable),
        ] {
            assert_eq!(parse(&Secret::new(url)).unwrap().config.get_ssl_mode(), mode, "{url}");
        }
    }

    #[test]
    fn i7_a_server_that_is_gone_without_a_word_is_given_up_unless_the_address_says_otherwise() {
        for (url, idle, retries) in [
            ("postgres://u@h/d", 30, Some(4)),
            ("host=h user=u", 30, Some(4)),
            ("postgres://u@h/d?keepalives_idle=7200", 7200, None),
        ] {
            let config = parse(&Secret::new(url)).unwrap().config;
            assert_eq!(config.get_keepalives_idle(), Duration::from_secs(idle), "{url}");
            assert_eq!(config.get_keepalives_retries(), retries, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_without_the_address() {
        for (url, why) in [
            ("postgres://u:hidden@h/d?sslmode=verify", "sslmode"),
            ("postgres://u:hidden@h/d?sslrootcert=/ca.pem", "sslrootcert"),
            ("postgres://u:hidden@h/d?sslmode=require&sslcert=/c.pem", "sslkey"),
            ("postgres://u:hidden@h/d?sslmoode=require", "not a PostgreSQL address"),
        ] {
            let error = parse(&Secret::new(url)).err().expect("refused");
            assert_eq!(error.kind, ErrorKind::Config, "{url}");
            assert!(error.to_string().contains(why) && error.hint.is_some(), "{error:?}");
            assert!(!format!("{error:?}").contains("hidden"), "{error:?}");
        }
    }
}
