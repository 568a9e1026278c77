//! From owned values to bytes.
//!
//! Every length on the wire is checked before it is written: a name or table that does not fit is an error, never cut.

use super::{Bounds, NAME_BYTES_MAX, Table, TableError, Value};

impl Table {
    /// The encoded fields, without the length that stands before a table inside a message.
    pub fn encode(&self) -> Result<Vec<u8>, TableError> {
        let mut bytes = Vec::new();
        self.encode_into(&mut bytes)?;
        Ok(bytes)
    }

    /// Appends the encoded fields to `bytes`. On an error `bytes` is as it was.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) -> Result<(), TableError> {
        self.encode_within(Bounds::OUTSIDE, bytes)
    }

    /// Appends the encoded fields to `bytes`, if they keep these limits of depth and bytes. On an error `bytes` is as it was.
    pub(crate) fn encode_within(
        &self,
        bounds: Bounds,
        bytes: &mut Vec<u8>,
    ) -> Result<(), TableError> {
        let start = bytes.len();
        let mut encoder = Encoder {
            bytes,
            start,
            bounds,
        };
        let result = encoder.fields(self, 1);
        if result.is_err() {
            bytes.truncate(start);
        }
        result
    }
}

struct Encoder<'a> {
    bytes: &'a mut Vec<u8>,
    /// Where this table's own bytes begin.
    start: usize,
    bounds: Bounds,
}

impl Encoder<'_> {
    fn fields(&mut self, table: &Table, depth: usize) -> Result<(), TableError> {
        for (name, value) in table.iter() {
            if name.len() > NAME_BYTES_MAX {
                return Err(TableError::NameTooLong);
            }
            self.bytes.push(name.len() as u8);
            self.bytes.extend_from_slice(name);
            self.value(value, depth)?;
        }
        self.check_length(0)
    }

    /// Writes a value that stands at level `depth`.
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), TableError> {
        match value {
            Value::Bool(flag) => self.fixed(b't', [u8::from(*flag)]),
            Value::I8(n) => self.fixed(b'b', n.to_be_bytes()),
            Value::U8(n) => self.fixed(b'B', [*n]),
            Value::I16(n) => self.fixed(b's', n.to_be_bytes()),
            Value::U16(n) => self.fixed(b'u', n.to_be_bytes()),
            Value::I32(n) => self.fixed(b'I', n.to_be_bytes()),
            Value::U32(n) => self.fixed(b'i', n.to_be_bytes()),
            Value::I64(n) => self.fixed(b'l', n.to_be_bytes()),
            Value::U64(n) => {
                let signed = i64::try_from(*n).map_err(|_| TableError::NumberTooLarge)?;
                self.fixed(b'l', signed.to_be_bytes());
            }
            Value::F32(n) => self.fixed(b'f', n.to_be_bytes()),
            Value::F64(n) => self.fixed(b'd', n.to_be_bytes()),
            Value::Decimal { scale, value } => {
                self.fixed(b'D', [*scale]);
                self.bytes.extend_from_slice(&value.to_be_bytes());
            }
            Value::Timestamp(seconds) => self.fixed(b'T', seconds.to_be_bytes()),
            Value::Void => self.fixed(b'V', []),
            Value::Str(text) => self.long(b'S', text)?,
            Value::Bytes(content) => self.long(b'x', content)?,
            Value::Table(table) => {
                self.nested(b'F', depth, |encoder| encoder.fields(table, depth + 1))?;
            }
            Value::Array(values) => self.nested(b'A', depth, |encoder| {
                for value in values {
                    encoder.value(value, depth + 1)?;
                }
                Ok(())
            })?,
        }
        Ok(())
    }

    fn fixed<const N: usize>(&mut self, letter: u8, payload: [u8; N]) {
        self.bytes.push(letter);
        self.bytes.extend_from_slice(&payload);
    }

    fn long(&mut self, letter: u8, content: &[u8]) -> Result<(), TableError> {
        // Checked before the copy, so that a huge text costs nothing.
        self.check_length(content.len())?;
        let length = u32::try_from(content.len()).map_err(|_| TableError::TooLong)?;
        self.fixed(letter, length.to_be_bytes());
        self.bytes.extend_from_slice(content);
        self.check_length(0)
    }

    /// Writes what `content` writes behind its letter and length.
    fn nested(
        &mut self,
        letter: u8,
        depth: usize,
        content: impl FnOnce(&mut Self) -> Result<(), TableError>,
    ) -> Result<(), TableError> {
        if depth >= self.bounds.depth {
            return Err(TableError::TooDeep);
        }
        self.fixed(letter, [0; 4]);
        let start = self.bytes.len();
        content(self)?;
        self.check_length(0)?;
        let length = u32::try_from(self.bytes.len() - start).map_err(|_| TableError::TooLong)?;
        self.bytes[start - 4..start].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn check_length(&self, more: usize) -> Result<(), TableError> {
        if (self.bytes.len() - self.start).saturating_add(more) > self.bounds.bytes {
            return Err(TableError::TooLong);
        }
        Ok(())
    }
}
