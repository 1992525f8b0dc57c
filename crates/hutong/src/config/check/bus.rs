//! The bus, the HTTP address and the limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use jiff::SpanRelativeTo;
use jiff::tz::TimeZone;
use toml::Spanned;

use super::say::Part;
use super::{Check, name};
use crate::config::document::Entry;
use crate::config::file::{self, Text};
use crate::config::plan::{
    BusPlan, BusSystem, EmbeddedPlan, HttpPlan, KafkaPlan, LimitsPlan, LoginPlan, Mechanism, SaslPlan,
    TlsPlan,
};

/// More replicas than anybody needs: what is larger was meant for another key.
const MOST_REPLICAS: u32 = 10;

/// The settings that other themes need although the bus may not be whole.
pub(super) struct Settings {
    pub(super) bus: Option<BusPlan>,
    pub(super) zone: TimeZone,
    pub(super) partitions: u32,
}

/// Reads `[bus]`; without it, the bus is the folder `.hutong`.
pub(super) fn settings(check: &mut Check<'_>) -> Settings {
    let document = check.document;
    let nothing = Entry {
        name: "bus".into(),
        at: crate::config::document::At { file: 0, offset: 0 },
        body: file::Bus::default(),
        broken: Vec::new(),
    };
    let entry = document.bus.as_ref().unwrap_or(&nothing);
    let body = &entry.body;
    let bus_name = bus_name(check, entry);
    let zone = zone(check, entry);
    let history = history(check, entry);
    let partitions = check.number(entry, "partitions", body.partitions.as_ref(), 1..=1_000, 4);
    let system = match (&body.kafka, &body.embedded) {
        (Some(kafka), Some(embedded)) => {
            let at = entry.at(embedded.span().start);
            check.error(at, "there are both [bus.kafka] and [bus.embedded]", Some("keep one".into()));
            self::embedded(check, entry, Some(embedded));
            self::kafka(check, entry, kafka)
        }
        (Some(kafka), None) => self::kafka(check, entry, kafka),
        (None, _) if entry.told(&["kafka"]) => None,
        (None, embedded) => self::embedded(check, entry, embedded.as_ref()),
    };
    let bus = system.map(|system| BusPlan { name: bus_name, zone: zone.clone(), history, system });
    Settings { bus, zone, partitions }
}

fn bus_name(check: &mut Check<'_>, entry: &Entry<file::Bus>) -> String {
    let Some(written) = &entry.body.name else { return "hutong".into() };
    let at = entry.at(written.span().start);
    let text = written.get_ref();
    if text == "hutong" {
        return text.clone();
    }
    name::one(check, "bus", text, at, true);
    // A department's own half writes no topic: its groups begin with the name, and that is all.
    let document = check.document;
    let is_half =
        document.captures.is_empty() && document.streams.values().all(|s| s.body.delivered.is_some());
    if document.departments.contains_key(text) && !is_half {
        let message = format!("the bus has the name of the department `{text}`, so their topics would mix");
        check.error(at, message, None);
    }
    text.clone()
}

fn zone(check: &mut Check<'_>, entry: &Entry<file::Bus>) -> TimeZone {
    let default = || TimeZone::get("Asia/Shanghai").unwrap_or(TimeZone::UTC);
    let Some(written) = &entry.body.timezone else { return default() };
    match TimeZone::get(written.get_ref()) {
        Ok(zone) => zone,
        Err(_) => {
            let message = format!("there is no time zone `{}`", written.get_ref());
            let hint = "a name of the IANA database, such as `Asia/Shanghai` or `UTC`".to_owned();
            check.error(entry.at(written.span().start), message, Some(hint));
            default()
        }
    }
}

fn history(check: &mut Check<'_>, entry: &Entry<file::Bus>) -> Duration {
    const DAY: Duration = Duration::from_secs(86_400);
    let default = 30 * DAY;
    let Some(written) = &entry.body.history else { return default };
    let read = written.get_ref().parse::<jiff::Span>().ok();
    let read = read.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    match read.and_then(|span| Duration::try_from(span).ok()) {
        Some(span) if (DAY / 24..=36_500 * DAY).contains(&span) => span,
        _ => {
            let message =
                format!("`history` is `{}`, which is no time from 1 h to 36500 d", written.get_ref());
            check.error(entry.at(written.span().start), message, Some("such as \"30d\" or \"12h\"".into()));
            default
        }
    }
}

fn kafka(check: &mut Check<'_>, entry: &Entry<file::Bus>, kafka: &Spanned<file::Kafka>) -> Option<BusSystem> {
    let body = kafka.get_ref();
    let part = Part { entry, at: entry.at(kafka.span().start), what: "[bus.kafka]", path: &["kafka"] };
    let before = check.errors();
    let brokers = check.text(&part, "brokers", body.brokers.as_ref());
    if let (Some(text), Some(written)) = (brokers, &body.brokers) {
        for broker in text.split(',').map(str::trim) {
            let port = broker
                .rsplit_once(':')
                .filter(|(host, _)| !host.is_empty())
                .map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) {
                let message = format!("the broker `{broker}` is not of the form host:port");
                check.error(entry.at(written.span().start), message, None);
            }
        }
    }
    let registry = check.text(&part, "registry", body.registry.as_ref());
    if let (Some(text), Some(written)) = (registry, &body.registry) {
        let at = entry.at(written.span().start);
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        match rest {
            None => {
                let hint = "the base of its Confluent API, such as http://registry:8081".to_owned();
                check.error(at, "`registry` is not an http or https address", Some(hint));
            }
            Some(rest) if rest.split('/').next().unwrap_or_default().contains('@') => {
                let hint = "registry_login = { user = \"…\", password = { env = \"…\" } }".to_owned();
                check.error(at, "`registry` holds a login, which may not be written out", Some(hint));
            }
            Some(_) => {}
        }
    }
    let registry_login = body.registry_login.as_ref().and_then(|login| {
        let what = "`registry_login` of [bus.kafka]";
        let part = Part { entry, at: entry.at(login.span().start), what, path: &["kafka", "registry_login"] };
        self::login(check, &part, login.get_ref())
    });
    let asked = body.replication.as_ref();
    let replication =
        asked.map(|asked| check.number(entry, "replication", Some(asked), 1..=MOST_REPLICAS, 3));
    let security = body.security.as_ref().map(Spanned::get_ref);
    let tls = security.and_then(|s| s.tls.as_ref()).map(|tls| {
        let file = |path: &Option<Text>| path.as_ref().map(|path| beside(check, entry, path.get_ref()));
        let body = tls.get_ref();
        if body.certificate_file.is_some() != body.key_file.is_some() {
            let hint = Some("name both, or neither".to_owned());
            let plan = (file(&body.ca_file), file(&body.certificate_file), file(&body.key_file));
            check.error(
                entry.at(tls.span().start),
                "a client's certificate and its key belong together",
                hint,
            );
            return TlsPlan { ca_file: plan.0, certificate_file: plan.1, key_file: plan.2 };
        }
        TlsPlan {
            ca_file: file(&body.ca_file),
            certificate_file: file(&body.certificate_file),
            key_file: file(&body.key_file),
        }
    });
    let sasl = security.and_then(|s| s.sasl.as_ref()).and_then(|sasl| self::sasl(check, entry, sasl));
    if let (Some(SaslPlan { mechanism: Mechanism::Plain, .. }), None, Some(security)) =
        (&sasl, &tls, &body.security)
    {
        let message = "the password goes to the brokers readable by anyone on the way: `plain` without `tls`";
        check.warn(
            entry.at(security.span().start),
            message,
            Some("add tls = {}, or use scram_sha_512".into()),
        );
    }
    if check.errors() > before {
        return None;
    }
    Some(BusSystem::Kafka(KafkaPlan {
        brokers: brokers?.to_owned(),
        registry: registry?.trim_end_matches('/').to_owned(),
        registry_login,
        replication,
        tls,
        sasl,
    }))
}

fn sasl(check: &mut Check<'_>, entry: &Entry<file::Bus>, sasl: &Spanned<file::Sasl>) -> Option<SaslPlan> {
    let body = sasl.get_ref();
    let all = [
        (Mechanism::Plain, "plain", &body.plain),
        (Mechanism::ScramSha256, "scram_sha_256", &body.scram_sha_256),
        (Mechanism::ScramSha512, "scram_sha_512", &body.scram_sha_512),
    ];
    let mut named =
        all.into_iter().filter_map(|(mechanism, key, login)| Some((mechanism, key, login.as_ref()?)));
    match (named.next(), named.next()) {
        (Some((mechanism, key, login)), None) => {
            let what = format!("`{key}` of [bus.kafka.security.sasl]");
            let path = ["kafka", "security", "sasl", key];
            let part = Part { entry, at: entry.at(login.span().start), what: &what, path: &path };
            self::login(check, &part, login.get_ref()).map(|login| SaslPlan { mechanism, login })
        }
        (None, _) if entry.told(&["kafka", "security", "sasl"]) => None,
        _ => {
            let hint = "one of plain, scram_sha_256, scram_sha_512".to_owned();
            check.error(entry.at(sasl.span().start), "`sasl` needs exactly one mechanism", Some(hint));
            None
        }
    }
}

fn login(check: &mut Check<'_>, part: &Part<'_, file::Bus>, body: &file::Login) -> Option<LoginPlan> {
    let user = check.text(part, "user", body.user.as_ref());
    let password = check.required(part, "password", body.password.as_ref());
    let password = password.and_then(|password| check.secret(part.entry, "password", password));
    Some(LoginPlan { user: user?.to_owned(), password: password? })
}

fn embedded(
    check: &mut Check<'_>,
    entry: &Entry<file::Bus>,
    embedded: Option<&Spanned<file::Embedded>>,
) -> Option<BusSystem> {
    let nothing = file::Embedded::default();
    let body = embedded.map_or(&nothing, Spanned::get_ref);
    let folder = body.folder.as_ref().map_or(".hutong", |folder| folder.get_ref());
    let mut registry = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    if let Some(written) = &body.registry {
        let at = entry.at(written.span().start);
        match written.get_ref().parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => registry = address,
            Ok(_) => {
                let hint = "127.0.0.1 and a port: whoever reaches it may change schemas".to_owned();
                check.error(at, "`registry` is not a loopback address", Some(hint));
            }
            Err(_) => not_an_address(check, entry, "registry", written),
        }
    }
    Some(BusSystem::Embedded(EmbeddedPlan { folder: beside(check, entry, folder), registry }))
}

/// Reads `[http]`.
pub(super) fn http(check: &mut Check<'_>) -> HttpPlan {
    let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9464));
    if let Some(entry) = &check.document.http
        && let Some(written) = &entry.body.address
    {
        match written.get_ref().parse() {
            Ok(read) => address = read,
            Err(_) => not_an_address(check, entry, "address", written),
        }
    }
    let http = check.document.http.as_ref();
    let body = http.map(|entry| &entry.body);
    let cluster = body.and_then(|body| body.kafka_lag_exporter.as_ref());
    let named = body.and_then(|body| body.token_file.as_ref());
    let token_file = http.zip(named).map(|(entry, path)| beside(check, entry, path.get_ref()));
    if let Some(entry) = http
        && let Some(written) = &entry.body.address
        && token_file.is_none()
        && !entry.told(&["token_file"])
        && !address.ip().is_loopback()
    {
        let message = format!(
            "`address` {address} can be asked from other machines, and without a token anybody there reads which \
             department gets what, and how it goes"
        );
        let hint = "token_file = \"FILE\", made by: (umask 077; openssl rand -hex 32 > FILE); or 127.0.0.1 for this \
                    machine alone";
        check.error(entry.at(written.span().start), message, Some(hint.into()));
    }
    HttpPlan {
        address,
        kafka_lag_exporter: cluster.map(|name| name.get_ref().clone()),
        token_file,
        open_metrics: body.and_then(|body| body.open_metrics).unwrap_or(false),
    }
}

/// Reads `[limits]`.
pub(super) fn limits(check: &mut Check<'_>) -> LimitsPlan {
    let quarantine = match &check.document.limits {
        Some(entry) => check.number(entry, "quarantine", entry.body.quarantine.as_ref(), 0..=u32::MAX, 1_000),
        None => 1_000,
    };
    LimitsPlan { quarantine: quarantine.into() }
}

fn not_an_address<T>(check: &mut Check<'_>, entry: &Entry<T>, key: &str, written: &Text) {
    let message = format!("`{key}` is `{}`, which is not an IP address and a port", written.get_ref());
    check.error(entry.at(written.span().start), message, Some("such as 127.0.0.1:9464".into()));
}

/// Returns a path that is relative to the file which names it.
fn beside<T>(check: &Check<'_>, entry: &Entry<T>, path: &str) -> PathBuf {
    check
        .document
        .files
        .get(entry.at.file)
        .map_or_else(|| PathBuf::from(path), |file| file.folder().join(path))
}
