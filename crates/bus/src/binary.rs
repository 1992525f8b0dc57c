//! Avro's binary form, written and read by hand.
//!
//! Source: Apache Avro 1.12 specification, "Binary encoding". Reading is bounds-checked everywhere: bytes that
//! end early, an index without a branch, a number without an end are errors, never a default.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

/// How many parts a record may be taken apart into: so many at least, and so many for each of its bytes.
///
/// A part that takes no bytes (a null, a record of nothing) can stand in a few bytes a billion times, and a schema of
/// sixty types can name one 2^60 times. No writer that means something comes near.
const PARTS_AT_LEAST: usize = 1 << 16;
const PARTS_A_BYTE: usize = 16;

/// Why bytes are not what their schema says; without any of the bytes.
pub(crate) type Fault = &'static str;

/// Writes a whole number.
pub(crate) fn put_long(out: &mut BytesMut, number: i64) {
    let mut zigzag = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = [0; 10];
    let mut length = 0;
    while zigzag >= 0x80 {
        bytes[length] = zigzag as u8 | 0x80;
        zigzag >>= 7;
        length += 1;
    }
    bytes[length] = zigzag as u8;
    out.extend_from_slice(&bytes[..=length]);
}

/// Writes bytes or a text.
pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// Writes the null branch of `["null", T]`.
pub(crate) fn put_null(out: &mut BytesMut) {
    out.extend_from_slice(&[0]);
}

/// Writes the index of T in `["null", T]`.
pub(crate) fn put_some(out: &mut BytesMut) {
    out.extend_from_slice(&[2]);
}

/// A place in a record's bytes.
pub(crate) struct Input<'a> {
    whole: &'a Bytes,
    at: usize,
    /// How many more parts may be passed over.
    parts: usize,
}

impl<'a> Input<'a> {
    pub(crate) fn new(whole: &'a Bytes) -> Self {
        Self { whole, at: 0, parts: PARTS_AT_LEAST + PARTS_A_BYTE * whole.len() }
    }

    /// Counts a part that is passed over; `Err` when there are more than its bytes could mean.
    pub(crate) fn part(&mut self) -> Result<(), Fault> {
        self.parts =
            self.parts.checked_sub(1).ok_or("the record has more parts than its bytes could mean")?;
        Ok(())
    }

    /// Returns how many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.whole.len() - self.at
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(length).ok_or("a length is beyond the record's end")?;
        let taken = self.whole.get(self.at..end).ok_or("the record ends too early")?;
        self.at = end;
        Ok(taken)
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, Fault> {
        match self.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err("a truth value is neither 0 nor 1"),
        }
    }

    pub(crate) fn long(&mut self) -> Result<i64, Fault> {
        let mut zigzag = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.take(1)? else { return Err("the record ends too early") };
            // The tenth byte holds one bit.
            if shift == 63 && byte > 1 {
                return Err("a whole number has more than 64 bits");
            }
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
            }
        }
        Err("a whole number has no end")
    }

    pub(crate) fn int(&mut self) -> Result<i32, Fault> {
        i32::try_from(self.long()?).map_err(|_| "an int has more than 32 bits")
    }

    pub(crate) fn float(&mut self) -> Result<f32, Fault> {
        self.take(4)?.try_into().map(f32::from_le_bytes).map_err(|_| "the record ends too early")
    }

    pub(crate) fn double(&mut self) -> Result<f64, Fault> {
        self.take(8)?.try_into().map(f64::from_le_bytes).map_err(|_| "the record ends too early")
    }

    fn length(&mut self) -> Result<usize, Fault> {
        usize::try_from(self.long()?).map_err(|_| "a length is negative")
    }

    /// Returns bytes that are not kept.
    pub(crate) fn slice(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.length()?;
        self.take(length)
    }

    /// Returns bytes that share the record's buffer.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, Fault> {
        let length = self.length()?;
        let start = self.at;
        self.take(length)?;
        Ok(self.whole.slice(start..self.at))
    }

    /// Returns a text that is not kept.
    pub(crate) fn str(&mut self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.slice()?).map_err(|_| "a text is not UTF-8")
    }

    /// Returns a text that shares the record's buffer.
    pub(crate) fn text(&mut self) -> Result<ByteString, Fault> {
        ByteString::try_from(self.bytes()?).map_err(|_| "a text is not UTF-8")
    }

    /// Passes a fixed number of bytes.
    pub(crate) fn pass(&mut self, length: usize) -> Result<(), Fault> {
        self.take(length).map(drop)
    }

    /// Returns the index of a union's branch or an enumeration's symbol.
    pub(crate) fn index(&mut self) -> Result<usize, Fault> {
        usize::try_from(self.long()?).map_err(|_| "a branch index is negative")
    }

    /// Returns how many items the next block of an array or a map has; 0 ends it.
    ///
    /// Bounded by what is left: an item that takes no bytes is counted as if it took one, so that a few
    /// bytes cannot claim a billion items.
    pub(crate) fn block(&mut self) -> Result<usize, Fault> {
        let count = self.long()?;
        if count < 0 {
            // A block that also says how many bytes it has; the items are read all the same.
            self.long()?;
        }
        let count = usize::try_from(count.unsigned_abs()).map_err(|_| "a block is too long")?;
        if count > self.left() {
            Err("a block claims more items than the record has bytes")
        } else {
            Ok(count)
        }
    }

    /// Says that the record must have ended.
    pub(crate) fn finish(&self) -> Result<(), Fault> {
        if self.left() == 0 { Ok(()) } else { Err("bytes follow the end of the record") }
    }
}
