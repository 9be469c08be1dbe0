//! Memory of the engine that NumPy reads without copying.

use std::any::Any;

use brillm::kernel::bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// Read-only numbers in memory of the engine, for `numpy.asarray`: they implement NumPy's array interface.
///
/// An array over them keeps the buffer alive, and the buffer their owner.
#[pyclass(frozen, module = "brillm._native")]
pub(crate) struct Buffer {
    /// Keeps the memory alive; never changed.
    _owner: Box<dyn Any + Send + Sync>,
    address: usize,
    shape: Vec<usize>,
    kind: Kind,
}

/// Type of the numbers of a buffer.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    U8,
    U16,
    U32,
    F16,
    F32,
    F64,
    I8,
}

impl Kind {
    /// Letter in NumPy's type strings, and size in bytes.
    fn code(self) -> (char, usize) {
        match self {
            Self::U8 => ('u', 1),
            Self::U16 => ('u', 2),
            Self::U32 => ('u', 4),
            Self::F16 => ('f', 2),
            Self::F32 => ('f', 4),
            Self::F64 => ('f', 8),
            Self::I8 => ('i', 1),
        }
    }
}

/// Numbers of Rust that a buffer can hold.
pub(crate) trait Number {
    const KIND: Kind;
}

impl Number for u8 {
    const KIND: Kind = Kind::U8;
}

impl Number for u32 {
    const KIND: Kind = Kind::U32;
}

impl Number for f32 {
    const KIND: Kind = Kind::F32;
}

impl Number for f64 {
    const KIND: Kind = Kind::F64;
}

impl Buffer {
    /// Create a buffer over a slice that `owner` holds; `shape` multiplies to its length.
    pub(crate) fn new<O: Any + Send + Sync, T: Number>(
        owner: O,
        shape: Vec<usize>,
        view: impl for<'a> FnOnce(&'a O) -> &'a [T],
    ) -> Self {
        let owner = Box::new(owner);
        let values = view(&owner);
        assert_eq!(
            values.len(),
            shape.iter().product::<usize>(),
            "shape {shape:?}"
        );
        Self {
            address: values.as_ptr() as usize,
            _owner: owner,
            shape,
            kind: T::KIND,
        }
    }

    /// Create a buffer over stored bytes.
    pub(crate) fn of_bytes(bytes: Bytes, kind: Kind, shape: Vec<usize>) -> Self {
        let length = shape.iter().product::<usize>() * kind.code().1;
        assert_eq!(bytes.len(), length, "bytes of shape {shape:?}");
        Self {
            // Clones share the bytes, which do not move.
            address: bytes.as_ptr() as usize,
            _owner: Box::new(bytes),
            shape,
            kind,
        }
    }

    /// Create a buffer of numbers that were computed. `[n]`
    pub(crate) fn of<T: Number + Send + Sync + 'static>(values: Vec<T>) -> Self {
        let shape = vec![values.len()];
        Self::new(values, shape, |values| values)
    }
}

#[pymethods]
impl Buffer {
    /// NumPy's array interface, version 3.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let order = if cfg!(target_endian = "little") {
            '<'
        } else {
            '>'
        };
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("shape", PyTuple::new(py, &self.shape)?)?;
        let (letter, size) = self.kind.code();
        interface.set_item("typestr", format!("{order}{letter}{size}"))?;
        // The second item: whether the memory is read-only.
        interface.set_item("data", (self.address, true))?;
        Ok(interface)
    }
}
