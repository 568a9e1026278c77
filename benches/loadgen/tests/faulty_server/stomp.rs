//! A faulty server of STOMP 1.1.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use crate::{Fault, Store, deliver, keep};

/// One connection: answers requests, keeps published bodies, sends them to who consumes.
pub(crate) fn serve(stream: TcpStream, store: &Arc<Store>, fault: Fault) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let (command, headers, body) = read_frame(&mut reader)?;
        let header = |name: &str| {
            headers
                .iter()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        match command.as_str() {
            "CONNECT" => stream.write_all(b"CONNECTED\nversion:1.1\n\n\0\n")?,
            "SEND" => {
                keep(store, body, fault);
            }
            "SUBSCRIBE" if header("id") != Some("declare") => {
                let (mut stream, store) = (stream.try_clone()?, Arc::clone(store));
                thread::spawn(move || {
                    let send = |body: &[u8], redelivered| send(&mut stream, body, redelivered);
                    drop(deliver(&store, fault, send));
                });
            }
            _ => {}
        }
        if let Some(receipt) = header("receipt") {
            stream.write_all(format!("RECEIPT\nreceipt-id:{receipt}\n\n\0").as_bytes())?;
        }
    }
}

fn send(stream: &mut TcpStream, body: &[u8], redelivered: bool) -> std::io::Result<()> {
    let mut out = format!(
        "MESSAGE\nsubscription:0\nmessage-id:1\nredelivered:{redelivered}\ncontent-length:{}\n\n",
        body.len()
    )
    .into_bytes();
    out.extend_from_slice(body);
    out.push(0);
    stream.write_all(&out)
}

fn read_frame(
    reader: &mut BufReader<TcpStream>,
) -> std::io::Result<(String, Vec<String>, Vec<u8>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end_matches('\n').to_owned();
        if line.is_empty() && !lines.is_empty() {
            break;
        }
        lines.push(line);
    }
    let length = lines
        .iter()
        .find_map(|line| line.strip_prefix("content-length:")?.parse().ok());
    let mut body = Vec::new();
    match length {
        Some(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body)?;
            reader.read_exact(&mut [0])?;
        }
        None => {
            reader.read_until(0, &mut body)?;
            body.pop();
        }
    }
    Ok((lines.remove(0), lines, body))
}
