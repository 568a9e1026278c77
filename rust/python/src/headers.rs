//! Headers: a Python dict on one side, a field table on the other.
//!
//! | Python | field table | back in Python |
//! |---|---|---|
//! | `None` | void | `None` |
//! | `bool` | boolean | `bool` |
//! | `int` | 32 or 64 bits with sign, the first that fits | `int` |
//! | `float` | double | `float` |
//! | `str` | long string | `str` (`bytes` if a peer sent what is not UTF-8) |
//! | `bytes`, `bytearray` | byte array | `bytes` |
//! | `datetime` with zone | timestamp, whole seconds | `datetime` in UTC |
//! | `Decimal` | scale 0 to 255 and 32 bits with sign (as pika has it) | `Decimal` |
//! | `list`, `tuple` | array | `list` |
//! | `dict` | table | `dict` |
//!
//! What would not come back as it went in is refused, naming the header.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDateTime, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple,
    PyType,
};
use wherry_engine::table::{Table, Value};

use crate::convert::{aware_seconds, type_name, utc_datetime};
use crate::errors::{Error, Result};

/// Lists and dicts inside each other: deeper is a mistake or an attack, and would end on the stack.
const DEPTH_MAX: usize = 32;

fn decimal_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "decimal", "Decimal")
}

/// A field table of a dict with names of type `str`.
pub(crate) fn table(what: &str, dict: &Bound<'_, PyDict>) -> Result<Table> {
    nested_table(what, dict, DEPTH_MAX)
}

fn nested_table(what: &str, dict: &Bound<'_, PyDict>, depth: usize) -> Result<Table> {
    if depth == 0 {
        return Err(Error::invalid(format!(
            "{what}: more than {DEPTH_MAX} lists and dicts inside each other"
        )));
    }
    let mut table = Table::default();
    for (name, item) in dict {
        let Ok(name) = name.cast::<PyString>() else {
            return Err(Error::invalid(format!(
                "{what}: a name is a str, not {}",
                type_name(&name)
            )));
        };
        let name = name.to_str()?;
        if name.len() > 255 {
            let start: String = name.chars().take(20).collect();
            return Err(Error::invalid(format!(
                "{what}: name '{start}...' of {} bytes: the limit is 255",
                name.len()
            )));
        }
        // A dict has each name once.
        table.push(name, value(what, name, &item, depth)?);
    }
    Ok(table)
}

fn value(what: &str, name: &str, item: &Bound<'_, PyAny>, depth: usize) -> Result<Value> {
    let refuse = |why: &str| Err(Error::invalid(format!("{what}['{name}']: {why}")));
    if let Ok(text) = item.cast::<PyString>() {
        return Ok(Value::Str(text.to_str()?.as_bytes().to_vec()));
    }
    // Before int: bool is a kind of int.
    if let Ok(flag) = item.cast::<PyBool>() {
        return Ok(Value::Bool(flag.is_true()));
    }
    if item.is_instance_of::<PyInt>() {
        if let Ok(number) = item.extract::<i32>() {
            return Ok(Value::I32(number));
        }
        if let Ok(number) = item.extract::<i64>() {
            return Ok(Value::I64(number));
        }
        return refuse("an int beyond 64 bits and a sign: send it as str");
    }
    if let Ok(number) = item.cast::<PyFloat>() {
        return Ok(Value::F64(number.value()));
    }
    if item.is_none() {
        return Ok(Value::Void);
    }
    if let Ok(bytes) = item.cast::<PyBytes>() {
        return Ok(Value::Bytes(bytes.as_bytes().to_vec()));
    }
    if let Ok(bytes) = item.cast::<PyByteArray>() {
        return Ok(Value::Bytes(bytes.to_vec()));
    }
    if let Ok(dict) = item.cast::<PyDict>() {
        return Ok(Value::Table(nested_table(
            &format!("{what}['{name}']"),
            dict,
            depth - 1,
        )?));
    }
    if item.is_instance_of::<PyList>() || item.is_instance_of::<PyTuple>() {
        if depth == 1 {
            return refuse(&format!(
                "more than {DEPTH_MAX} lists and dicts inside each other"
            ));
        }
        let items = item
            .try_iter()?
            .map(|item| value(what, name, &item?, depth - 1));
        return Ok(Value::Array(items.collect::<Result<_>>()?));
    }
    if let Ok(moment) = item.cast::<PyDateTime>() {
        let seconds = aware_seconds(&format!("{what}['{name}']"), moment)?;
        if seconds.fract() != 0.0 {
            return refuse(
                "a timestamp on the wire has whole seconds: use .replace(microsecond=0), or send .isoformat() or .timestamp()",
            );
        }
        if seconds < 0.0 {
            return refuse("a timestamp on the wire starts at 1970: send .isoformat()");
        }
        return Ok(Value::Timestamp(seconds as u64));
    }
    if item.is_instance(decimal_class(item.py())?)? {
        return decimal(item)?.map_or_else(
            || refuse("a decimal on the wire has 32 bits and 0 to 255 places after the point: send it as str"),
            |(scale, number)| Ok(Value::Decimal { scale, value: number.cast_unsigned() }),
        );
    }
    refuse(&format!(
        "{} has no place in a message: use str, int, float, bool, None, bytes, datetime, Decimal, list or dict",
        type_name(item)
    ))
}

/// Scale and number of a Decimal that fits and comes back equal, digits and all.
fn decimal(item: &Bound<'_, PyAny>) -> Result<Option<(u8, i32)>> {
    let (sign, digits, exponent): (u8, Vec<u8>, Py<PyAny>) =
        item.call_method0("as_tuple")?.extract()?;
    // The exponent of NaN and infinity is a str.
    let Ok(exponent) = exponent.extract::<i64>(item.py()) else {
        return Ok(None);
    };
    let Ok(scale) = u8::try_from(-exponent) else {
        return Ok(None);
    };
    let mut number: i64 = 0;
    for digit in digits {
        number = number * 10 + i64::from(digit);
        if number > i64::from(u32::MAX) {
            return Ok(None);
        }
    }
    if sign == 1 {
        if number == 0 {
            // -0.0 would come back as 0.0.
            return Ok(None);
        }
        number = -number;
    }
    Ok(i32::try_from(number).ok().map(|number| (scale, number)))
}

/// A new dict of a field table.
pub(crate) fn dict<'py>(py: Python<'py>, table: &Table) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in table.iter() {
        dict.set_item(text(py, name), object(py, value)?)?;
    }
    Ok(dict)
}

fn text<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyAny> {
    match std::str::from_utf8(bytes) {
        Ok(text) => PyString::new(py, text).into_any(),
        Err(_) => PyBytes::new(py, bytes).into_any(),
    }
}

fn object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Bool(flag) => PyBool::new(py, *flag).to_owned().into_any(),
        Value::I8(n) => n.into_pyobject(py)?.into_any(),
        Value::U8(n) => n.into_pyobject(py)?.into_any(),
        Value::I16(n) => n.into_pyobject(py)?.into_any(),
        Value::U16(n) => n.into_pyobject(py)?.into_any(),
        Value::I32(n) => n.into_pyobject(py)?.into_any(),
        Value::U32(n) => n.into_pyobject(py)?.into_any(),
        Value::I64(n) => n.into_pyobject(py)?.into_any(),
        Value::U64(n) => n.into_pyobject(py)?.into_any(),
        Value::F32(n) => PyFloat::new(py, f64::from(*n)).into_any(),
        Value::F64(n) => PyFloat::new(py, *n).into_any(),
        Value::Decimal { scale, value } => {
            let value = value.cast_signed();
            let digits: Vec<u8> = value
                .unsigned_abs()
                .to_string()
                .bytes()
                .map(|digit| digit - b'0')
                .collect();
            let parts = (
                u8::from(value < 0),
                PyTuple::new(py, digits)?,
                -i16::from(*scale),
            );
            decimal_class(py)?.call1((parts,))?
        }
        Value::Str(bytes) => text(py, bytes),
        Value::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(object(py, item)?)?;
            }
            list.into_any()
        }
        Value::Table(table) => dict(py, table)?.into_any(),
        Value::Timestamp(seconds) => utc_datetime(py, *seconds)?,
        Value::Void => py.None().into_bound(py),
    })
}
