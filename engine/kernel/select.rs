//! Selection of the largest of many numbers.

/// Return the indices of the `count` largest values that `allowed` admits, largest first; ties go to the lower
/// index, and NaN counts as the largest, as in [`f32::total_cmp`].
///
/// O(V + count · log count): the rest is partitioned off, not sorted.
///
/// ```
/// use brillm::kernel::select::top_k;
/// assert_eq!(top_k(&[0.5, 2.0, 1.0, 2.0], 3, |_| true), [1, 3, 2]);
/// assert_eq!(top_k(&[0.5, 2.0, 1.0, 2.0], 9, |index| index != 1), [3, 2, 0]);
/// ```
pub fn top_k(values: &[f32], count: usize, allowed: impl Fn(u32) -> bool) -> Vec<u32> {
    let mut order: Vec<u32> = (0..values.len() as u32)
        .filter(|&index| allowed(index))
        .collect();
    let higher = |&a: &u32, &b: &u32| {
        values[b as usize]
            .total_cmp(&values[a as usize])
            .then(a.cmp(&b))
    };
    if count < order.len() {
        if count > 0 {
            order.select_nth_unstable_by(count - 1, higher);
        }
        order.truncate(count);
    }
    order.sort_unstable_by(higher);
    order
}
