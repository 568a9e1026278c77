//! The codec: what frames say, whatever way they are cut; what is refused; what is written is read back.

use proptest::prelude::*;
use wherry_stomp::codec::{
    Escapes, FrameError, FrameLimits, Next, Parser, Version, write_body, write_head, write_header,
};

const LIMITS: FrameLimits = FrameLimits {
    command_bytes_max: 32,
    headers_max: 8,
    header_bytes_max: 40,
    head_bytes_max: 120,
    body_bytes_max: 24,
};

/// A frame as owned values.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    command: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn owned(command: &str, headers: &[(&str, &str)], body: &[u8]) -> Owned {
    let pair = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    Owned {
        command: command.into(),
        headers: headers.iter().map(pair).collect(),
        body: body.into(),
    }
}

/// Everything that a parser says of bytes that come in pieces.
fn read(
    pieces: &[&[u8]],
    version: Option<Version>,
    limits: FrameLimits,
) -> (Vec<Owned>, Option<FrameError>) {
    let mut parser = Parser::new(limits);
    if let Some(version) = version {
        parser.agree(version, limits);
    }
    let mut held: Vec<u8> = Vec::new();
    let mut frames = Vec::new();
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let used = match parser.next(&held) {
                Ok(Next::More) => break,
                Ok(Next::LineEnds(count)) => count,
                Ok(Next::Frame(frame, used)) => {
                    frames.push(Owned {
                        command: frame.command().into(),
                        headers: frame
                            .headers()
                            .map(|header| (header.name().into(), header.value().into()))
                            .collect(),
                        body: frame.body().into(),
                    });
                    used
                }
                Err(error) => return (frames, Some(error)),
            };
            held.drain(..used);
        }
        assert!(parser.missing(held.len()) >= 1);
    }
    (frames, None)
}

fn whole(bytes: &[u8], version: Version) -> (Vec<Owned>, Option<FrameError>) {
    read(&[bytes], Some(version), LIMITS)
}

fn one_by_one(
    bytes: &[u8],
    version: Option<Version>,
    limits: FrameLimits,
) -> (Vec<Owned>, Option<FrameError>) {
    read(&bytes.chunks(1).collect::<Vec<_>>(), version, limits)
}

#[test]
fn frames_are_found_whatever_way_they_are_cut() {
    let bytes = b"\n\r\nSEND\ndestination:/queue/a\\cb\ncontent-length:3\n\na\0b\0\n\nSEND\r\nx:y\r\n\r\nbody\0\
        \r\nACK\nid:7\n\n\0";
    let expected = vec![
        owned(
            "SEND",
            &[("destination", "/queue/a:b"), ("content-length", "3")],
            b"a\0b",
        ),
        owned("SEND", &[("x", "y")], b"body"),
        owned("ACK", &[("id", "7")], b""),
    ];
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            let (frames, error) = read(&pieces, Some(Version::V1_2), LIMITS);
            assert_eq!((&frames, error), (&expected, None), "{first} {second}");
        }
    }
    let (frames, error) = one_by_one(bytes, Some(Version::V1_2), LIMITS);
    assert_eq!((frames, error), (expected, None));
}

#[test]
fn the_first_of_repeated_headers_counts() {
    let mut parser = Parser::new(LIMITS);
    let Ok(Next::Frame(frame, _)) = parser.next(b"CONNECT\na:1\nb:2\na:3\n\n\0") else {
        panic!("a frame");
    };
    assert_eq!(frame.header("a").as_deref(), Some("1"));
    assert_eq!(frame.header("b").as_deref(), Some("2"));
    assert_eq!(frame.header("c"), None);
    assert_eq!(frame.headers().count(), 3);
    assert_eq!(frame.find("a").map(|header| header.raw_value()), Some("1"));
    // Also of content-length: the second would let somebody else see another end of the frame.
    let (frames, error) = whole(
        b"SEND\ncontent-length:1\ncontent-length:5\n\nx\0",
        Version::V1_2,
    );
    assert_eq!((frames.len(), error), (1, None));
    // And where both are possible.
    let (frames, _) = whole(
        b"SEND\ncontent-length:1\ncontent-length:3\n\nx\0y\0",
        Version::V1_2,
    );
    assert_eq!(frames[0].body, b"x");
}

#[test]
fn a_whole_frame_meets_the_limits_that_one_in_pieces_meets() {
    let frame = |command: usize, headers: usize, header: usize, head: usize, body: usize| {
        // Every part as long as is asked for, the rest as short as can be.
        let mut text = format!("{}\n", "A".repeat(command));
        text += &"a:\n".repeat(headers.saturating_sub(1));
        text += &format!("b:{}\n", "c".repeat(header.saturating_sub(2)));
        while text.len() + 1 < head {
            let line = (head - text.len() - 1).min(30);
            text += &format!("d:{}\n", "e".repeat(line.max(3) - 3));
        }
        text + "\n" + &"x".repeat(body) + "\0"
    };
    let most = LIMITS;
    for (fits, is_over, error) in [
        (
            frame(most.command_bytes_max, 1, 2, 0, 0),
            frame(most.command_bytes_max + 1, 1, 2, 0, 0),
            FrameError::CommandTooLong(most.command_bytes_max),
        ),
        (
            frame(1, most.headers_max, 2, 0, 0),
            frame(1, most.headers_max + 1, 2, 0, 0),
            FrameError::TooManyHeaders(most.headers_max),
        ),
        (
            frame(1, 1, most.header_bytes_max, 0, 0),
            frame(1, 1, most.header_bytes_max + 1, 0, 0),
            FrameError::HeaderTooLong(most.header_bytes_max),
        ),
        (
            frame(1, 1, 2, most.head_bytes_max, 0),
            frame(1, 1, 2, most.head_bytes_max + 2, 0),
            FrameError::HeadTooLong(most.head_bytes_max),
        ),
        (
            frame(1, 1, 2, 0, most.body_bytes_max),
            frame(1, 1, 2, 0, most.body_bytes_max + 1),
            FrameError::BodyTooLong(most.body_bytes_max),
        ),
    ] {
        for (text, expected) in [(fits, None), (is_over, Some(error))] {
            for (frames, found) in [
                whole(text.as_bytes(), Version::V1_2),
                one_by_one(text.as_bytes(), Some(Version::V1_2), LIMITS),
            ] {
                assert_eq!(
                    (frames.len(), found),
                    (usize::from(expected.is_none()), expected),
                    "{text:?}"
                );
            }
        }
    }
}

#[test]
fn escapes_are_those_of_the_version() {
    let read = |version, line: &str| {
        let bytes = format!("SEND\n{line}\n\n\0");
        let (mut frames, error) = whole(bytes.as_bytes(), version);
        match error {
            Some(error) => Err(error),
            None => Ok(frames.remove(0).headers.remove(0)),
        }
    };
    let pair = |name: &str, value: &str| Ok((name.to_string(), value.to_string()));
    assert_eq!(read(Version::V1_0, r"a\c:\t\n"), pair(r"a\c", r"\t\n"));
    assert_eq!(read(Version::V1_1, r"a\cb:\\c\n"), pair("a:b", "\\c\n"));
    assert_eq!(read(Version::V1_2, r"a:\r\n"), pair("a", "\r\n"));
    assert_eq!(read(Version::V1_2, "a:b:c"), pair("a", "b:c"));
    for (version, line) in [
        (Version::V1_1, r"a:\r"),
        (Version::V1_1, r"a:\t"),
        (Version::V1_2, r"a:\t"),
        (Version::V1_2, r"a:\"),
        (Version::V1_2, r"\x:b"),
    ] {
        assert_eq!(
            read(version, line),
            Err(FrameError::UndefinedEscape),
            "{line}"
        );
    }
}

#[test]
fn frames_of_the_handshake_are_never_escaped() {
    for version in [None, Some(Version::V1_2)] {
        for command in ["CONNECT", "STOMP", "CONNECTED"] {
            let bytes = format!("{command}\nlogin:a\\b\\t\n\n\0");
            let (frames, error) = read(&[bytes.as_bytes()], version, LIMITS);
            assert_eq!(error, None);
            assert_eq!(frames[0].headers[0].1, r"a\b\t");
        }
    }
}

#[test]
fn what_is_no_frame_is_refused() {
    use FrameError::*;
    let long_header = format!("SEND\na:{}\n", "x".repeat(39));
    let many = format!("SEND\n{}\n\0", "a:b\n".repeat(9));
    let long_head = format!("SEND\n{}", "a:0123456789012345678901234567890\n".repeat(4));
    let cases: &[(&[u8], FrameError)] = &[
        (b"send\n\n\0", BadCommand),
        (b"SE ND\n\n\0", BadCommand),
        (b"\0send\n\n\0", BadCommand),
        (b"SEND\0\n\n\0", BadCommand),
        (b"\rSEND\n\n\0", BadCommand),
        (&[b'A'; 40], CommandTooLong(32)),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG\n", CommandTooLong(32)),
        (b"SEND\nno colon\n\n\0", BadHeader),
        (b"SEND\n:no name\n\n\0", BadHeader),
        (b"SEND\na:b\0\n\n\0", BadHeader),
        (b"SEND\na:b\rc\n\n\0", BadHeader),
        (b"SEND\na:b\r\r\n\n\0", BadHeader),
        (b"SEND\na:\xff\n\n\0", NotUtf8),
        (b"SEND\ncontent-length:\n\n\0", BadContentLength),
        (b"SEND\ncontent-length:-1\n\n\0", BadContentLength),
        (b"SEND\ncontent-length:+1\n\n\0", BadContentLength),
        (b"SEND\ncontent-length: 1\n\nx\0", BadContentLength),
        (b"SEND\ncontent-length:25\n\n", BodyTooLong(24)),
        (
            b"SEND\ncontent-length:99999999999999999999999\n\n",
            BodyTooLong(24),
        ),
        (b"SEND\ncontent-length:2\n\nabc\0", BodyNotEnded),
        (b"SEND\n\n1234567890123456789012345", BodyTooLong(24)),
        (long_header.as_bytes(), HeaderTooLong(40)),
        (many.as_bytes(), TooManyHeaders(8)),
        (long_head.as_bytes(), HeadTooLong(120)),
    ];
    for (bytes, expected) in cases {
        let shown = bytes.escape_ascii();
        assert_eq!(whole(bytes, Version::V1_2).1, Some(*expected), "{shown}");
        let cut = one_by_one(bytes, Some(Version::V1_2), LIMITS);
        assert_eq!(cut.1, Some(*expected), "{shown}, cut");
        assert!(!expected.to_string().is_empty());
    }
}

#[test]
fn a_second_end_of_a_frame_is_passed_over() {
    let bytes = b"\0\n\0SEND\n\nx\0\0\n\0SEND\n\ny\0\0";
    let (frames, error) = whole(bytes, Version::V1_2);
    assert_eq!((frames.len(), error), (2, None));
    assert_eq!(
        one_by_one(bytes, Some(Version::V1_2), LIMITS).0,
        whole(bytes, Version::V1_2).0
    );
}

#[test]
fn limits_allow_what_they_say() {
    let command = format!("{}\r\n\n\0", "A".repeat(32));
    let header = format!("SEND\na:{}\r\n\n\0", "x".repeat(38));
    let headers = format!("SEND\n{}\n\0", "a:b\n".repeat(8));
    let body = format!("SEND\n\n{}\0", "x".repeat(24));
    let measured = format!("SEND\ncontent-length:24\n\n{}\0", "x".repeat(24));
    for bytes in [command, header, headers, body, measured] {
        for (frames, error) in [
            whole(bytes.as_bytes(), Version::V1_2),
            one_by_one(bytes.as_bytes(), Some(Version::V1_2), LIMITS),
        ] {
            assert_eq!((frames.len(), error), (1, None), "{bytes:?}");
        }
    }
}

#[test]
fn a_header_without_an_end_is_refused_before_it_fills_the_memory() {
    let mut parser = Parser::new(LIMITS);
    let mut bytes = b"CONNECT\nlogin:".to_vec();
    let error = loop {
        bytes.push(b'x');
        match parser.next(&bytes) {
            Ok(Next::More) => assert!(bytes.len() < 100, "the limit is 40"),
            other => break other.map(|_| ()),
        }
    };
    assert_eq!(error, Err(FrameError::HeaderTooLong(40)));
}

#[test]
fn the_parser_tells_how_much_is_missing() {
    let mut parser = Parser::new(LIMITS);
    let bytes = b"SEND\ncontent-length:10\n\n123";
    assert!(matches!(parser.next(bytes), Ok(Next::More)));
    assert_eq!(parser.missing(bytes.len()), 8);
    assert!(parser.is_inside());
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![
        Just(Version::V1_0),
        Just(Version::V1_1),
        Just(Version::V1_2)
    ]
}

const WIDE: FrameLimits = FrameLimits {
    command_bytes_max: 32,
    headers_max: 100,
    header_bytes_max: 1000,
    head_bytes_max: 10_000,
    body_bytes_max: 1000,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_is_read_back(
        version in version(),
        headers in prop::collection::vec((".{1,8}", ".{0,8}"), 0..6),
        body in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = Vec::new();
        write_head("MESSAGE", &mut bytes);
        let mut written: Vec<(String, String)> = Vec::new();
        for (name, value) in headers {
            if name != "content-length"
                && write_header(name.as_bytes(), value.as_bytes(), version.escapes(), &mut bytes)
            {
                written.push((name, value));
            }
        }
        write_body(&body, &mut bytes);
        written.push(("content-length".into(), body.len().to_string()));
        let (frames, error) = read(&[&bytes], Some(version), WIDE);
        prop_assert_eq!(error, None);
        prop_assert_eq!(&frames[0].headers, &written);
        prop_assert_eq!(&frames[0].body, &body);
    }

    #[test]
    fn hostile_bytes_say_the_same_whatever_way_they_are_cut(
        version in version(),
        pieces in prop::collection::vec(
            prop_oneof![
                Just(b"SEND\n".to_vec()), Just(b"\n".to_vec()), Just(b"\0".to_vec()), Just(b"\r\n".to_vec()),
                Just(b"a:b\n".to_vec()), Just(b"content-length:3\n".to_vec()), Just(b"\\".to_vec()),
                prop::collection::vec(any::<u8>(), 0..30),
            ],
            0..12,
        ),
    ) {
        let bytes = pieces.concat();
        let all = read(&[&bytes], Some(version), LIMITS);
        prop_assert_eq!(&one_by_one(&bytes, Some(version), LIMITS), &all);
        let three: Vec<&[u8]> = bytes.chunks(3).collect();
        prop_assert_eq!(&read(&three, Some(version), LIMITS), &all);
    }
}

#[test]
fn no_escape_of_one_version_is_written_in_another() {
    let mut out = Vec::new();
    assert!(write_header(b"a", b"\r", Escapes::V1_2, &mut out));
    assert!(!write_header(b"a", b"\r", Escapes::V1_1, &mut out));
    assert_eq!(out, b"a:\\r\n");
}
