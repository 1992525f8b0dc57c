//! Reads rows in COPY's text format: the same texts as the replication stream's, a row a line.
//!
//! Source: PostgreSQL documentation, COPY, "Text Format". Knows lines and cells; nothing of types or connections.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use memchr::{memchr, memchr_iter};
use tokio_postgres::{Client, CopyOutStream, Error};

use super::pgoutput::Cell;

/// Rows on their way out of the server.
pub(crate) struct Copied {
    stream: Pin<Box<CopyOutStream>>,
    /// The begin of a line whose end has not come yet.
    rest: BytesMut,
    piece: Bytes,
}

impl Copied {
    /// Starts to copy the rows of a query.
    pub(crate) async fn start(client: &Client, query: &str) -> Result<Self, Error> {
        let stream = client.copy_out(&format!("COPY ({query}) TO STDOUT")).await?;
        Ok(Self { stream: Box::pin(stream), rest: BytesMut::new(), piece: Bytes::new() })
    }

    /// Returns the next row's line without its end. Dropped before the last one, the server's rest is thrown away.
    pub(crate) async fn line(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(end) = memchr(b'\n', &self.piece) {
                let line = self.piece.split_to(end + 1).slice(..end);
                if self.rest.is_empty() {
                    // Copied: the buffer is shared with the connection's task, and counting shares between two
                    // cores costs more for each cell than this for all.
                    return Ok(Some(Bytes::copy_from_slice(&line)));
                }
                self.rest.extend_from_slice(&line);
                return Ok(Some(self.rest.split().freeze()));
            }
            self.rest.extend_from_slice(&self.piece);
            match self.stream.next().await.transpose()? {
                Some(piece) => self.piece = piece,
                None => return Ok(None),
            }
        }
    }
}

/// Returns a line's cells. Those without an escape share the line's buffer.
pub(crate) fn cells(line: &Bytes) -> Vec<Cell> {
    let mut cells = Vec::with_capacity(32);
    let mut from = 0;
    for end in memchr_iter(b'\t', line).chain([line.len()]) {
        cells.push(cell(line.slice(from..end)));
        from = end + 1;
    }
    cells
}

fn cell(text: Bytes) -> Cell {
    if &text[..] == b"\\N" {
        Cell::Null
    } else if memchr(b'\\', &text).is_some() {
        Cell::Text(unescaped(&text))
    } else {
        Cell::Text(text)
    }
}

/// The server escapes what would end a cell or a line, and nothing else.
fn unescaped(text: &[u8]) -> Bytes {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 8,
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'v') => 11,
                Some(b'f') => 12,
                Some(b'r') => b'\r',
                Some(other) => *other,
                None => b'\\',
            },
            byte => *byte,
        });
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_cells() {
        let text = |text: &'static str| Cell::Text(Bytes::from_static(text.as_bytes()));
        let rows: [(&[u8], Vec<Cell>); 6] = [
            (b"a\tb", vec![text("a"), text("b")]),
            (b"", vec![text("")]),
            (b"\t", vec![text(""), text("")]),
            (b"\\N\tN\t\\\\N", vec![Cell::Null, text("N"), text("\\N")]),
            (b"a\\tb\\nc\\\\d\\re\\bf\\fg\\vh", vec![text("a\tb\nc\\d\re\u{8}f\u{c}g\u{b}h")]),
            ("张三\t\\N".as_bytes(), vec![text("张三"), Cell::Null]),
        ];
        for (line, wanted) in rows {
            assert_eq!(cells(&Bytes::from_static(line)), wanted, "{}", line.escape_ascii());
        }
    }
}
