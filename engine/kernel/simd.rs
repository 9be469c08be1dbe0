//! Instruction sets: kernels are written once over plain slices and compiled for each of them.
//!
//! The macro `dispatch!` wraps a generic body in `#[target_feature]` shells and picks one at run time, so that a
//! generic build uses AVX-512 or AVX2 where the processor has it. The body is generic over [`Fused`]:
//! with fused multiply-add where the hardware has it, without on the portable path (where `mul_add` would
//! be a slow library call). NEON is part of every aarch64 target and needs no dispatch.

use std::sync::OnceLock;

/// An instruction set that kernels are compiled for and this processor has.
///
/// [`Level::detect`], [`Level::portable`] and [`Level::available`] are the only sources of a level, so safe code
/// cannot run instructions that the processor lacks:
///
/// ```compile_fail
/// let level = brillm::kernel::simd::Level::Avx512;
/// ```
///
/// ```
/// use brillm::kernel::simd::Level;
/// assert!(Level::available().contains(&Level::detect()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(InstructionSet);

/// The instruction sets; crate-private, so that only this module turns one into a [`Level`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(dead_code, reason = "each architecture has its own")]
pub(crate) enum InstructionSet {
    /// What the build target guarantees (SSE2 on x86-64), no fused multiply-add.
    Portable,
    /// The 128-bit vectors of aarch64.
    Neon,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors.
    Avx512,
}

impl Level {
    /// Name in reports and in the environment variable `BRILLM_SIMD`.
    pub fn name(self) -> &'static str {
        match self.0 {
            InstructionSet::Portable => "portable",
            InstructionSet::Neon => "neon",
            InstructionSet::Avx2 => "avx2",
            InstructionSet::Avx512 => "avx512",
        }
    }

    /// Return the level that every processor of the build target has.
    pub fn portable() -> Self {
        Self(InstructionSet::Portable)
    }

    /// Detect every level that this processor has, slowest first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "mutated on the architectures below")]
        let mut levels = vec![Self::portable()];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                levels.push(Self(InstructionSet::Avx2));
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    levels.push(Self(InstructionSet::Avx512));
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        levels.push(Self(InstructionSet::Neon));
        levels
    }

    /// Detect the fastest level of this processor.
    pub fn detect() -> Self {
        *Self::available().last().unwrap_or(&Self::portable())
    }

    /// Return the level in use: the one `BRILLM_SIMD` names if the processor has it, else the fastest.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Level> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let named = std::env::var("BRILLM_SIMD").ok();
            named
                .and_then(|name| {
                    Self::available()
                        .into_iter()
                        .find(|level| level.name() == name)
                })
                .unwrap_or_else(Self::detect)
        })
    }

    /// Return whether there are 32 vector registers of 16 numbers, not 16 of 8 or less.
    #[cfg(feature = "transformer")]
    pub(crate) fn has_wide_registers(self) -> bool {
        self.0 == InstructionSet::Avx512
    }

    pub(crate) fn set(self) -> InstructionSet {
        self.0
    }
}

/// Prefetch the cache line at an address into all caches. Any address is valid: unmapped ones are ignored.
#[inline(always)]
#[cfg(feature = "transformer")]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the instruction belongs to every x86-64 processor, changes no memory, and ignores invalid addresses.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// How a kernel body multiplies and adds.
pub trait Arithmetic {
    /// `a * b + c`.
    fn multiply_add(a: f32, b: f32, c: f32) -> f32;
}

/// One instruction, one rounding.
pub struct Fused;

/// Two instructions, two roundings.
pub struct Plain;

impl Arithmetic for Fused {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl Arithmetic for Plain {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

/// Define `name(arguments…)`, compiled for every instruction set and run at [`Level::current`], and
/// `name_at(level, arguments…)`, at a given level. Both run `body::<Fused or Plain>(arguments…)`.
macro_rules! dispatch {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident, $at:ident $([$($generic:tt)*] [$($given:tt)*])? ($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:ident) => {
        $(#[$attribute])*
        #[allow(clippy::too_many_arguments, reason = "kernels take plain slices")]
        $visibility fn $name $(<$($generic)*>)? ($($argument: $type),*) $(-> $result)? {
            $at $(::<$($given)*>)? ($crate::kernel::simd::Level::current(), $($argument),*)
        }

        #[doc = concat!("[`", stringify!($name), "`] at a given level.")]
        #[allow(clippy::too_many_arguments, reason = "kernels take plain slices")]
        $visibility fn $at $(<$($generic)*>)? (level: $crate::kernel::simd::Level, $($argument: $type),*) $(-> $result)? {
            use $crate::kernel::simd::{Fused, InstructionSet, Plain};
            match level.set() {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 => {
                    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                    #[allow(clippy::too_many_arguments, reason = "kernels take plain slices")]
                    fn shell $(<$($generic)*>)? ($($argument: $type),*) $(-> $result)? { $body::<Fused $(, $($given)*)?>($($argument),*) }
                    // SAFETY: only `Level::available` makes a level of this set, after it detected these features.
                    unsafe { shell $(::<$($given)*>)? ($($argument),*) }
                }
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 => {
                    #[target_feature(enable = "avx2,fma")]
                    #[allow(clippy::too_many_arguments, reason = "kernels take plain slices")]
                    fn shell $(<$($generic)*>)? ($($argument: $type),*) $(-> $result)? { $body::<Fused $(, $($given)*)?>($($argument),*) }
                    // SAFETY: only `Level::available` makes a level of this set, after it detected these features.
                    unsafe { shell $(::<$($given)*>)? ($($argument),*) }
                }
                #[cfg(target_arch = "aarch64")]
                InstructionSet::Neon => $body::<Fused $(, $($given)*)?>($($argument),*),
                _ => $body::<Plain $(, $($given)*)?>($($argument),*),
            }
        }
    };
}
pub(crate) use dispatch;

/// Compute e^x within 2 units in the last place on [-87, 88]; flushes to 0 below and saturates above.
///
/// Range reduction by ln 2 and a polynomial of degree 6, with the coefficients of Cephes (Moshier 1989).
#[inline(always)]
pub fn exp<A: Arithmetic>(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, so that the remainder is exact to f32.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.3, 88.3);
    // Adding and subtracting 1.5 × 2^23 rounds to the nearest integer without a branch.
    const ROUND: f32 = 12_582_912.0;
    let n = A::multiply_add(clamped, LOG2_E, ROUND) - ROUND;
    let r = A::multiply_add(n, -LN2_HIGH, clamped);
    let r = A::multiply_add(n, -LN2_LOW, r);
    let mut p = 1.987_569_2e-4;
    p = A::multiply_add(p, r, 1.398_2e-3);
    p = A::multiply_add(p, r, 8.333_452e-3);
    p = A::multiply_add(p, r, 4.166_579_6e-2);
    p = A::multiply_add(p, r, 1.666_666_5e-1);
    p = A::multiply_add(p, r, 5.000_000_1e-1);
    let p = A::multiply_add(p * r, r, r + 1.0);
    let scale = f32::from_bits(((n as i32 + 127) as u32) << 23);
    if x < -87.3 { 0.0 } else { p * scale }
}

/// Compute erf(x) within 3e-7, by the rational approximation of Eigen on [-4, 4] and ±1 outside.
#[inline(always)]
pub fn erf<A: Arithmetic>(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let s = x * x;
    let mut p = -2.726_142_3e-10;
    p = A::multiply_add(p, s, 2.770_681_4e-8);
    p = A::multiply_add(p, s, -2.101_024e-6);
    p = A::multiply_add(p, s, -5.692_506_4e-5);
    p = A::multiply_add(p, s, -7.349_906e-4);
    p = A::multiply_add(p, s, -2.954_599_8e-3);
    p = A::multiply_add(p, s, -1.609_603_3e-2);
    let mut q = -1.456_607_2e-5;
    q = A::multiply_add(q, s, -2.133_740_6e-4);
    q = A::multiply_add(q, s, -1.682_827e-3);
    q = A::multiply_add(q, s, -7.373_329e-3);
    q = A::multiply_add(q, s, -1.426_473_9e-2);
    x * p / q
}
