//! Decoding and permitting alone: bytes of the topic into permitted changes, on one core.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use hutong_bus::log::Incoming;
use hutong_bus::{Decoder, HttpRegistry, Outcome, RegistryConfig, SchemaRegistry};
use hutong_core::grant::{Grant, Permit};
use hutong_core::{Mask, Secret, Step, Verdict};
use serde::Deserialize;

use crate::limit::Record;
use crate::population::COLUMNS;

/// How much of a framed record is not Avro: a zero and the schema's id.
const HEAD: usize = 5;
/// Records that are decoded over and over, so that they stand in the cache for each of the three.
const RECORDS: usize = 20_000;
/// How often in one turn.
const ROUNDS: usize = 4;
/// How often each has its turn. The best of them counts: one core says little while a neighbour takes it away, and
/// turns that alternate are taken away alike.
const TURNS: usize = 5;

/// Records a second.
#[derive(Default)]
pub(crate) struct Rates {
    pub(crate) decode: f64,
    pub(crate) decode_permit: f64,
    /// With three columns masked.
    pub(crate) decode_mask: f64,
    pub(crate) apache_avro: f64,
    pub(crate) serde_avro_fast: f64,
}

/// An envelope as `serde_avro_fast` is at its best: texts borrowed from the record.
#[derive(Deserialize)]
#[expect(dead_code, reason = "it is decoded, and nobody reads it")]
struct Envelope<'a> {
    #[serde(borrow)]
    before: Option<Row<'a>>,
    #[serde(borrow)]
    after: Option<Row<'a>>,
    #[serde(borrow)]
    source: Source<'a>,
    op: &'a str,
    ts_us: Option<i64>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "it is decoded, and nobody reads it")]
struct Source<'a> {
    connector: &'a str,
    name: &'a str,
    db: &'a str,
    schema: &'a str,
    table: &'a str,
    ts_us: Option<i64>,
    position: &'a str,
    before: &'a str,
    last: bool,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "it is decoded, and nobody reads it")]
struct Row<'a> {
    gmsfhm: &'a str,
    xm: Option<&'a str>,
    cym: Option<&'a str>,
    xbdm: Option<&'a str>,
    mzdm: Option<&'a str>,
    csrq: Option<i32>,
    hjdz_xzqh: Option<&'a str>,
    hjdz: Option<&'a str>,
    jzdz_xzqh: Option<&'a str>,
    jzdz: Option<&'a str>,
    hh: Option<&'a str>,
    yhzgx: Option<&'a str>,
    hyzk: Option<&'a str>,
    whcd: Option<&'a str>,
    lxdh: Option<&'a str>,
    zp_ref: Option<&'a str>,
    pcs_dm: Option<&'a str>,
    rkzt: Option<&'a str>,
    swrq: Option<i32>,
    gxsj: Option<&'a str>,
    jzmj: Option<rust_decimal::Decimal>,
}

/// Measures all of them on the same bytes.
pub(crate) async fn measure(registry: &str, contract: &str, records: &[Record]) -> Rates {
    let contract = Arc::new(hutong_core::contract::parse(contract).unwrap());
    let registry: Arc<dyn SchemaRegistry> =
        Arc::new(HttpRegistry::new(RegistryConfig::new(registry.to_owned())).unwrap());
    let records: Vec<Incoming> = records
        .iter()
        .take(RECORDS)
        .map(|record| Incoming {
            offset: record.offset,
            written_us: 0,
            key: Some(record.key.clone()),
            value: Some(record.value.clone()),
            headers: Vec::new(),
        })
        .collect();
    let id = u32::from_be_bytes(records[0].value.as_deref().unwrap()[1..HEAD].try_into().unwrap());
    let text = registry.by_id(id).await.unwrap().unwrap();
    let body = |record: &Incoming| record.value.clone().unwrap().slice(HEAD..);
    let schema = apache_avro::Schema::parse_str(&text).unwrap();
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
    let few = &records[..RECORDS / 10];
    let compiled: serde_avro_fast::Schema = text.parse().unwrap();
    let mut decoder = Decoder::new(Arc::clone(&registry), Arc::clone(&contract));
    decoder.learn(&records).await.unwrap();
    let mut permit = Permit::new(Arc::clone(&contract), &grant(&[])).unwrap();
    let masks = [("xm", Mask::Name), ("lxdh", Mask::Phone), ("hjdz", Mask::Address)];
    let mut mask = Permit::new(Arc::clone(&contract), &grant(&masks)).unwrap();
    let mut best = Rates::default();
    for _ in 0..TURNS {
        better(&mut best.decode, &records, |record| match decoder.decode(record) {
            Outcome::Change(change) => drop(black_box(change)),
            other => panic!("{other:?}"),
        });
        for (best, permit) in [(&mut best.decode_permit, &mut permit), (&mut best.decode_mask, &mut mask)] {
            better(best, &records, |record| match decoder.decode(record) {
                Outcome::Change(change) => match permit.apply(*change) {
                    Verdict::Pass(change) => drop(black_box(change)),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            });
        }
        better(&mut best.serde_avro_fast, &records, |record| {
            let body = body(record);
            let envelope: Envelope<'_> = serde_avro_fast::from_datum_slice(&body, &compiled).unwrap();
            black_box(&envelope);
        });
        better(&mut best.apache_avro, few, |record| {
            let body = body(record);
            black_box(reader.read_value(&mut &body[..]).unwrap());
        });
    }
    best
}

/// Every column, in clear but for masks, of the people who are not cancelled or are: a filter that is computed and lets all through.
fn grant(masks: &[(&str, Mask)]) -> Grant {
    Grant {
        subscription: "bench".into(),
        stream: "population_base".into(),
        columns: COLUMNS.map(str::to_owned).to_vec(),
        rows: Some("rkzt IN ('正常', '注销')".into()),
        masks: masks.iter().map(|(column, mask)| ((*column).to_owned(), *mask)).collect(),
        until: None,
        key: Secret::new(String::new()),
    }
}

/// Lets `each` take its turn, and keeps its rate if it is the best so far.
fn better(best: &mut f64, records: &[Incoming], mut each: impl FnMut(&Incoming)) {
    records.iter().for_each(&mut each);
    let started = Instant::now();
    for _ in 0..ROUNDS {
        records.iter().for_each(&mut each);
    }
    *best = best.max((records.len() * ROUNDS) as f64 / started.elapsed().as_secs_f64());
}
