//! Whether a contract may follow the one that a topic was written by, and who would break if it did.
//!
//! A registry sees the wire alone: a shorter length or a lost label passes it, and so it names neither a field nor a
//! subscription. So a capture notes the contract of each topic in its checkpoint, and compares before it writes.

use hutong_core::contract::{Difference, Sharing, diff};
use hutong_core::{Checkpoint, Contract, Error, ErrorKind};

use crate::envelope::{contract_of, schemas};
use crate::quarantine::stem;

/// The compatibility of a stream that names none.
pub(crate) const STRICT: &str = "FULL_TRANSITIVE";

/// One who reads a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// The subscription.
    pub subscription: String,
    /// The wire names of the fields that its columns and its rows use.
    pub fields: Vec<String>,
}

/// Returns the name of the note that holds the contract by which a topic is written.
pub(crate) fn note_name(topic: &str) -> String {
    format!("contract.{topic}")
}

/// Returns the note of a contract: what decides whether another may follow it, and no more, for a checkpoint is
/// written with every commit.
pub(crate) fn note(topic: &str, contract: &Contract) -> (String, String) {
    let mut short = contract.clone();
    (short.doc, short.sharing) = (String::new(), Sharing::Unconditional);
    short.catalogue.clear();
    for field in &mut short.fields {
        (field.doc, field.column, field.mask) = (String::new(), None, None);
        field.checks.clear();
        field.catalogue.clear();
    }
    let text = serde_json::from_str(&short.to_avsc()).unwrap_or_else(|_| serde_json::Value::Null).to_string();
    (note_name(topic), text)
}

/// Returns the contract by which a topic is written, as a capture's checkpoint has noted it: names, types, NULLs, key.
pub fn noted(checkpoint: &Checkpoint, topic: &str) -> Option<Contract> {
    Contract::parse(checkpoint.note(&note_name(topic))?).ok()
}

/// Returns what `new` changes of `old` so that the topic must be another, under a compatibility level of the registry.
///
/// Under a level that is not the strictest, what shows on the wire is the registry's to judge.
pub fn breaking(old: &Contract, new: &Contract, level: &str) -> Vec<Difference> {
    let mut breaking: Vec<Difference> = diff(old, new).into_iter().filter(|d| d.breaking).collect();
    if level != STRICT {
        let shown = on_wire(old, new);
        // To the registry, sealed values are bytes like any others, and bytes and text are nearly one.
        let sealed = |d: &Difference| {
            let sealed = |c: &Contract| d.field.as_ref().and_then(|f| c.field(f)).is_some_and(|f| f.sealed);
            sealed(old) || sealed(new)
        };
        breaking.retain(|d| sealed(d) || shown.iter().all(|shown| shown.field != d.field));
    }
    breaking
}

fn on_wire(old: &Contract, new: &Contract) -> Vec<Difference> {
    let wire = |contract: &Contract| contract_of(&schemas(contract, "wire").value, &new.stream);
    let (Ok(old), Ok(new)) = (wire(old), wire(new)) else { return Vec::new() };
    diff(&old, &new).into_iter().filter(|d| d.breaking).collect()
}

/// Returns what breaks between a registered schema of a topic and a contract; empty when only the registry can tell.
pub fn breaking_of_schema(registered: &str, new: &Contract) -> Vec<Difference> {
    // As schemas, for the registered one knows no lengths and no NOT NULL.
    let new = contract_of(&schemas(new, "wire").value, &new.stream);
    let (Ok(old), Ok(new)) =
        (new.as_ref().map_or(Err(()), |new| contract_of(registered, &new.stream).map_err(|_| ())), new)
    else {
        return Vec::new();
    };
    diff(&old, &new).into_iter().filter(|difference| difference.breaking).collect()
}

/// Returns the subscriptions that use a field that breaks; all of them where the whole stream breaks, or where nobody
/// can tell what does.
pub fn broken<'a>(readers: &'a [Reader], breaking: &[Difference]) -> Vec<&'a str> {
    let uses = |reader: &Reader, d: &Difference| {
        d.field.as_ref().is_none_or(|field| reader.fields.iter().any(|used| used == field))
    };
    let broken = |reader: &&Reader| breaking.is_empty() || breaking.iter().any(|d| uses(reader, d));
    readers.iter().filter(broken).map(|reader| reader.subscription.as_str()).collect()
}

/// Makes the error of a contract that may not follow the one of its topic; `other` is said when no field can be named.
pub(crate) fn refused(topic: &str, readers: &[Reader], breaking: &[Difference], other: &str) -> Error {
    let told = |d: &Difference| format!("{}: {}", d.field.as_deref().unwrap_or("the stream"), d.what);
    let what = match breaking {
        [] => other.to_owned(),
        breaking => breaking.iter().map(told).collect::<Vec<_>>().join("; "),
    };
    let names = broken(readers, breaking);
    let names = if names.is_empty() { "none of this configuration".to_owned() } else { names.join(", ") };
    let why = format!(
        "the contract breaks those who read the topic: {what}; subscriptions that would break: {names}"
    );
    Error::new(ErrorKind::SchemaConflict, format!("prepare topic {topic}"), why).hint(way_forward(topic))
}

/// Returns the steps that a person takes.
fn way_forward(topic: &str) -> String {
    let stream = stem(topic).rsplit_once('.').map_or(topic, |(_, stream)| stream);
    let generation = topic.rsplit_once(".v").and_then(|(_, n)| n.parse::<u32>().ok()).unwrap_or(1);
    format!(
        "take the change back, or open the next generation: `generation = {}` under [stream.{stream}], look at it with \
         `hutong contract check {stream}`, then start `hutong run` again; its table is then read anew, and its \
         subscriptions fill from the new topic",
        generation + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract(name: &str) -> Contract {
        let text = format!(
            r#"{{"type":"record","name":"s","doc":"一行","sharing":"unconditional","title":"登记","key":["id"],"fields":[
            {{"name":"id","type":"long"}},{{"name":"name","type":["null",{name}],"doc":"姓名","column":"姓名"}}]}}"#
        );
        Contract::parse(&text).unwrap()
    }

    #[test]
    fn what_the_wire_does_not_show_breaks_under_every_level_and_what_it_shows_is_the_registrys() {
        let text = |length: u32| contract(&format!(r#"{{"type":"string","length":{length}}}"#));
        let mut checkpoint = Checkpoint::default();
        checkpoint.notes.extend([note("a.s.v1", &text(4))]);
        let old = noted(&checkpoint, "a.s.v1").unwrap();
        assert_eq!(noted(&checkpoint, "a.s.v2"), None);
        assert!(!checkpoint.notes["contract.a.s.v1"].contains("登记"), "{:?}", checkpoint.notes);
        for (new, level, broken) in [
            (text(4), STRICT, 0),
            (text(9), STRICT, 0),
            (text(3), STRICT, 1),
            (text(3), "BACKWARD", 1),
            (contract("\"long\""), STRICT, 1),
            (contract("\"long\""), "BACKWARD", 0),
        ] {
            assert_eq!(breaking(&old, &new, level).len(), broken, "{new:?} {level}");
        }
        let mut sealed = text(4);
        sealed.fields[1].sealed = true;
        for level in [STRICT, "BACKWARD"] {
            assert_eq!(breaking(&old, &sealed, level).len(), 1, "{level}");
        }
        checkpoint.notes.extend([note("a.s.v1", &sealed)]);
        assert!(noted(&checkpoint, "a.s.v1").unwrap().fields[1].sealed, "the note says so");
        let registered = schemas(&text(4), "a.s.v1").value;
        assert_eq!(breaking_of_schema(&registered, &contract("\"long\"")).len(), 1);
        assert_eq!(breaking_of_schema(&registered, &text(3)), []);
    }

    #[test]
    fn the_refusal_names_field_subscriptions_and_the_way_forward() {
        let reader = |name: &str, field: &str| Reader {
            subscription: name.into(),
            fields: vec!["id".into(), field.into()],
        };
        let readers = [reader("renshe", "name"), reader("minzheng", "born")];
        let text = |length: u32| contract(&format!(r#"{{"type":"string","length":{length}}}"#));
        let error = refused("gongan.s.v3", &readers, &breaking(&text(4), &text(3), STRICT), "");
        let told = error.to_string();
        assert!(
            told.contains("name: text(4) becomes text(3)") && told.ends_with("would break: renshe"),
            "{told}"
        );
        let hint = error.hint.unwrap();
        assert!(hint.contains("`generation = 4` under [stream.s]"), "{hint}");
        assert!(refused("gongan.s.v1", &readers, &[], "no").to_string().ends_with("renshe, minzheng"));
    }
}
