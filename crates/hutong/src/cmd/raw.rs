//! `hutong tap --raw`: the bytes of one record, for a person who must see why it cannot be read.

use base64::prelude::{BASE64_STANDARD, Engine};
use hutong_bus::quarantine::trace_of;
use hutong_core::{Error, ErrorKind, Result, hexadecimal};
use serde_json::{Value as Json, json};

use super::arguments::Output;
use crate::config::Plan;
use crate::config::plan::StreamPlan;
use crate::exit::Exit;
use crate::wire;

/// How many bytes stand in one line.
const LINE: usize = 16;

/// Prints one record of a stream's topic.
pub(super) async fn show(plan: &Plan, stream: &StreamPlan, place: &str, output: Output) -> Result<Exit> {
    let (partition, offset) = read(place)?;
    let bus = wire::Bus::look(&plan.bus)?;
    let topic = stream.topic();
    let record = wire::record_at(&bus, &topic, partition, offset).await?;
    let trace = trace_of(&topic, partition, &record);
    let part = |bytes: Option<&[u8]>| match bytes {
        None => Json::Null,
        Some(bytes) => {
            json!({"bytes": bytes.len(), "hex": hexadecimal::text(bytes), "base64": BASE64_STANDARD.encode(bytes)})
        }
    };
    if output == Output::Json {
        let shown = json!({
            "topic": trace.topic, "partition": partition, "offset": offset, "schema_id": trace.schema_id,
            "digest": trace.digest, "key": part(record.key.as_deref()), "value": part(record.value.as_deref()),
        });
        super::print_json(&shown)?;
        return Ok(Exit::Done);
    }
    let id = trace.schema_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    println!("{topic}/{partition} at offset {offset}, schema {id}, SHA-256 {}", trace.digest);
    for (name, bytes) in [("key", record.key.as_deref()), ("value", record.value.as_deref())] {
        match bytes {
            None => println!("{name}: none"),
            Some(bytes) => {
                println!("{name}: {} bytes", bytes.len());
                lines(bytes).for_each(|line| println!("{line}"));
            }
        }
    }
    Ok(Exit::Done)
}

/// Reads `PARTITION/OFFSET`.
fn read(place: &str) -> Result<(u32, u64)> {
    let parts = place.split_once('/').and_then(|(p, offset)| Some((p.parse().ok()?, offset.parse().ok()?)));
    parts.ok_or_else(|| {
        Error::new(ErrorKind::Config, format!("read the place {place}"), "it is not PARTITION/OFFSET")
            .hint("`hutong quarantine show` tells both of a record that did not decode, as in --at 2/1507")
    })
}

/// Returns lines of sixteen bytes: where they stand, in hexadecimal, and as ASCII where a terminal may have it.
fn lines(bytes: &[u8]) -> impl Iterator<Item = String> {
    bytes.chunks(LINE).enumerate().map(|(i, chunk)| {
        let digits: Vec<String> = chunk.iter().map(|b| format!("{b:02x}")).collect();
        let shown = |b: &u8| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' };
        let text: String = chunk.iter().map(shown).collect();
        format!("  {:08x}  {:<47}  {text}", i * LINE, digits.join(" "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_in_lines_and_no_terminal_obeys_them() {
        let bytes = [b"\0\x1b[2J".as_slice(), "姓".as_bytes(), &[b'a'; 10]].concat();
        let lines: Vec<String> = lines(&bytes).collect();
        assert_eq!(lines[0], "  00000000  00 1b 5b 32 4a e5 a7 93 61 61 61 61 61 61 61 61  ..[2J...aaaaaaaa");
        assert_eq!(lines[1], format!("  00000010  61 61{}  aa", " ".repeat(42)));
        assert_eq!(hexadecimal::text(&bytes[..2]), "001b");
    }

    #[test]
    fn a_place_is_a_partition_and_an_offset() {
        assert_eq!(read("2/1507").unwrap(), (2, 1507));
        for place in ["", "2", "2/", "/7", "a/b", "-1/0", "1/2/3"] {
            assert_eq!(read(place).unwrap_err().kind, ErrorKind::Config, "{place}");
        }
    }
}
