//! Basic properties: the envelope of a message, in the encoding of the AMQP 0-9-1 content header.
//!
//! ```text
//! flags u16 (big-endian), then the present fields in the order of their flags:
//!
//! bit 15 content-type      short     bit 10 correlation-id  short     bit 5 type        short
//! bit 14 content-encoding  short     bit  9 reply-to        short     bit 4 user-id     short
//! bit 13 headers           table     bit  8 expiration      short     bit 3 app-id      short
//! bit 12 delivery-mode     u8        bit  7 message-id      short     bit 2 cluster-id  short
//! bit 11 priority          u8        bit  6 timestamp       u64       bits 1, 0         must be 0
//!
//! short = length u8 + bytes          table = length u32 + fields (see `table`)
//! ```
//!
//! The bytes are the message's only form in the engine: a front end that speaks this encoding hands its bytes through unchanged, and
//! [`PropertiesView`] reads single fields from them when somebody asks. [`Properties`] is the owned form, for building.
//! Texts are bytes: AMQP says UTF-8, but clients put binary ids there, and the broker hands on what it was given.
//!
//! Bytes from the outside are checked once with [`PropertiesView::validate`]. The accessors never panic; on bytes that were not
//! validated they answer `None` for what cannot be read.

use std::fmt;

use crate::table::{BYTES_MAX, DEPTH_MAX, Table, TableError, TableView};

/// Bytes of a short string, whose length is one byte on the wire.
pub const SHORT_BYTES_MAX: usize = 255;

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const TYPE: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;
const APP_ID: u16 = 1 << 3;
const CLUSTER_ID: u16 = 1 << 2;

/// No field has these flags. Bit 0 would announce a second flag word, which basic properties never have.
const RESERVED: u16 = 0b11;

/// Why bytes are not properties, or properties cannot become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PropertiesError {
    /// The bytes end inside the flags or a field.
    Truncated,
    /// Bytes are left over behind the last field.
    TrailingBytes,
    /// A flag is set that no field has.
    UnknownFlag,
    /// A text over [`SHORT_BYTES_MAX`] bytes cannot be encoded.
    ShortStringTooLong,
    /// The headers are not a valid table.
    Headers(TableError),
}

impl fmt::Display for PropertiesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("properties end inside a field"),
            Self::TrailingBytes => f.write_str("bytes left over behind the properties"),
            Self::UnknownFlag => f.write_str("unknown property flag"),
            Self::ShortStringTooLong => f.write_str("property over 255 bytes"),
            Self::Headers(error) => write!(f, "in the headers: {error}"),
        }
    }
}

impl std::error::Error for PropertiesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Headers(error) => Some(error),
            _ => None,
        }
    }
}

impl From<TableError> for PropertiesError {
    fn from(error: TableError) -> Self {
        Self::Headers(error)
    }
}

/// Owned properties. Every field may be absent; an absent field takes no bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// MIME type of the body.
    pub content_type: Option<Vec<u8>>,
    /// MIME encoding of the body.
    pub content_encoding: Option<Vec<u8>>,
    /// The application's own fields.
    pub headers: Option<Table>,
    /// 1: transient, 2: persistent.
    pub delivery_mode: Option<u8>,
    /// 0 to 255, higher first.
    pub priority: Option<u8>,
    /// What a reply belongs to.
    pub correlation_id: Option<Vec<u8>>,
    /// Where a reply goes.
    pub reply_to: Option<Vec<u8>>,
    /// Time to live in milliseconds, as decimal text.
    pub expiration: Option<Vec<u8>>,
    /// The application's name of the message.
    pub message_id: Option<Vec<u8>>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    /// The application's kind of message.
    pub type_: Option<Vec<u8>>,
    /// The publishing user.
    pub user_id: Option<Vec<u8>>,
    /// The publishing application.
    pub app_id: Option<Vec<u8>>,
    /// Deprecated, but clients may send it.
    pub cluster_id: Option<Vec<u8>>,
}

impl Properties {
    /// The encoded properties.
    pub fn encode(&self) -> Result<Vec<u8>, PropertiesError> {
        let mut bytes = Vec::with_capacity(64);
        self.encode_into(&mut bytes)?;
        Ok(bytes)
    }

    /// Appends the encoded properties to `bytes`. On an error `bytes` is as it was.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) -> Result<(), PropertiesError> {
        let start = bytes.len();
        let result = self.append(bytes);
        if result.is_err() {
            bytes.truncate(start);
        }
        result
    }

    fn append(&self, bytes: &mut Vec<u8>) -> Result<(), PropertiesError> {
        let start = bytes.len();
        let mut flags = 0;
        bytes.extend_from_slice(&[0; 2]);
        let mut short = |flag: u16, text: &Option<Vec<u8>>, bytes: &mut Vec<u8>| {
            if let Some(text) = text {
                let length =
                    u8::try_from(text.len()).map_err(|_| PropertiesError::ShortStringTooLong)?;
                flags |= flag;
                bytes.push(length);
                bytes.extend_from_slice(text);
            }
            Ok::<(), PropertiesError>(())
        };
        short(CONTENT_TYPE, &self.content_type, bytes)?;
        short(CONTENT_ENCODING, &self.content_encoding, bytes)?;
        if let Some(headers) = &self.headers {
            let length_at = bytes.len();
            bytes.extend_from_slice(&[0; 4]);
            headers.encode_into(bytes)?;
            // `encode_into` refuses tables over BYTES_MAX, so the length fits.
            let length = (bytes.len() - length_at - 4) as u32;
            bytes[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
        }
        bytes.extend(self.delivery_mode);
        bytes.extend(self.priority);
        short(CORRELATION_ID, &self.correlation_id, bytes)?;
        short(REPLY_TO, &self.reply_to, bytes)?;
        short(EXPIRATION, &self.expiration, bytes)?;
        short(MESSAGE_ID, &self.message_id, bytes)?;
        if let Some(seconds) = self.timestamp {
            bytes.extend_from_slice(&seconds.to_be_bytes());
        }
        short(TYPE, &self.type_, bytes)?;
        short(USER_ID, &self.user_id, bytes)?;
        short(APP_ID, &self.app_id, bytes)?;
        short(CLUSTER_ID, &self.cluster_id, bytes)?;
        for (flag, present) in [
            (HEADERS, self.headers.is_some()),
            (DELIVERY_MODE, self.delivery_mode.is_some()),
            (PRIORITY, self.priority.is_some()),
            (TIMESTAMP, self.timestamp.is_some()),
        ] {
            if present {
                flags |= flag;
            }
        }
        bytes[start..start + 2].copy_from_slice(&flags.to_be_bytes());
        Ok(())
    }
}

/// Properties over encoded bytes. An accessor walks over the fields before its own: at most 13 steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertiesView<'a> {
    bytes: &'a [u8],
}

macro_rules! accessors {
    ($($(#[$doc:meta])* $name:ident: $flag:ident as $method:ident -> $type:ty;)*) => {
        $($(#[$doc])*
        pub fn $name(&self) -> Option<$type> {
            self.seek($flag)?.$method()
        })*
    };
}

impl<'a> PropertiesView<'a> {
    /// A view of `bytes`, which are not looked at yet.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The encoded properties.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    accessors! {
        /// See [`Properties::content_type`].
        content_type: CONTENT_TYPE as short -> &'a [u8];
        /// See [`Properties::content_encoding`].
        content_encoding: CONTENT_ENCODING as short -> &'a [u8];
        /// See [`Properties::headers`].
        headers: HEADERS as table -> TableView<'a>;
        /// See [`Properties::delivery_mode`].
        delivery_mode: DELIVERY_MODE as octet -> u8;
        /// See [`Properties::priority`].
        priority: PRIORITY as octet -> u8;
        /// See [`Properties::correlation_id`].
        correlation_id: CORRELATION_ID as short -> &'a [u8];
        /// See [`Properties::reply_to`].
        reply_to: REPLY_TO as short -> &'a [u8];
        /// See [`Properties::expiration`].
        expiration: EXPIRATION as short -> &'a [u8];
        /// See [`Properties::message_id`].
        message_id: MESSAGE_ID as short -> &'a [u8];
        /// See [`Properties::timestamp`].
        timestamp: TIMESTAMP as number -> u64;
        /// See [`Properties::type_`].
        type_: TYPE as short -> &'a [u8];
        /// See [`Properties::user_id`].
        user_id: USER_ID as short -> &'a [u8];
        /// See [`Properties::app_id`].
        app_id: APP_ID as short -> &'a [u8];
        /// See [`Properties::cluster_id`].
        cluster_id: CLUSTER_ID as short -> &'a [u8];
    }

    /// Checks all bytes: flags, fields, headers (within [`DEPTH_MAX`] levels and [`BYTES_MAX`] bytes) and that nothing is left over.
    pub fn validate(&self) -> Result<(), PropertiesError> {
        let mut reader = Reader { rest: self.bytes };
        let flags = reader.flags().ok_or(PropertiesError::Truncated)?;
        if flags & RESERVED != 0 {
            return Err(PropertiesError::UnknownFlag);
        }
        for bit in (2..16).rev() {
            let flag = 1 << bit;
            if flags & flag == HEADERS {
                let headers = reader.table().ok_or(PropertiesError::Truncated)?;
                headers.validate(DEPTH_MAX, BYTES_MAX)?;
            } else if flags & flag != 0 {
                reader.skip(flag).ok_or(PropertiesError::Truncated)?;
            }
        }
        if !reader.rest.is_empty() {
            return Err(PropertiesError::TrailingBytes);
        }
        Ok(())
    }

    /// The owned properties, if the bytes are valid.
    pub fn to_properties(&self) -> Result<Properties, PropertiesError> {
        self.validate()?;
        let owned = |text: Option<&[u8]>| text.map(<[u8]>::to_vec);
        Ok(Properties {
            content_type: owned(self.content_type()),
            content_encoding: owned(self.content_encoding()),
            headers: self.headers().map(|table| table.to_headers()).transpose()?,
            delivery_mode: self.delivery_mode(),
            priority: self.priority(),
            correlation_id: owned(self.correlation_id()),
            reply_to: owned(self.reply_to()),
            expiration: owned(self.expiration()),
            message_id: owned(self.message_id()),
            timestamp: self.timestamp(),
            type_: owned(self.type_()),
            user_id: owned(self.user_id()),
            app_id: owned(self.app_id()),
            cluster_id: owned(self.cluster_id()),
        })
    }

    /// A reader that stands at the field of `wanted`, if that is present.
    fn seek(&self, wanted: u16) -> Option<Reader<'a>> {
        let mut reader = Reader { rest: self.bytes };
        let flags = reader.flags()?;
        if flags & wanted == 0 {
            return None;
        }
        // Fields stand in falling order of their bits: those above `wanted` come before it.
        let mut before = flags & !(wanted | (wanted - 1));
        while before != 0 {
            let flag = 1 << (15 - before.leading_zeros());
            reader.skip(flag)?;
            before &= !flag;
        }
        Some(reader)
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn flags(&mut self) -> Option<u16> {
        self.fixed().map(u16::from_be_bytes)
    }

    fn octet(&mut self) -> Option<u8> {
        self.fixed().map(u8::from_be_bytes)
    }

    fn number(&mut self) -> Option<u64> {
        self.fixed().map(u64::from_be_bytes)
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.octet()?;
        self.take(length.into())
    }

    fn table(&mut self) -> Option<TableView<'a>> {
        let length = u32::from_be_bytes(self.fixed()?);
        self.take(length as usize).map(TableView::new)
    }

    fn skip(&mut self, flag: u16) -> Option<()> {
        match flag {
            HEADERS => self.table().map(drop),
            DELIVERY_MODE | PRIORITY => self.octet().map(drop),
            TIMESTAMP => self.number().map(drop),
            _ => self.short().map(drop),
        }
    }

    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}
