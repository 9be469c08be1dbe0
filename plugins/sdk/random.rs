//! Many random numbers from one of the host's: [`RandomStream`].

/// A stream of random numbers (SplitMix64) that begins at a number from [`crate::Call::random`], so that it replays.
///
/// ```
/// use brillm_plugin::RandomStream;
/// assert_eq!(RandomStream::new(3).bits(), RandomStream::new(3).bits());
/// ```
#[derive(Clone, Debug)]
pub struct RandomStream(u64);

impl RandomStream {
    /// A stream; the same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        // Seeds that differ little begin streams that have nothing to do with each other.
        Self(mix(seed))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A random number in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Puts a list into random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, (self.bits() % (last as u64 + 1)) as usize);
        }
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
