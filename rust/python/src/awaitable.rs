//! An awaitable that is finished already: what `__anext__` and `__aexit__` return when there is nothing to wait for.

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;

use crate::delivery::Delivery;

/// Awaiting it gives the value at once, without a turn of the event loop.
#[pyclass(frozen, module = "wherry._core", freelist = 64)]
pub(crate) struct Completed {
    /// Nothing stands for None, which the interpreter passes on without making an exception object.
    value: Option<Py<Delivery>>,
}

impl Completed {
    pub(crate) fn new(value: Py<Delivery>) -> Self {
        Completed { value: Some(value) }
    }

    pub(crate) fn none() -> Self {
        Completed { value: None }
    }
}

#[pymethods]
impl Completed {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match &self.value {
            None => Ok(None),
            // Not wrapped in a tuple: the interpreter then takes the value out without making an exception object (up
            // to 3.11). It must not be a tuple or an exception itself: it is a delivery.
            Some(value) => Err(PyStopIteration::new_err(value.clone_ref(py))),
        }
    }
}
