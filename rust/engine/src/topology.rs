//! Topology in the journal: payloads of the entries that declare, delete, bind and unbind.
//!
//! ```text
//! declare queue, exchange   id u32, virtual host u32, name (u8 length + bytes), options (field table)
//! declare virtual host      id u32, 0 u32, name
//! set policy                id u32, virtual host u32, name, rule (field table, policy.rs)
//! delete, clear policy      id u32
//! bind, unbind              source u32, destination u32, routing key (u8 length + bytes), arguments (field table)
//! ```
//!
//! Queues, exchanges and virtual hosts are named by ids that are never used again, so that entries about things that
//! are gone cannot be taken for entries about their successors.

use crate::table::{ENTRY, Table, TableView};

/// Ids end here.
pub(crate) const IDS: u32 = 1 << 31;

pub(crate) struct Declared<'a> {
    pub(crate) id: u32,
    pub(crate) virtual_host: u32,
    pub(crate) name: &'a str,
    pub(crate) options: Table,
}

pub(crate) struct Bound<'a> {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) routing_key: &'a str,
    pub(crate) arguments: Table,
}

/// Names are at most 255 bytes and tables were checked when they came in.
fn put_name_and_table(out: &mut Vec<u8>, name: &str, table: &Table) -> Result<(), String> {
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
    table.encode_within(ENTRY, out).map_err(|e| e.to_string())
}

pub(crate) fn declared(
    id: u32,
    virtual_host: u32,
    name: &str,
    options: &Table,
) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&virtual_host.to_le_bytes());
    put_name_and_table(&mut out, name, options)?;
    Ok(out)
}

pub(crate) fn deleted(id: u32) -> [u8; 4] {
    id.to_le_bytes()
}

pub(crate) fn bound(
    source: u32,
    destination: u32,
    key: &str,
    arguments: &Table,
) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&source.to_le_bytes());
    out.extend_from_slice(&destination.to_le_bytes());
    put_name_and_table(&mut out, key, arguments)?;
    Ok(out)
}

fn u32_at(payload: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        payload.get(offset..offset + 4)?.try_into().ok()?,
    ))
}

/// An id; none if it cannot have been given out, so that nothing read from a disk uses up what is left of them.
fn id_at(payload: &[u8], offset: usize) -> Option<u32> {
    u32_at(payload, offset).filter(|id| *id < IDS)
}

fn name_and_table(rest: &[u8]) -> Option<(&str, Table)> {
    let (length, rest) = rest.split_first()?;
    let (name, table) = rest.split_at_checked(usize::from(*length))?;
    Some((
        std::str::from_utf8(name).ok()?,
        TableView::new(table).to_table_within(ENTRY).ok()?,
    ))
}

pub(crate) fn read_declared(payload: &[u8]) -> Option<Declared<'_>> {
    let (name, options) = name_and_table(payload.get(8..)?)?;
    Some(Declared {
        id: id_at(payload, 0)?,
        virtual_host: id_at(payload, 4)?,
        name,
        options,
    })
}

pub(crate) fn read_deleted(payload: &[u8]) -> Option<u32> {
    id_at(payload, 0)
}

pub(crate) fn read_bound(payload: &[u8]) -> Option<Bound<'_>> {
    let (routing_key, arguments) = name_and_table(payload.get(8..)?)?;
    Some(Bound {
        source: id_at(payload, 0)?,
        destination: id_at(payload, 4)?,
        routing_key,
        arguments,
    })
}
