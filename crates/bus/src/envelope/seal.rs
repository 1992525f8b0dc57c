//! Sealed columns in an envelope: a change is sealed before it is encoded, and opened as soon as it is read.
//!
//! On the wire a sealed value is bytes with the property `hutong.sealed`, which holds the value's own type. What is sealed
//! is the value in Avro's binary form as `["null", T]`, so that a NULL is sealed too; an Avro null there says that nobody
//! has told the value.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hutong_core::seal::{Cell, Fault as Shut, Image, Opener, Sealer};
use hutong_core::{Before, Change, Contract, Row, Type, Value};
use serde_json::json;

use super::convert::{Slot, optional};
use super::encode::plain;
use super::shape::{Id, Kind, Shapes};
use crate::binary::{Fault, Input, put_null, put_some};

/// What an encoder needs to seal.
pub(super) struct Seal {
    /// The contract with bytes in the place of sealed types.
    wire: Arc<Contract>,
    pub(super) sealer: Option<Sealer>,
}

impl Seal {
    pub(super) fn new(contract: &Contract) -> Self {
        let mut wire = contract.clone();
        wire.fields.iter_mut().filter(|field| field.sealed).for_each(|field| field.ty = Type::Bytes);
        Self { wire: wire.shared(), sealer: None }
    }

    /// Returns what stands for a serialized key; `None` when no field of it is sealed.
    pub(super) fn record_key(&self, serialized: &[u8]) -> Result<Option<[u8; 32]>, String> {
        if !self.wire.seals_key() {
            return Ok(None);
        }
        let sealer = self.sealer.as_ref().ok_or("it has no key to seal by")?;
        sealer.record_key(serialized).map(Some).map_err(|error| error.to_string())
    }

    /// Seals a change; returns it with the contract by which it is written. `strict`: NULL only where the contract says.
    pub(super) fn change(
        &mut self,
        change: &Change,
        record_key: &[u8],
        strict: bool,
    ) -> Result<(Arc<Contract>, Change), String> {
        let mut sealed = change.clone();
        let position = change.source_position.to_string();
        let mut row = |row: &mut Row, image, strict| {
            self.row(&change.contract, row, (record_key, &position, image), strict)
        };
        if let Some(after) = &mut sealed.after {
            row(after, Image::After, strict)?;
        }
        if let Before::Key(old) | Before::Full(old) = &mut sealed.before {
            row(old, Image::Before, false)?;
        }
        Ok((Arc::clone(&self.wire), sealed))
    }

    fn row(
        &mut self,
        contract: &Contract,
        row: &mut Row,
        (record_key, position, image): (&[u8], &str, Image),
        strict: bool,
    ) -> Result<(), String> {
        let sealer = self.sealer.as_mut().ok_or("it has no key to seal by")?;
        let mut bytes = BytesMut::new();
        for (field, value) in contract.fields.iter().zip(row).filter(|(field, _)| field.sealed) {
            bytes.clear();
            match &*value {
                Value::Unknown => continue,
                Value::Null if strict && !field.nullable => {
                    return Err(format!("field `{}` is NULL, the contract says NOT NULL", field.name));
                }
                Value::Null => put_null(&mut bytes),
                value => {
                    put_some(&mut bytes);
                    plain(&mut bytes, field, value)?;
                }
            }
            let cell = Cell { record_key, position, image, field: &field.name };
            let sealed = sealer.seal(&cell, &bytes).map_err(|error| error.to_string())?;
            *value = Value::Bytes(sealed.into());
        }
        Ok(())
    }
}

/// By what a reader opens sealed columns: the keys that it holds, and the columns that it wants.
#[derive(Debug, Clone)]
pub struct Unseal {
    /// The keys.
    pub opener: Arc<Opener>,
    /// The wire names of the columns. What is sealed and not named here stays unknown.
    pub fields: Vec<String>,
}

/// A sealed column of a writer's schema.
#[derive(Debug)]
pub(super) struct SealedColumn {
    at: usize,
    slot: Slot,
}

/// Why a record is not read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Trouble {
    /// Its bytes are not what its schema says.
    Malformed(Fault),
    /// A value was changed, or put into another place.
    Tampered(String),
    /// A key is missing here.
    NoKey(String),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Malformed(fault)
    }
}

/// Finds out how the values of a sealed column are read; `None` for a column that is sealed neither here nor there.
///
/// `Err`: only one of the two, the topic and the contract, has it sealed.
pub(super) fn column(
    shapes: &Shapes,
    id: Id,
    contract: &Contract,
    at: usize,
) -> Result<Option<SealedColumn>, String> {
    let found = optional(shapes, id).and_then(|(_, id)| {
        let shape = shapes.get(id);
        shape.sealed().filter(|_| shape.kind == Kind::Bytes)
    });
    match (found, contract.fields.get(at)) {
        (None, Some(field)) if !field.sealed => Ok(None),
        (None, _) => Err("the contract has it sealed, and in the topic it is not".into()),
        (Some(ty), Some(field)) if field.sealed => {
            let inner = Shapes::parse(&json!(["null", ty]).to_string())?;
            let slot = Slot::compile(&inner, inner.root, &field.ty)?;
            Ok(Some(SealedColumn { at, slot }))
        }
        (Some(_), _) => Err("it is sealed in the topic, and the contract does not say so".into()),
    }
}

/// Opens the sealed values of a row. `told`: whether a column that is null there should have a value.
pub(super) fn open_row(
    contract: &Contract,
    columns: &[SealedColumn],
    unseal: Option<&Unseal>,
    row: &mut Row,
    (record_key, position, image): (&[u8], &str, Image),
    told: impl Fn(usize) -> bool,
) -> Result<(), Trouble> {
    for column in columns {
        let (Some(field), Some(value)) = (contract.fields.get(column.at), row.get_mut(column.at)) else {
            continue;
        };
        let name = &field.name;
        let sealed = match std::mem::replace(value, Value::Unknown) {
            Value::Bytes(sealed) => sealed,
            _ if told(column.at) => {
                return Err(Trouble::Tampered(format!("column `{name}` holds no sealed value")));
            }
            other => {
                *value = other;
                continue;
            }
        };
        let Some(unseal) = unseal.filter(|unseal| unseal.fields.contains(name)) else {
            if contract.is_key(column.at) {
                let why = format!("the key column `{name}` is sealed, and this process does not open it");
                return Err(Trouble::NoKey(why));
            }
            continue;
        };
        let cell = Cell { record_key, position, image, field: name };
        let at = || format!("column `{name}` at source position {position}");
        let plain = unseal.opener.open(&cell, &sealed).map_err(|shut| match shut {
            Shut::Form => Trouble::Tampered(format!("{} is not in the form of a sealed value", at())),
            Shut::Tampered => Trouble::Tampered(format!(
                "{} does not open: it was changed, or belongs to another place",
                at()
            )),
            Shut::NoKey(epoch) => Trouble::NoKey(format!(
                "{} is sealed under epoch {epoch}, whose key is not wrapped for this reader",
                at()
            )),
        })?;
        let plain = Bytes::from(plain);
        let mut input = Input::new(&plain);
        *value = column.slot.read(&mut input)?;
        input.finish()?;
    }
    Ok(())
}
