//! Exact sums: floats rounded to fixed point, whose integers add to the same bits in any order.

/// Fixed-point numbers of 64 bits. A sum of up to `terms` numbers within [`Self::limit`] does not overflow.
///
/// ```
/// use brillm::ranks::FixedPoint;
/// let fixed = FixedPoint::new(44, 2);
/// let mut sums = [0i64; 2];
/// assert!(fixed.add(&[0.5, 1.0], 1.0, &mut sums));
/// assert!(fixed.add(&[0.25, -3.0], 1.0, &mut sums));
/// assert_eq!(sums.map(|sum| fixed.value(sum)), [0.75, -2.0]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FixedPoint {
    /// 2ᶠ for f bits of fraction.
    unit: f64,
    /// Largest magnitude of one term, in units.
    limit: f64,
}

impl FixedPoint {
    /// Create numbers of `fraction` bits after the point, for sums of up to `terms` of them.
    pub fn new(fraction: u32, terms: usize) -> Self {
        Self {
            unit: 2f64.powi(fraction as i32),
            // One bit is left for the roundings of the limit itself.
            limit: 2f64.powi(62) / terms.max(1) as f64,
        }
    }

    /// Largest magnitude of one term.
    pub fn limit(&self) -> f64 {
        self.limit / self.unit
    }

    /// Round `weight · value` to the nearest unit; `None` beyond the limit, and for what is not a number.
    pub fn round(&self, value: f64, weight: f64) -> Option<i64> {
        // An f32 times a power of two is exact in f64: there is one rounding.
        let units = (value * self.unit * weight).round_ties_even();
        (units.abs() <= self.limit).then_some(units as i64)
    }

    /// Add `weight · values` to `sums`. Returns whether all of them are within the limit; others are left out.
    #[must_use]
    pub fn add(&self, values: &[f32], weight: f64, sums: &mut [i64]) -> bool {
        let mut all = true;
        for (sum, &value) in sums.iter_mut().zip(values) {
            match self.round(f64::from(value), weight) {
                Some(units) => *sum += units,
                None => all = false,
            }
        }
        all
    }

    /// Return a sum as a float.
    pub fn value(&self, sum: i64) -> f64 {
        sum as f64 / self.unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::random::Random;

    #[test]
    fn exact_sums_do_not_depend_on_the_order() {
        let mut random = Random::stream(1, 0, 0);
        // Magnitudes from 1e-12 to 1: float sums of them depend on the order.
        let mut values: Vec<f32> = (0..1000)
            .map(|_| (random.normal() * 10f64.powf(-12.0 * random.uniform())) as f32)
            .collect();
        let fixed = FixedPoint::new(44, values.len());
        let sum = |values: &[f32]| {
            let mut sums = [0];
            assert!(
                values
                    .iter()
                    .all(|&value| fixed.add(&[value], 1.0, &mut sums))
            );
            sums[0]
        };
        let first = sum(&values);
        let (mut float, mut floats) = (values.iter().sum::<f32>(), 0);
        for _ in 0..20 {
            random.shuffle(&mut values);
            assert_eq!(sum(&values), first);
            floats += usize::from(values.iter().sum::<f32>() != float);
            float = values.iter().sum();
        }
        assert!(floats > 0, "float sums do depend on the order");
        let real: f64 = values.iter().map(|&value| f64::from(value)).sum();
        assert!((fixed.value(first) - real).abs() < 1000.0 * 2f64.powi(-45));
    }

    #[test]
    fn numbers_out_of_range_are_reported() {
        let fixed = FixedPoint::new(44, 4);
        let cases = [
            (0.0, true),
            (-1.5, true),
            (fixed.limit() as f32 * 0.999, true),
            (fixed.limit() as f32 * 1.001, false),
            (f32::NAN, false),
            (f32::INFINITY, false),
            (f32::NEG_INFINITY, false),
            (f32::MIN_POSITIVE, true),
        ];
        for (value, valid) in cases {
            let mut sums = [3i64 << 44];
            assert_eq!(fixed.add(&[value], 1.0, &mut sums), valid, "{value}");
            if !valid {
                assert_eq!(fixed.value(sums[0]), 3.0, "{value} is left out");
            }
        }
        // As many terms as were announced fit, all at the limit.
        let mut sums = [0];
        let largest = (fixed.limit() * 0.9999) as f32;
        for _ in 0..4 {
            assert!(fixed.add(&[largest], 1.0, &mut sums));
        }
        assert!((fixed.value(sums[0]) / (4.0 * f64::from(largest)) - 1.0).abs() < 1e-9);
    }
}
