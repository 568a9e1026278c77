//! The bare structures: any Python object, thread-safe, without a broker around them.
//!
//! The collector sees what they hold, so that a cycle through one is collected as a cycle through a list is. It runs
//! while no other thread is inside a method here: with the interpreter lock because methods keep it, without it
//! because the collector stops the world at points that are outside of these methods.

use pyo3::exceptions::PyOverflowError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use wherry_queues::{Fifo as Structure, PriorityFifo as PriorityStructure};

use crate::errors::{Error, Result};
use crate::whole;

#[cold]
fn empty(what: &str) -> Error {
    Error::QueueEmpty(what.to_owned())
}

/// The objects of any iterable, owned.
fn objects(items: &Bound<'_, PyAny>) -> PyResult<Vec<(Py<PyAny>, u32)>> {
    if let Ok(list) = items.cast_exact::<PyList>() {
        return Ok(list.iter().map(|item| (item.unbind(), 0)).collect());
    }
    if let Ok(tuple) = items.cast_exact::<PyTuple>() {
        return Ok(tuple
            .as_slice()
            .iter()
            .map(|item| (item.clone().unbind(), 0))
            .collect());
    }
    items
        .try_iter()?
        .map(|item| Ok((item?.unbind(), 0)))
        .collect()
}

/// A lock-free first-in-first-out queue of any Python objects, for any number of threads.
///
/// Nothing waits: a reader that finds it empty is told so. (A reader that meets a writer in the middle of `put_many`
/// waits for that writer, some nanoseconds.) Its length is a guess while others use it.
#[pyclass(frozen, generic, module = "wherry")]
pub(crate) struct Fifo {
    /// Boxed: it wants cache lines of its own, and Python's allocator knows alignment to 16 bytes only.
    fifo: Box<Structure<Py<PyAny>>>,
}

#[pymethods]
impl Fifo {
    #[new]
    fn new() -> Self {
        Fifo {
            fifo: Box::new(Structure::new()),
        }
    }

    /// Appends an object.
    fn put(&self, item: Py<PyAny>) {
        self.fifo.push(item, 0);
    }

    /// Takes the oldest object.
    ///
    /// Raises:
    ///     QueueEmpty: there is none.
    fn get_nowait(&self) -> Result<Py<PyAny>> {
        self.fifo.pop().ok_or_else(|| empty("Fifo"))
    }

    /// Appends the objects of an iterable, next to each other.
    fn put_many(&self, items: &Bound<'_, PyAny>) -> PyResult<()> {
        self.fifo.push_batch(objects(items)?);
        Ok(())
    }

    /// Takes up to `max` objects, oldest first; an empty list when there is none.
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = whole::max)] max: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut taken = Vec::with_capacity(max.min(self.fifo.len()));
        self.fifo.pop_batch(max, &mut taken);
        PyList::new(py, taken)
    }

    fn __len__(&self) -> usize {
        self.fifo.len()
    }

    fn __bool__(&self) -> bool {
        !self.fifo.is_empty()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        let mut result = Ok(());
        self.fifo.browse(0, usize::MAX, |_, _, item| {
            if result.is_ok() {
                result = visit.call(item);
            }
        });
        result
    }

    fn __clear__(&self) {
        while let Some(item) = self.fifo.pop() {
            drop(item);
        }
    }
}

/// A lock-free priority queue of any Python objects, for any number of threads: first in, first out in each level, the
/// highest level first.
///
/// Nothing waits: a reader that finds it empty is told so. Its length is a guess while others use it.
///
/// Args:
///     levels: how many there are, 1 to 256; they are numbered from 0.
#[pyclass(frozen, generic, module = "wherry")]
pub(crate) struct PriorityFifo {
    /// Boxed, as above.
    fifo: Box<PriorityStructure<Py<PyAny>>>,
    levels: u16,
}

impl PriorityFifo {
    fn level(&self, priority: u16) -> Result<u8> {
        if priority < self.levels {
            return Ok(u8::try_from(priority).map_err(|_| PyOverflowError::new_err("priority"))?);
        }
        Err(Error::invalid(format!(
            "priority={priority}: this PriorityFifo has levels 0 to {}",
            self.levels - 1
        )))
    }
}

#[pymethods]
impl PriorityFifo {
    #[new]
    fn new(#[pyo3(from_py_with = whole::levels)] levels: u16) -> Result<Self> {
        if !(1..=256).contains(&levels) {
            return Err(Error::invalid(format!("levels={levels}: use 1 to 256")));
        }
        Ok(PriorityFifo {
            fifo: Box::new(PriorityStructure::new(levels.into())),
            levels,
        })
    }

    /// The number of levels.
    #[getter]
    fn levels(&self) -> u16 {
        self.levels
    }

    /// Appends an object to its level; higher levels leave first.
    ///
    /// Raises:
    ///     InvalidArgument: there is no such level.
    #[pyo3(signature = (item, priority=0))]
    fn put(
        &self,
        item: Py<PyAny>,
        #[pyo3(from_py_with = whole::priority)] priority: u16,
    ) -> Result<()> {
        self.fifo.push(self.level(priority)?, item, 0);
        Ok(())
    }

    /// Takes the oldest object of the highest level that has one.
    ///
    /// Raises:
    ///     QueueEmpty: there is none.
    fn get_nowait(&self) -> Result<Py<PyAny>> {
        self.fifo.pop().ok_or_else(|| empty("PriorityFifo"))
    }

    /// Appends the objects of an iterable to one level, next to each other.
    ///
    /// Raises:
    ///     InvalidArgument: there is no such level.
    #[pyo3(signature = (items, priority=0))]
    fn put_many(
        &self,
        items: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = whole::priority)] priority: u16,
    ) -> Result<()> {
        self.fifo.push_batch(self.level(priority)?, objects(items)?);
        Ok(())
    }

    /// Takes up to `max` objects in the order of `get_nowait`; an empty list when there is none.
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = whole::max)] max: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut taken = Vec::with_capacity(max.min(self.fifo.len()));
        self.fifo.pop_batch(max, &mut taken);
        PyList::new(py, taken)
    }

    fn __len__(&self) -> usize {
        self.fifo.len()
    }

    fn __bool__(&self) -> bool {
        !self.fifo.is_empty()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        let mut result = Ok(());
        self.fifo.browse(u8::MAX, 0, usize::MAX, |_, _, _, item| {
            if result.is_ok() {
                result = visit.call(item);
            }
        });
        result
    }

    fn __clear__(&self) {
        while let Some(item) = self.fifo.pop() {
            drop(item);
        }
    }
}
