//! Field tables: named, typed values in the encoding of AMQP 0-9-1 as RabbitMQ and its clients use it.
//!
//! ```text
//! table   =  field*                        (its length in bytes is known from outside, or stands before it as a u32)
//! field   =  name length u8, name bytes, value
//! value   =  type letter u8, payload       (numbers big-endian)
//!
//! letter   t    b  B  s   u   I   i   l L  f   d   D            T    S x           F A          V
//! payload  u8   i8 u8 i16 u16 i32 u32 i64  f32 f64 u8 + u32     u64  u32 + bytes   u32 + bytes  nothing
//!          bool                                    scale, value sec. text   bytes  table, array void
//! ```
//!
//! The letters are RabbitMQ's, not the specification's: `s` is a signed 16-bit number (no short string), and both `l` and `L` are
//! *signed* 64-bit numbers. There is no letter for an unsigned 64-bit number.
//!
//! Two forms of a table exist. [`TableView`] reads encoded bytes where they lie and allocates nothing; the engine keeps headers in that
//! form only. [`Table`] owns decoded values, for arguments of declarations and bindings and for building headers. Names and texts are
//! bytes: AMQP says UTF-8, but clients exist that send other things, and a broker hands on what it was given.
//!
//! Bytes from the outside are checked once with [`TableView::validate`]; afterwards the views can be read without errors. All readers
//! stay inside the bytes they were given, never panic, and go at most [`DEPTH_MAX`] levels deep whatever the bytes say.

mod encode;
mod view;

pub use view::{ArrayIter, ArrayView, TableIter, TableView, ValueView};

use std::fmt;

/// Levels of tables and arrays inside each other, the outermost table being level 1. Real headers (`x-death` with its arrays of tables)
/// need 3; each level costs one stack frame of the reader, so the limit must be far from the depth of a small thread stack.
pub const DEPTH_MAX: usize = 32;

/// Bytes of one encoded table. A RabbitMQ client cannot send more headers than fit in one frame (131,072 bytes unless tuned); this is
/// eight times as much, and small against the 16 MiB body that is the largest message.
pub const BYTES_MAX: usize = 1 << 20;

/// Values in one owned table, all levels counted. A void in an array takes one byte on the wire and some 32 as a [`Value`]; this bound
/// keeps what a hostile table costs when decoded to its own size plus 1 MiB. Views have no such limit: they do not allocate. Nor
/// have the headers of a message ([`TableView::to_headers`]).
pub const VALUES_MAX: usize = 16_384;

/// What a table of the journal's may have. A declaration's options stand around the arguments that a client gave, which have up to
/// [`DEPTH_MAX`] levels, [`BYTES_MAX`] bytes and [`VALUES_MAX`] values of their own: whatever was accepted must be written, and what was
/// written must be read again.
pub(crate) const ENTRY: Bounds = Bounds {
    depth: DEPTH_MAX + 1,
    bytes: BYTES_MAX + (64 << 10),
    values: VALUES_MAX + 1_024,
};

/// Limits of one table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Levels, the outermost table included.
    pub(crate) depth: usize,
    /// Encoded bytes.
    pub(crate) bytes: usize,
    /// Values, all levels counted.
    pub(crate) values: usize,
}

impl Bounds {
    /// Of a table from outside.
    pub(crate) const OUTSIDE: Bounds = Bounds {
        depth: DEPTH_MAX,
        bytes: BYTES_MAX,
        values: VALUES_MAX,
    };
}

/// Bytes of a field name, whose length is one byte on the wire.
pub const NAME_BYTES_MAX: usize = 255;

/// Why bytes are not a table, or a table cannot become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableError {
    /// A field, or the content of one, ends behind the end of what holds it.
    Truncated,
    /// No type has this letter.
    UnknownType(u8),
    /// More levels than allowed (see [`DEPTH_MAX`]).
    TooDeep,
    /// More bytes than allowed (see [`BYTES_MAX`]).
    TooLong,
    /// More values than an owned table may have (see [`VALUES_MAX`]).
    TooManyValues,
    /// A name over [`NAME_BYTES_MAX`] bytes cannot be encoded.
    NameTooLong,
    /// An unsigned number above `i64::MAX` has no letter to be encoded with.
    NumberTooLarge,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("field table ends inside a field"),
            Self::UnknownType(letter) => {
                write!(f, "unknown field type '{}'", letter.escape_ascii())
            }
            Self::TooDeep => f.write_str("field table nested too deeply"),
            Self::TooLong => f.write_str("field table too long"),
            Self::TooManyValues => f.write_str("field table has too many values"),
            Self::NameTooLong => f.write_str("field name over 255 bytes"),
            Self::NumberTooLarge => {
                f.write_str("unsigned number above the signed 64-bit range in a field table")
            }
        }
    }
}

impl std::error::Error for TableError {}

/// One owned value.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Value {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`; `L` is read as the same.
    I64(i64),
    /// No letter of its own: written as `l` (so it comes back as [`Value::I64`]), and an error above `i64::MAX`.
    U64(u64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value` divided by ten to the power of `scale`.
    Decimal {
        /// Digits behind the decimal point.
        scale: u8,
        /// All digits.
        value: u32,
    },
    /// `S`: text, in UTF-8 as a rule.
    Str(Vec<u8>),
    /// `x`: bytes.
    Bytes(Vec<u8>),
    /// `A`
    Array(Vec<Value>),
    /// `F`
    Table(Table),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `V`
    #[default]
    Void,
}

impl Value {
    /// The number, if this is one of the integer types. Timestamps are no numbers here.
    pub fn as_integer(&self) -> Option<i128> {
        match *self {
            Self::I8(n) => Some(n.into()),
            Self::U8(n) => Some(n.into()),
            Self::I16(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::I32(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::I64(n) => Some(n.into()),
            Self::U64(n) => Some(n.into()),
            _ => None,
        }
    }

    /// The text, if this is one and in UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

macro_rules! value_from {
    ($($source:ty => $variant:ident),* $(,)?) => {
        $(impl From<$source> for Value {
            fn from(value: $source) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

value_from! {
    bool => Bool, i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64, u64 => U64,
    f32 => F32, f64 => F64, &str => Str, String => Str, Vec<Value> => Array, Table => Table,
}

/// An owned table: a list of (name, value) in the order in which the fields came.
///
/// Names may repeat, as the encoding allows; [`Table::get`] answers with the first. Two tables are equal when their lists are.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Table {
    fields: Vec<(Vec<u8>, Value)>,
}

impl Table {
    /// A table without fields.
    pub const fn new() -> Self {
        Self { fields: Vec::new() }
    }

    /// Fields in the table.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether the table has no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The first value of that name.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&Value> {
        let name = name.as_ref();
        self.fields
            .iter()
            .find(|(held, _)| held == name)
            .map(|(_, value)| value)
    }

    /// Adds a field at the end without looking whether the name exists.
    pub fn push(&mut self, name: impl Into<Vec<u8>>, value: impl Into<Value>) {
        self.fields.push((name.into(), value.into()));
    }

    /// Sets the first field of that name, or adds one at the end; returns the value that was replaced.
    pub fn insert(&mut self, name: impl Into<Vec<u8>>, value: impl Into<Value>) -> Option<Value> {
        let name = name.into();
        match self.fields.iter_mut().find(|(held, _)| *held == name) {
            Some((_, held)) => Some(std::mem::replace(held, value.into())),
            None => {
                self.fields.push((name, value.into()));
                None
            }
        }
    }

    /// Takes the first field of that name out, keeping the order of the others.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> Option<Value> {
        let name = name.as_ref();
        let index = self.fields.iter().position(|(held, _)| held == name)?;
        Some(self.fields.remove(index).1)
    }

    /// The fields in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &Value)> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_slice(), value))
    }

    /// Sorts the fields by name; fields of one name keep their order. Tables that differ in order only become equal by this.
    pub fn sort(&mut self) {
        self.fields.sort_by(|left, right| left.0.cmp(&right.0));
    }
}

impl<N: Into<Vec<u8>>, V: Into<Value>> FromIterator<(N, V)> for Table {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let fields = fields
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        Self {
            fields: fields.collect(),
        }
    }
}

impl IntoIterator for Table {
    type Item = (Vec<u8>, Value);
    type IntoIter = std::vec::IntoIter<(Vec<u8>, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.fields.into_iter()
    }
}
