//! Whole numbers as arguments. PyO3's own conversion raises OverflowError for one that does not fit, and says neither which
//! argument it was nor what would fit.

use std::fmt::Display;

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::PyAny;

use crate::errors::Error;

/// A whole number type, or an option of one.
pub(crate) trait Whole: Sized {
    /// Converts, or raises what PyO3 does.
    fn of(value: &Bound<'_, PyAny>) -> PyResult<Self>;
    /// The least and the greatest that fits.
    fn range() -> (impl Display, impl Display);
}

macro_rules! whole {
    ($($type:ty),+) => {
        $(impl Whole for $type {
            #[inline]
            fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
                value.extract()
            }

            fn range() -> (impl Display, impl Display) {
                (Self::MIN, Self::MAX)
            }
        })+
    };
}

whole!(u8, u16, u32, u64, usize, i32, i64);

impl<T: Whole> Whole for Option<T> {
    #[inline]
    fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_none() {
            return Ok(None);
        }
        T::of(value).map(Some)
    }

    fn range() -> (impl Display, impl Display) {
        T::range()
    }
}

/// Digits of a number that are shown.
const SHOWN_MAX: usize = 40;

/// The value of an argument of this name.
#[inline]
pub(crate) fn number<T: Whole>(name: &str, value: &Bound<'_, PyAny>) -> PyResult<T> {
    T::of(value).map_err(|error| refused::<T>(name, value, error))
}

#[cold]
fn refused<T: Whole>(name: &str, value: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyOverflowError>(value.py()) {
        return error;
    }
    let shown = match value.str() {
        Ok(text) if text.len().is_ok_and(|length| length <= SHOWN_MAX) => format!("={text}"),
        _ => String::new(), // Python does not print a number of thousands of digits
    };
    let (least, greatest) = T::range();
    Error::invalid(format!(
        "{name}{shown}: give a whole number from {least} to {greatest}"
    ))
    .into()
}

macro_rules! arguments {
    ($($name:ident),+ $(,)?) => {
        $(#[doc = concat!("For `from_py_with`: the argument `", stringify!($name), "`.")]
        #[inline]
        pub(crate) fn $name<T: Whole>(value: &Bound<'_, PyAny>) -> PyResult<T> {
            number(stringify!($name), value)
        })+
    };
}

arguments!(
    count,
    delivery_limit,
    id,
    levels,
    limit,
    max,
    max_length,
    max_length_bytes,
    max_priority,
    memory_bytes_max,
    offset,
    prefetch,
    priority,
    receipt,
    segment_bytes,
);
