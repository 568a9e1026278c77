//! Values of AMQP headers as text: what a MESSAGE frame can carry of them, and flags of a frame that are meant to become one.
//!
//! Numbers are decimal, flags `true` and `false`, timestamps seconds, a void nothing. Arrays and tables, such as `x-death`,
//! are JSON. Bytes that are not UTF-8 lose what cannot be shown: a header has to be text.

use std::borrow::Cow;
use std::fmt::Write;

use wherry_engine::table::ValueView;

/// A flag, also as programs in Python write it who hand over `True` itself.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" => Some(true),
        "false" | "False" => Some(false),
        _ => None,
    }
}

/// The text of a value, borrowed where it is text already.
pub(super) fn text(value: ValueView<'_>) -> Cow<'_, [u8]> {
    let number = |text: String| Cow::Owned(text.into_bytes());
    match value {
        ValueView::Str(bytes) | ValueView::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(_) => Cow::Borrowed(bytes),
            Err(_) => number(String::from_utf8_lossy(bytes).into_owned()),
        },
        ValueView::Bool(true) => Cow::Borrowed(b"true"),
        ValueView::Bool(false) => Cow::Borrowed(b"false"),
        ValueView::Void => Cow::Borrowed(b""),
        ValueView::F32(x) => number(x.to_string()),
        ValueView::F64(x) => number(x.to_string()),
        other => {
            let mut out = String::new();
            json(other, &mut out);
            number(out)
        }
    }
}

/// Appends a value as JSON. The views go no deeper than the engine's tables.
fn json(value: ValueView<'_>, out: &mut String) {
    match value {
        ValueView::Bool(flag) => out.push_str(if flag { "true" } else { "false" }),
        ValueView::F32(x) => float(x.into(), out),
        ValueView::F64(x) => float(x, out),
        ValueView::Decimal { scale, value } => decimal(scale, value, out),
        ValueView::Timestamp(seconds) => {
            let _ = write!(out, "{seconds}");
        }
        ValueView::Str(bytes) | ValueView::Bytes(bytes) => string(bytes, out),
        ValueView::Void => out.push_str("null"),
        ValueView::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                if index != 0 {
                    out.push(',');
                }
                json(value, out);
            }
            out.push(']');
        }
        ValueView::Table(table) => {
            out.push('{');
            for (index, (name, value)) in table.iter().enumerate() {
                if index != 0 {
                    out.push(',');
                }
                string(name, out);
                out.push(':');
                json(value, out);
            }
            out.push('}');
        }
        other => {
            let _ = write!(out, "{}", other.as_integer().unwrap_or_default());
        }
    }
}

/// JSON has no word for what is no number.
fn float(x: f64, out: &mut String) {
    if x.is_finite() {
        let _ = write!(out, "{x}");
    } else {
        out.push_str("null");
    }
}

fn decimal(scale: u8, value: u32, out: &mut String) {
    let digits = value.to_string();
    let scale = usize::from(scale);
    if scale == 0 {
        return out.push_str(&digits);
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, part) = padded.split_at(padded.len() - scale);
    let _ = write!(out, "{whole}.{part}");
}

fn string(bytes: &[u8], out: &mut String) {
    out.push('"');
    for letter in String::from_utf8_lossy(bytes).chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if (control as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", control as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use wherry_engine::table::{Table, TableView, Value};

    use super::*;

    fn shown(value: Value) -> String {
        let table: Table = [("v", value)].into_iter().collect();
        let bytes = table.encode().unwrap();
        let view = TableView::new(&bytes).get("v").unwrap();
        String::from_utf8(text(view).into_owned()).unwrap()
    }

    #[test]
    fn every_type_has_a_text() {
        for (value, expected) in [
            (Value::from("plain ü"), "plain ü"),
            (Value::Bytes(b"a\xff".to_vec()), "a\u{fffd}"),
            (Value::from(true), "true"),
            (Value::from(-5i8), "-5"),
            (Value::from(5u32), "5"),
            (Value::from(i64::MIN), "-9223372036854775808"),
            (Value::from(1.5f64), "1.5"),
            (Value::Timestamp(7), "7"),
            (Value::Void, ""),
            (
                Value::Decimal {
                    scale: 2,
                    value: 314,
                },
                "3.14",
            ),
            (Value::Decimal { scale: 3, value: 5 }, "0.005"),
            (Value::Array(vec![]), "[]"),
        ] {
            assert_eq!(shown(value), expected);
        }
    }

    #[test]
    fn arrays_and_tables_are_json() {
        let entry: Table = [
            ("count", Value::I64(2)),
            ("queue", Value::from("q\"\\\n\u{1}")),
            ("none", Value::Void),
            ("nan", Value::F64(f64::NAN)),
            ("keys", Value::Array(vec![Value::from("k"), true.into()])),
        ]
        .into_iter()
        .collect();
        assert_eq!(
            shown(Value::Array(vec![Value::Table(entry), Value::Timestamp(1)])),
            r#"[{"count":2,"queue":"q\"\\\n\u0001","none":null,"nan":null,"keys":["k",true]},1]"#
        );
    }
}
