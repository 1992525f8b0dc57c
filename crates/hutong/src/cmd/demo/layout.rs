//! The folder of the demonstration: its configuration and its department's register.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use hutong_core::{Error, ErrorKind, Result, ResultExt};
use hutong_stores::sqlite::Plain;

use super::register::{Register, TABLE};

/// People in the register when the demonstration begins.
pub(super) const PEOPLE: usize = 2_000;

const CONTRACT: &str = include_str!("../../../../../schemas/population_base.avsc");

/// Which bus the demonstration goes over.
pub(super) enum Way {
    Embedded,
    Kafka { brokers: String, registry: String },
}

/// Makes the folder: the contract, the configuration, the register with its people.
pub(super) fn prepare(folder: &Path, way: &Way, register: &mut Register) -> Result<PathBuf> {
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text)
            .or_kind(ErrorKind::Config, || format!("write {name} into {}", folder.display()))
    };
    std::fs::create_dir_all(folder).or_kind(ErrorKind::Config, || format!("make {}", folder.display()))?;
    let mut entries =
        std::fs::read_dir(folder).or_kind(ErrorKind::Config, || format!("read {}", folder.display()))?;
    if entries.next().is_some() {
        let why = "it is not empty, and the demonstration writes only into a folder of its own";
        return Err(Error::new(ErrorKind::Config, format!("use {}", folder.display()), why));
    }
    write("population_base.avsc", CONTRACT)?;
    write("hutong.toml", &configuration(way, free_address()?))?;
    let mut office = Plain::open(&folder.join("gongan.db"))?;
    office.run(TABLE)?;
    office.run(&register.fill(PEOPLE))?;
    Ok(folder.join("hutong.toml"))
}

/// Returns a loopback address that is free now, so that `hutong status -c` finds the demonstration there.
fn free_address() -> Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .or_kind(ErrorKind::Unavailable, || "find a free port".into())
}

fn configuration(way: &Way, http: SocketAddr) -> String {
    // On a cluster that others use too, each demonstration has topics and names of its own.
    let run = jiff::Timestamp::now().as_second();
    let (bus, generation) = match way {
        Way::Embedded => ("[bus.embedded]\nfolder = \"bus\"\n".to_owned(), 1),
        Way::Kafka { brokers, registry } => (
            format!(
                "[bus]\nname = \"demo{run}\"\n\n[bus.kafka]\nbrokers = {brokers:?}\nregistry = {registry:?}\n"
            ),
            // A generation has at most a million; nobody shows it twice within the same second of twelve days.
            run % 1_000_000 + 1,
        ),
    };
    format!(
        r#"# Written by `hutong demo`; `hutong check -c` this file, change it, and run it with `hutong run -c`.
{bus}
[http]
address = "{http}"

[department.gongan]
name = "公安局"

[department.renshe]
name = "人力资源和社会保障局"

[department.weijian]
name = "卫生健康委员会"

[store.gongan.sqlite]
path = "gongan.db"

[store.renshe.sqlite]
path = "renshe.db"

[store.weijian.sqlite]
path = "weijian.db"

[stream.population_base]
owner      = "gongan"
contract   = "population_base.avsc"
generation = {generation}

[capture.gongan]
from               = "gongan"
tables             = {{ population_base = "population_base" }}
watermark_interval = "1s"

# Six columns of the living and the dead, not of the cancelled; the phone masked.
[subscription.renshe_population]
department  = "renshe"
stream      = "population_base"
purpose     = "养老保险待遇资格核验"
legal_basis = "社会保险法 第七十四条"
until       = 2099-12-31
columns     = ["gmsfhm", "xm", "csrq", "rkzt", "swrq", "lxdh"]
rows        = "rkzt <> '注销'"
mask        = {{ lxdh = "phone" }}
into        = {{ store = "renshe", table = "population" }}

# Three columns of everybody; the name and the address masked.
[subscription.weijian_contacts]
department  = "weijian"
stream      = "population_base"
purpose     = "家庭医生签约服务"
legal_basis = "基本医疗卫生与健康促进法（示例）"
until       = 2099-12-31
columns     = ["gmsfhm", "xm", "jzdz"]
mask        = {{ xm = "name", jzdz = "address" }}
into        = {{ store = "weijian", table = "contacts" }}

# Starts late, and catches up from the base of the topic.
[subscription.weijian_births]
department  = "weijian"
stream      = "population_base"
purpose     = "新生儿疫苗接种"
legal_basis = "疫苗管理法（示例）"
until       = 2099-12-31
columns     = ["gmsfhm", "csrq", "xbdm", "hjdz_xzqh"]
rows        = "csrq >= DATE '2026-01-01'"
into        = {{ store = "weijian", table = "births" }}
"#
    )
}
