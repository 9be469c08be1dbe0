//! The buffers that plugins write, with guard values around them that are checked after each call.

/// Guard values on each side of a buffer.
const GUARD: usize = 16;

/// A number type with a value that answers do not contain by chance.
pub(crate) trait GuardValue: Copy + PartialEq + Default {
    /// The value.
    const PATTERN: Self;
}

impl GuardValue for u32 {
    const PATTERN: Self = 0xC0DE_CAFE;
}

impl GuardValue for f32 {
    const PATTERN: Self = -1.234_567_9e-30;
}

/// A buffer between guard values.
#[derive(Debug, Default)]
pub(crate) struct Guarded<T> {
    all: Vec<T>,
    length: usize,
}

impl<T: GuardValue> Guarded<T> {
    /// Fill the buffer with `length` zeros.
    pub fn clear(&mut self, length: usize) -> *mut T {
        self.length = length;
        self.all.clear();
        self.all.resize(GUARD, T::PATTERN);
        self.all.resize(GUARD + length, T::default());
        self.close()
    }

    /// Fill the buffer with `values`.
    pub fn load(&mut self, values: &[T]) -> *mut T {
        self.length = values.len();
        self.all.clear();
        self.all.resize(GUARD, T::PATTERN);
        self.all.extend_from_slice(values);
        self.close()
    }

    fn close(&mut self) -> *mut T {
        self.all.resize(2 * GUARD + self.length, T::PATTERN);
        self.all[GUARD..].as_mut_ptr()
    }

    /// Return the contents.
    pub fn values(&self) -> &[T] {
        self.all.get(GUARD..GUARD + self.length).unwrap_or_default()
    }

    /// Whether all guard values are unchanged.
    fn intact(&self) -> bool {
        self.all.is_empty()
            || self.all[..GUARD]
                .iter()
                .chain(&self.all[GUARD + self.length..])
                .all(|value| *value == T::PATTERN)
    }
}

/// The buffers of an instance, reused by all calls.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Floats.
    pub floats: Guarded<f32>,
    /// Integers.
    pub first: Guarded<u32>,
    /// More integers.
    pub second: Guarded<u32>,
}

impl Scratch {
    /// Whether nothing was written beyond the buffers.
    pub fn intact(&self) -> bool {
        self.floats.intact() && self.first.intact() && self.second.intact()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_beyond_a_buffer_are_detected() {
        let mut scratch = Scratch::default();
        assert!(scratch.intact());
        let _ = scratch.first.clear(3);
        assert!(scratch.intact());
        scratch.first.all[GUARD] = 7;
        assert_eq!(scratch.first.values(), [7, 0, 0]);
        assert!(scratch.intact());
        scratch.first.all[GUARD + 3] = 0;
        assert!(!scratch.intact());
        let _ = scratch.first.load(&[1]);
        assert!(scratch.intact());
        scratch.first.all[GUARD - 1] = 0;
        assert!(!scratch.intact());
    }
}
