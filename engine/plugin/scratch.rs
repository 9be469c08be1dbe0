//! The buffers that plugins answer in: between canaries, which are checked after each call.

/// Numbers on each side of a buffer that nobody may write.
const MARGIN: usize = 16;

/// A number with a pattern that no answer holds by chance.
pub(crate) trait Canary: Copy + PartialEq + Default {
    /// The pattern.
    const PATTERN: Self;
}

impl Canary for u32 {
    const PATTERN: Self = 0xC0DE_CAFE;
}

impl Canary for f32 {
    const PATTERN: Self = -1.234_567_9e-30;
}

/// A buffer between canaries.
#[derive(Debug, Default)]
pub(crate) struct Guarded<T> {
    all: Vec<T>,
    length: usize,
}

impl<T: Canary> Guarded<T> {
    /// A buffer of `length` defaults.
    pub fn clear(&mut self, length: usize) -> *mut T {
        self.length = length;
        self.all.clear();
        self.all.resize(MARGIN, T::PATTERN);
        self.all.resize(MARGIN + length, T::default());
        self.close()
    }

    /// A buffer that holds `values`.
    pub fn load(&mut self, values: &[T]) -> *mut T {
        self.length = values.len();
        self.all.clear();
        self.all.resize(MARGIN, T::PATTERN);
        self.all.extend_from_slice(values);
        self.close()
    }

    fn close(&mut self) -> *mut T {
        self.all.resize(2 * MARGIN + self.length, T::PATTERN);
        self.all[MARGIN..].as_mut_ptr()
    }

    /// What lies between the canaries.
    pub fn values(&self) -> &[T] {
        self.all
            .get(MARGIN..MARGIN + self.length)
            .unwrap_or_default()
    }

    /// Whether all canaries live.
    fn whole(&self) -> bool {
        self.all.is_empty()
            || self.all[..MARGIN]
                .iter()
                .chain(&self.all[MARGIN + self.length..])
                .all(|value| *value == T::PATTERN)
    }
}

/// Every buffer of an instance, reused from call to call.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Floats.
    pub floats: Guarded<f32>,
    /// Whole numbers.
    pub first: Guarded<u32>,
    /// More of them.
    pub second: Guarded<u32>,
}

impl Scratch {
    /// Whether nothing beyond the buffers was written.
    pub fn whole(&self) -> bool {
        self.floats.whole() && self.first.whole() && self.second.whole()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_beyond_is_seen() {
        let mut scratch = Scratch::default();
        assert!(scratch.whole());
        let _ = scratch.first.clear(3);
        assert!(scratch.whole());
        scratch.first.all[MARGIN] = 7;
        assert_eq!(scratch.first.values(), [7, 0, 0]);
        assert!(scratch.whole());
        scratch.first.all[MARGIN + 3] = 0;
        assert!(!scratch.whole());
        let _ = scratch.first.load(&[1]);
        assert!(scratch.whole());
        scratch.first.all[MARGIN - 1] = 0;
        assert!(!scratch.whole());
    }
}
