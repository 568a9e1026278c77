//! The types of method fields on the wire (specification, section 4.2.5) and how each is read and written.
//!
//! ```text
//! u8 u16 u32 u64   big-endian
//! &str             short string: length u8, bytes in UTF-8
//! &[u8]            long string: length u32, bytes
//! TableView        length u32, fields (checked whole on reading)
//! bits             up to eight in one octet, the first in the lowest bit; unused bits are ignored, as RabbitMQ does
//! ```

use wherry_engine::table::{BYTES_MAX, DEPTH_MAX, TableView};

use super::errors::{EncodeError, MethodError};

/// Takes fields from the front of a payload.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], MethodError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(MethodError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], MethodError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(MethodError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` flags, which share one octet.
    #[inline]
    pub(super) fn bits<const N: usize>(&mut self) -> Result<[bool; N], MethodError> {
        const { assert!(N <= 8) };
        let [octet] = self.fixed()?;
        Ok(std::array::from_fn(|index| octet >> index & 1 != 0))
    }
}

/// Appends flags as one octet.
pub(super) fn write_bits<const N: usize>(flags: [bool; N], out: &mut Vec<u8>) {
    const { assert!(N <= 8) };
    let octet = (0..)
        .zip(flags)
        .map(|(index, flag)| u8::from(flag) << index);
    out.push(octet.sum());
}

/// A field of a method.
pub(super) trait Field<'a>: Sized {
    /// Takes the field from the front of the payload.
    fn read(reader: &mut Reader<'a>) -> Result<Self, MethodError>;

    /// Appends the field; on an error part of it may have been appended.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

macro_rules! number_fields {
    ($($number:ty),*) => {
        $(impl<'a> Field<'a> for $number {
            #[inline]
            fn read(reader: &mut Reader<'a>) -> Result<Self, MethodError> {
                reader.fixed().map(Self::from_be_bytes)
            }

            #[inline]
            fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                out.extend_from_slice(&self.to_be_bytes());
                Ok(())
            }
        })*
    };
}

number_fields!(u8, u16, u32, u64);

impl<'a> Field<'a> for &'a str {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, MethodError> {
        let [length] = reader.fixed()?;
        let bytes = reader.take(length.into())?;
        std::str::from_utf8(bytes).map_err(|_| MethodError::NotUtf8)
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(short_length(self)?);
        out.extend_from_slice(self.as_bytes());
        Ok(())
    }
}

impl<'a> Field<'a> for &'a [u8] {
    fn read(reader: &mut Reader<'a>) -> Result<Self, MethodError> {
        let length = u32::read(reader)?;
        reader.take(length as usize)
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let length = u32::try_from(self.len()).map_err(|_| EncodeError::FrameTooLarge)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(self);
        Ok(())
    }
}

impl<'a> Field<'a> for TableView<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, MethodError> {
        let table = TableView::new(Field::read(reader)?);
        table.validate(DEPTH_MAX, BYTES_MAX)?;
        Ok(table)
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.as_bytes().write(out)
    }
}

/// The length of a short string as it is written.
#[inline]
pub(super) fn short_length(text: &str) -> Result<u8, EncodeError> {
    u8::try_from(text.len()).map_err(|_| EncodeError::ShortStringTooLong)
}
