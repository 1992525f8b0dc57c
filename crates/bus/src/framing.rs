//! Confluent's framing: how a record names the schema that it was written with.
//!
//! V0: byte 0, the schema id as four bytes, most significant first, then Avro's binary form. V1 (byte 1 and a
//! 16-byte GUID) is refused by name. Source: `schema-serializer/…/id/SchemaId.java` of confluentinc/schema-registry.

use bytes::Bytes;
use hutong_core::{Error, ErrorKind, Result};

/// How many bytes stand before the Avro binary.
pub const HEAD: usize = 5;

/// Returns the bytes that stand before the Avro binary.
pub fn head(id: u32) -> [u8; HEAD] {
    let [a, b, c, d] = id.to_be_bytes();
    [0, a, b, c, d]
}

/// Splits a framed record into the schema id and the Avro binary, which shares the record's buffer.
pub fn split(record: &Bytes) -> Result<(u32, Bytes)> {
    let wrong = |why: String| Err(Error::new(ErrorKind::Malformed, "read a record's framing", why));
    match record.as_ref() {
        [0, a, b, c, d, ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), record.slice(HEAD..))),
        [0, ..] => wrong(format!("it has {} bytes, framing alone takes {HEAD}", record.len())),
        [1, ..] => wrong("it is framed with a schema GUID (V1), which is not supported".into()),
        [other, ..] => {
            wrong(format!("it begins with byte {other}, not 0: it is not in the registry's framing"))
        }
        [] => wrong("it is empty".into()),
    }
}

/// Returns the schema id that a record names, when it is framed.
pub fn id(record: &[u8]) -> Option<u32> {
    match record {
        [0, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_v0_and_refuses_the_rest_by_name() {
        let framed = Bytes::from([&head(0x0102_0304)[..], b"body"].concat());
        assert_eq!(split(&framed).unwrap(), (0x0102_0304, Bytes::from_static(b"body")));
        let rows: [(&'static [u8], &str); 5] = [
            (&[0, 0, 0, 1], "framing alone takes 5"),
            (&[0], "framing alone takes 5"),
            (&[1; 21], "GUID (V1)"),
            (b"{\"a\":1}", "begins with byte 123"),
            (&[], "empty"),
        ];
        for (bytes, says) in rows {
            let error = split(&Bytes::from_static(bytes)).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Malformed);
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
