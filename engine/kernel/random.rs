//! Random numbers that replay bit for bit, on any machine and with any number of threads.
//!
//! SplitMix64 (Steele, Lea and Flood 2014): a counter through a mixing function. The state is one word,
//! saved with sessions and checkpoints; [`Random::stream`] gives an independent stream for each
//! (seed, purpose, index), so that a draw does not depend on the order of draws elsewhere.

use serde::{Deserialize, Serialize};

/// A stream of random numbers with a state of one word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Random {
    state: u64,
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// Create the stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            // mix(0) is 0: the constant keeps seed 0 from that state.
            state: mix(seed ^ 0x5851_f42d_4c95_7f2d),
        }
    }

    /// Create an independent stream for one purpose and index under a seed.
    pub fn stream(seed: u64, purpose: u64, index: u64) -> Self {
        let state = mix(Self::base(seed, purpose).wrapping_add(index));
        Self { state }
    }

    /// Return the base of all streams of one purpose under a seed; adding an index and mixing gives a stream.
    pub fn base(seed: u64, purpose: u64) -> u64 {
        mix(mix(seed).wrapping_add(purpose))
    }

    /// State, with which [`Self::from_state`] continues the stream.
    pub fn state(&self) -> u64 {
        self.state
    }

    /// Continue a stream from its state.
    pub fn from_state(state: u64) -> Self {
        Self { state }
    }

    /// Draw 64 random bits.
    pub fn bits(&mut self) -> u64 {
        // 2⁶⁴ divided by the golden ratio: successive states differ in many bits.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// Leave out the next `draws` draws of 64 bits. O(1).
    pub fn skip(&mut self, draws: u64) {
        let step = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(draws);
        self.state = self.state.wrapping_add(step);
    }

    /// Draw a number in [0, 1), all 53 bits random.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Draw an integer below `bound`, without bias; zero for a bound of zero (Lemire 2019).
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // The high word of bits · bound is uniform once the short remainder is rejected.
        loop {
            let product = u128::from(self.bits()) * u128::from(bound);
            if product as u64 >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }

    /// Draw a standard normal number (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        // 1 − u is in (0, 1], so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Shuffle a slice (Fisher and Yates 1938).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}
