//! Equality of header values, as RabbitMQ has it.
//!
//! Numbers are compared as numbers whatever their types, and a timestamp is one; texts and bytes by their bytes; decimals digit by
//! digit; tables and arrays in the form in which they would be written again. Void equals void only. A float that is no number (NaN)
//! equals itself, so that a binding with one behaves.

use crate::table::{Table, ValueView};

/// A value as far as equality goes; equal values have equal hashes.
#[derive(PartialEq, Eq, Hash)]
pub(super) enum Comparable<'a> {
    Bool(bool),
    Integer(i128),
    /// The bits of a number that is no integer.
    Fraction(u64),
    Decimal(u8, u32),
    Text(&'a [u8]),
    /// A table or array, written again: the wire has two letters for some numbers, and many bytes for true.
    Nested(Vec<u8>),
    Void,
}

impl<'a> From<ValueView<'a>> for Comparable<'a> {
    fn from(value: ValueView<'a>) -> Self {
        let integer = |n: i64| Self::Integer(n.into());
        match value {
            ValueView::Bool(flag) => Self::Bool(flag),
            ValueView::I8(n) => integer(n.into()),
            ValueView::U8(n) => integer(n.into()),
            ValueView::I16(n) => integer(n.into()),
            ValueView::U16(n) => integer(n.into()),
            ValueView::I32(n) => integer(n.into()),
            ValueView::U32(n) => integer(n.into()),
            ValueView::I64(n) => integer(n),
            ValueView::Timestamp(seconds) => Self::Integer(seconds.into()),
            ValueView::F32(n) => Self::float(n.into()),
            ValueView::F64(n) => Self::float(n),
            ValueView::Decimal { scale, value } => Self::Decimal(scale, value),
            ValueView::Str(bytes) | ValueView::Bytes(bytes) => Self::Text(bytes),
            ValueView::Array(_) | ValueView::Table(_) => Self::nested(value),
            ValueView::Void => Self::Void,
        }
    }
}

impl Comparable<'_> {
    fn float(n: f64) -> Self {
        // Every integral float below 2^64 is exact in an i128; larger ones equal no integer that a header can hold.
        if n.fract() == 0.0 && n.abs() < 18_446_744_073_709_551_616.0 {
            Self::Integer(n as i128)
        } else {
            Self::Fraction(n.to_bits())
        }
    }

    fn nested(value: ValueView<'_>) -> Self {
        let written = value
            .to_value()
            .and_then(|value| Table::from_iter([("", value)]).encode());
        // What is too large to be written equals no argument of a binding, which was written.
        Self::Nested(written.unwrap_or_default())
    }
}
