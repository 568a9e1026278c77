//! From bytes to values, read where they lie.
//!
//! Views may be made over any bytes. On bytes that [`TableView::validate`] accepts they show every field; on others the iterators end at
//! the first field that is not one, so a reader that must not miss anything validates first.

use super::{Bounds, DEPTH_MAX, Table, TableError, VALUES_MAX, Value};

/// A table over encoded bytes (its fields, without the length before them).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableView<'a> {
    bytes: &'a [u8],
}

/// An array over encoded bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArrayView<'a> {
    bytes: &'a [u8],
}

/// One value over encoded bytes; see [`Value`] for the types.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are those of Value")]
pub enum ValueView<'a> {
    Bool(bool),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    F32(f32),
    F64(f64),
    Decimal { scale: u8, value: u32 },
    Str(&'a [u8]),
    Bytes(&'a [u8]),
    Array(ArrayView<'a>),
    Table(TableView<'a>),
    Timestamp(u64),
    Void,
}

impl<'a> TableView<'a> {
    /// A view of `bytes`, which are not looked at yet.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The encoded fields.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether there is no field.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The fields in order, up to the first malformed one.
    pub fn iter(&self) -> TableIter<'a> {
        TableIter {
            reader: Reader { rest: self.bytes },
        }
    }

    /// The first value of that name.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<ValueView<'a>> {
        let name = name.as_ref();
        self.iter()
            .find(|(held, _)| *held == name)
            .map(|(_, value)| value)
    }

    /// Checks that the bytes are a table of at most `bytes_max` bytes and `depth_max` levels (never more than [`DEPTH_MAX`]).
    /// Allocates nothing; each byte is read once for each level it lies in.
    pub fn validate(&self, depth_max: usize, bytes_max: usize) -> Result<(), TableError> {
        if self.bytes.len() > bytes_max {
            return Err(TableError::TooLong);
        }
        self.check(depth_max.min(DEPTH_MAX))
    }

    /// The owned table, if the bytes are one within [`DEPTH_MAX`], [`BYTES_MAX`](super::BYTES_MAX) and [`VALUES_MAX`].
    pub fn to_table(&self) -> Result<Table, TableError> {
        self.to_table_within(Bounds::OUTSIDE)
    }

    /// The owned table, if the bytes are one within these limits.
    pub(crate) fn to_table_within(self, bounds: Bounds) -> Result<Table, TableError> {
        if self.bytes.len() > bounds.bytes {
            return Err(TableError::TooLong);
        }
        self.check(bounds.depth)?;
        self.own(&mut { bounds.values })
    }

    /// The owned table of a message's headers, whatever the number of its values: these were accepted, and what they can cost is
    /// limited by the bytes of a message's properties.
    pub fn to_headers(&self) -> Result<Table, TableError> {
        self.to_table_within(Bounds {
            values: self.bytes.len(), // each takes one at least
            ..Bounds::OUTSIDE
        })
    }

    fn check(&self, depth_left: usize) -> Result<(), TableError> {
        let depth_left = depth_left.checked_sub(1).ok_or(TableError::TooDeep)?;
        let mut reader = Reader { rest: self.bytes };
        while !reader.rest.is_empty() {
            reader.field()?.1.check(depth_left)?;
        }
        Ok(())
    }

    /// Copies a validated table. The list is sized by counting first: a `Vec` that grows by itself could take twice as much.
    fn own(&self, values_left: &mut usize) -> Result<Table, TableError> {
        let count = charge(self.iter().count(), values_left)?;
        let mut fields = Vec::with_capacity(count);
        for (name, value) in self.iter() {
            fields.push((name.to_vec(), value.own(values_left)?));
        }
        Ok(Table { fields })
    }
}

impl<'a> IntoIterator for TableView<'a> {
    type Item = (&'a [u8], ValueView<'a>);
    type IntoIter = TableIter<'a>;

    fn into_iter(self) -> TableIter<'a> {
        self.iter()
    }
}

impl<'a> ArrayView<'a> {
    /// A view of the encoded values of an array.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The encoded values.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The values in order, up to the first malformed one.
    pub fn iter(&self) -> ArrayIter<'a> {
        ArrayIter {
            reader: Reader { rest: self.bytes },
        }
    }

    fn check(&self, depth_left: usize) -> Result<(), TableError> {
        let depth_left = depth_left.checked_sub(1).ok_or(TableError::TooDeep)?;
        let mut reader = Reader { rest: self.bytes };
        while !reader.rest.is_empty() {
            reader.value()?.check(depth_left)?;
        }
        Ok(())
    }

    fn own(&self, values_left: &mut usize) -> Result<Vec<Value>, TableError> {
        let count = charge(self.iter().count(), values_left)?;
        let mut values = Vec::with_capacity(count);
        for value in self.iter() {
            values.push(value.own(values_left)?);
        }
        Ok(values)
    }
}

impl<'a> IntoIterator for ArrayView<'a> {
    type Item = ValueView<'a>;
    type IntoIter = ArrayIter<'a>;

    fn into_iter(self) -> ArrayIter<'a> {
        self.iter()
    }
}

impl ValueView<'_> {
    /// The owned value, if it is well-formed and within the limits of [`TableView::to_table`].
    pub fn to_value(&self) -> Result<Value, TableError> {
        self.check(DEPTH_MAX)?;
        self.own(&mut { VALUES_MAX })
    }

    /// The number, if this is one of the integer types. Timestamps are no numbers here.
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            Self::I8(n) => Some(n.into()),
            Self::U8(n) => Some(n.into()),
            Self::I16(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::I32(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::I64(n) => Some(n),
            _ => None,
        }
    }

    fn check(&self, depth_left: usize) -> Result<(), TableError> {
        match self {
            Self::Table(table) => table.check(depth_left),
            Self::Array(array) => array.check(depth_left),
            _ => Ok(()),
        }
    }

    fn own(&self, values_left: &mut usize) -> Result<Value, TableError> {
        Ok(match *self {
            Self::Bool(flag) => Value::Bool(flag),
            Self::I8(n) => Value::I8(n),
            Self::U8(n) => Value::U8(n),
            Self::I16(n) => Value::I16(n),
            Self::U16(n) => Value::U16(n),
            Self::I32(n) => Value::I32(n),
            Self::U32(n) => Value::U32(n),
            Self::I64(n) => Value::I64(n),
            Self::F32(n) => Value::F32(n),
            Self::F64(n) => Value::F64(n),
            Self::Decimal { scale, value } => Value::Decimal { scale, value },
            Self::Str(text) => Value::Str(text.to_vec()),
            Self::Bytes(content) => Value::Bytes(content.to_vec()),
            Self::Array(array) => Value::Array(array.own(values_left)?),
            Self::Table(table) => Value::Table(table.own(values_left)?),
            Self::Timestamp(seconds) => Value::Timestamp(seconds),
            Self::Void => Value::Void,
        })
    }
}

impl<'a> ValueView<'a> {
    /// The text, if this is one and in UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
            Self::Str(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

/// Takes `count` values out of the budget.
fn charge(count: usize, values_left: &mut usize) -> Result<usize, TableError> {
    *values_left = values_left
        .checked_sub(count)
        .ok_or(TableError::TooManyValues)?;
    Ok(count)
}

/// The fields of a [`TableView`].
#[derive(Clone, Debug)]
pub struct TableIter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for TableIter<'a> {
    type Item = (&'a [u8], ValueView<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        // At the end of the bytes this is an error as well: there is no field.
        self.reader.field().ok()
    }
}

/// The values of an [`ArrayView`].
#[derive(Clone, Debug)]
pub struct ArrayIter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for ArrayIter<'a> {
    type Item = ValueView<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.reader.value().ok()
    }
}

/// Takes fields and values from the front of bytes. A failed read leaves `rest` empty, so that iteration ends there for good.
#[derive(Clone, Debug)]
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn field(&mut self) -> Result<(&'a [u8], ValueView<'a>), TableError> {
        let [length] = self.fixed()?;
        let name = self.take(length.into())?;
        Ok((name, self.value()?))
    }

    fn value(&mut self) -> Result<ValueView<'a>, TableError> {
        let [letter] = self.fixed()?;
        Ok(match letter {
            b'S' => ValueView::Str(self.long()?),
            b'I' => ValueView::I32(i32::from_be_bytes(self.fixed()?)),
            b'l' | b'L' => ValueView::I64(i64::from_be_bytes(self.fixed()?)),
            b't' => ValueView::Bool(self.fixed::<1>()? != [0]),
            b'b' => ValueView::I8(i8::from_be_bytes(self.fixed()?)),
            b'B' => ValueView::U8(u8::from_be_bytes(self.fixed()?)),
            b's' => ValueView::I16(i16::from_be_bytes(self.fixed()?)),
            b'u' => ValueView::U16(u16::from_be_bytes(self.fixed()?)),
            b'i' => ValueView::U32(u32::from_be_bytes(self.fixed()?)),
            b'f' => ValueView::F32(f32::from_be_bytes(self.fixed()?)),
            b'd' => ValueView::F64(f64::from_be_bytes(self.fixed()?)),
            b'D' => {
                let [scale] = self.fixed()?;
                let value = u32::from_be_bytes(self.fixed()?);
                ValueView::Decimal { scale, value }
            }
            b'T' => ValueView::Timestamp(u64::from_be_bytes(self.fixed()?)),
            b'x' => ValueView::Bytes(self.long()?),
            b'F' => ValueView::Table(TableView::new(self.long()?)),
            b'A' => ValueView::Array(ArrayView::new(self.long()?)),
            b'V' => ValueView::Void,
            unknown => {
                self.rest = &[];
                return Err(TableError::UnknownType(unknown));
            }
        })
    }

    fn long(&mut self) -> Result<&'a [u8], TableError> {
        let length = u32::from_be_bytes(self.fixed()?);
        self.take(length as usize)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], TableError> {
        match self.rest.split_first_chunk() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => self.truncated(),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], TableError> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => self.truncated(),
        }
    }

    fn truncated<T>(&mut self) -> Result<T, TableError> {
        self.rest = &[];
        Err(TableError::Truncated)
    }
}
