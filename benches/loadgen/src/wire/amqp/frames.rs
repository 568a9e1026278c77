//! The few frames of AMQP 0-9-1 that a load generator needs: writing requests, scanning what comes back.
//!
//! Rules: the AMQP 0-9-1 specification, sections 4.2.3 to 4.2.6, and RabbitMQ's confirms.
//! Not promised: a full check of what the server sends. Scanning believes lengths once the frame's end octet is right.

use crate::link::Malformed;
use crate::options::Value;

pub(crate) const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
pub(crate) const KIND_METHOD: u8 = 1;
pub(crate) const KIND_HEADER: u8 = 2;
pub(crate) const KIND_BODY: u8 = 3;
pub(crate) const FRAME_END: u8 = 0xCE;
/// Kind, channel and size before the payload, the end octet behind it.
pub(crate) const FRAME_OVERHEAD: usize = 8;
/// What we ask for, and RabbitMQ's own default.
pub(crate) const FRAME_BYTES_MAX: u32 = 131_072;

pub(crate) type MethodId = (u16, u16);
pub(crate) const CONNECTION_START: MethodId = (10, 10);
pub(crate) const CONNECTION_START_OK: MethodId = (10, 11);
pub(crate) const CONNECTION_TUNE: MethodId = (10, 30);
pub(crate) const CONNECTION_TUNE_OK: MethodId = (10, 31);
pub(crate) const CONNECTION_OPEN: MethodId = (10, 40);
pub(crate) const CONNECTION_OPEN_OK: MethodId = (10, 41);
pub(crate) const CONNECTION_CLOSE: MethodId = (10, 50);
pub(crate) const CONNECTION_CLOSE_OK: MethodId = (10, 51);
pub(crate) const CHANNEL_OPEN: MethodId = (20, 10);
pub(crate) const CHANNEL_OPEN_OK: MethodId = (20, 11);
pub(crate) const CHANNEL_CLOSE: MethodId = (20, 40);
pub(crate) const CHANNEL_CLOSE_OK: MethodId = (20, 41);
pub(crate) const EXCHANGE_DECLARE: MethodId = (40, 10);
pub(crate) const EXCHANGE_DECLARE_OK: MethodId = (40, 11);
pub(crate) const EXCHANGE_DELETE: MethodId = (40, 20);
pub(crate) const EXCHANGE_DELETE_OK: MethodId = (40, 21);
pub(crate) const QUEUE_DECLARE: MethodId = (50, 10);
pub(crate) const QUEUE_DECLARE_OK: MethodId = (50, 11);
pub(crate) const QUEUE_BIND: MethodId = (50, 20);
pub(crate) const QUEUE_BIND_OK: MethodId = (50, 21);
pub(crate) const QUEUE_DELETE: MethodId = (50, 40);
pub(crate) const QUEUE_DELETE_OK: MethodId = (50, 41);
pub(crate) const BASIC_QOS: MethodId = (60, 10);
pub(crate) const BASIC_QOS_OK: MethodId = (60, 11);
pub(crate) const BASIC_CONSUME: MethodId = (60, 20);
pub(crate) const BASIC_CANCEL: MethodId = (60, 30);
pub(crate) const BASIC_PUBLISH: MethodId = (60, 40);
pub(crate) const BASIC_DELIVER: MethodId = (60, 60);
pub(crate) const BASIC_ACK: MethodId = (60, 80);
pub(crate) const BASIC_NACK: MethodId = (60, 120);
pub(crate) const CONFIRM_SELECT: MethodId = (85, 10);
pub(crate) const CONFIRM_SELECT_OK: MethodId = (85, 11);

/// A frame in a buffer of received bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) channel: u16,
    pub(crate) payload: &'a [u8],
}

/// The frame at the beginning of `bytes` and its length, or None while it is not whole.
#[inline]
pub(crate) fn cut(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Malformed> {
    let Some((head, rest)) = bytes.split_first_chunk::<7>() else {
        return Ok(None);
    };
    let [kind, c0, c1, s0, s1, s2, s3] = *head;
    let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
    if size > FRAME_BYTES_MAX as usize {
        return Err(Malformed("a frame larger than was agreed"));
    }
    let Some(&end) = rest.get(size) else {
        return Ok(None);
    };
    if end != FRAME_END {
        return Err(Malformed("no end octet where the frame ends"));
    }
    let frame = Frame {
        kind,
        channel: u16::from_be_bytes([c0, c1]),
        payload: &rest[..size],
    };
    Ok(Some((frame, size + FRAME_OVERHEAD)))
}

/// Reads fields one after the other.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    #[inline]
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(Malformed("a field past the end of its frame"))?;
        self.0 = rest;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.bytes().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.bytes().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.bytes().map(u64::from_be_bytes)
    }

    #[inline]
    pub(crate) fn short(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::from(self.u8()?);
        if length > self.0.len() {
            return Err(Malformed("a string past the end of its frame"));
        }
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(head)
    }

    #[inline]
    pub(crate) fn method_id(&mut self) -> Result<MethodId, Malformed> {
        Ok((self.u16()?, self.u16()?))
    }
}

/// Appends a frame whose payload `write` appends.
pub(crate) fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    write(out);
    let size = u32::try_from(out.len() - start - 7).expect("a frame of ours is small");
    out[start + 3..start + 7].copy_from_slice(&size.to_be_bytes());
    out.push(FRAME_END);
}

/// Appends a method frame whose arguments `write` appends.
pub(crate) fn method(
    out: &mut Vec<u8>,
    channel: u16,
    id: MethodId,
    write: impl FnOnce(&mut Vec<u8>),
) {
    frame(out, KIND_METHOD, channel, |out| {
        out.extend_from_slice(&id.0.to_be_bytes());
        out.extend_from_slice(&id.1.to_be_bytes());
        write(out);
    });
}

/// Appends a short string. Names come from the command line, so too long a one is told by the caller before.
pub(crate) fn short(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("names are checked to have at most 255 bytes"));
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn long(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("a long string of ours is small");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a field table.
pub(crate) fn table(out: &mut Vec<u8>, entries: &[(String, Value)]) {
    let mut fields = Vec::new();
    for (name, value) in entries {
        short(&mut fields, name);
        match value {
            Value::Bool(bit) => fields.extend_from_slice(&[b't', u8::from(*bit)]),
            Value::Integer(number) => {
                fields.push(b'l');
                fields.extend_from_slice(&number.to_be_bytes());
            }
            Value::Text(text) => {
                fields.push(b'S');
                long(&mut fields, text.as_bytes());
            }
        }
    }
    long(out, &fields);
}

/// Appends basic.publish with its content.
pub(crate) fn publish(
    out: &mut Vec<u8>,
    channel: u16,
    exchange: &str,
    routing_key: &str,
    persistent: bool,
    body: &[u8],
) {
    method(out, channel, BASIC_PUBLISH, |out| {
        out.extend_from_slice(&[0, 0]);
        short(out, exchange);
        short(out, routing_key);
        out.push(0); // neither mandatory nor immediate
    });
    frame(out, KIND_HEADER, channel, |out| {
        out.extend_from_slice(&60u16.to_be_bytes());
        out.extend_from_slice(&0u16.to_be_bytes());
        out.extend_from_slice(&(body.len() as u64).to_be_bytes());
        // Only the delivery mode, as a client that sends a job does.
        out.extend_from_slice(&0x1000u16.to_be_bytes());
        out.push(if persistent { 2 } else { 1 });
    });
    for part in body.chunks(FRAME_BYTES_MAX as usize - FRAME_OVERHEAD) {
        frame(out, KIND_BODY, channel, |out| out.extend_from_slice(part));
    }
}

/// Overwrites the routing key of a basic.publish with another of its length.
#[inline]
pub(crate) fn set_routing_key<const N: usize>(publish: &mut [u8], exchange: &str, key: [u8; N]) {
    // Before it: the frame's head, class and method, a reserved short, the exchange and both lengths.
    let at = 7 + 4 + 2 + 1 + exchange.len() + 1;
    publish[at..at + N].copy_from_slice(&key);
}

/// Appends basic.ack.
pub(crate) fn ack(out: &mut Vec<u8>, channel: u16, delivery_tag: u64, multiple: bool) {
    method(out, channel, BASIC_ACK, |out| {
        out.extend_from_slice(&delivery_tag.to_be_bytes());
        out.push(u8::from(multiple));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_has_the_bytes_of_the_specification() {
        let mut out = Vec::new();
        ack(&mut out, 1, 7, true);
        let golden =
            b"\x01\x00\x01\x00\x00\x00\x0d\x00\x3c\x00\x50\x00\x00\x00\x00\x00\x00\x00\x07\x01\xce";
        assert_eq!(out, golden);
    }

    #[test]
    fn a_publish_is_method_header_and_body_split_where_frames_end() {
        let body = vec![b'x'; FRAME_BYTES_MAX as usize];
        let mut out = Vec::new();
        publish(&mut out, 3, "", "key", true, &body);
        let mut rest = &out[..];
        let mut found = Vec::new();
        while let Some((frame, length)) = cut(rest).expect("ours") {
            assert_eq!(frame.channel, 3);
            found.push((frame.kind, frame.payload.len()));
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
        let body_frame_max = FRAME_BYTES_MAX as usize - FRAME_OVERHEAD;
        assert_eq!(
            found,
            [
                (KIND_METHOD, 12),
                (KIND_HEADER, 15),
                (KIND_BODY, body_frame_max),
                (KIND_BODY, FRAME_OVERHEAD)
            ]
        );
    }

    #[test]
    fn a_routing_key_is_replaced_in_its_place() {
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        publish(&mut out, 1, "exchange", "0000", true, b"body");
        publish(&mut expected, 1, "exchange", "1234", true, b"body");
        set_routing_key(&mut out, "exchange", *b"1234");
        assert_eq!(out, expected);
    }

    #[test]
    fn a_frame_is_found_only_when_it_is_whole() {
        let mut out = Vec::new();
        ack(&mut out, 1, 7, false);
        for end in 0..out.len() {
            assert_eq!(cut(&out[..end]), Ok(None), "{end} bytes");
        }
        assert!(cut(&out).expect("whole").is_some());
    }

    #[test]
    fn a_wrong_end_and_a_size_past_the_agreed_are_told() {
        let mut out = Vec::new();
        ack(&mut out, 1, 7, false);
        *out.last_mut().expect("not empty") = 0;
        assert!(cut(&out).is_err());
        assert!(cut(b"\x01\x00\x01\xff\xff\xff\xff").is_err());
    }

    #[test]
    fn a_table_has_types_that_servers_know() {
        let mut out = Vec::new();
        let arguments = [
            ("b".to_owned(), Value::Bool(true)),
            ("i".to_owned(), Value::Integer(-1)),
            ("s".to_owned(), Value::Text("quorum".to_owned())),
        ];
        table(&mut out, &arguments);
        let golden =
            b"\x00\x00\x00\x1c\x01bt\x01\x01il\xff\xff\xff\xff\xff\xff\xff\xff\x01sS\x00\x00\x00\x06quorum";
        assert_eq!(out, golden);
    }
}
