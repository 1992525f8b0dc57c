//! For tests: Avro's binary form read and written by the library, which our own code is held against.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;

/// Reads a value and asserts that every byte was used.
pub(crate) fn read(schema: &str, mut bytes: &[u8]) -> Value {
    let schema = Schema::parse_str(schema).unwrap();
    let value = GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut bytes).unwrap();
    assert!(bytes.is_empty(), "bytes follow the value");
    value
}

/// Writes a value.
pub(crate) fn write(schema: &str, value: Value) -> Vec<u8> {
    let schema = Schema::parse_str(schema).unwrap();
    GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap()
}
