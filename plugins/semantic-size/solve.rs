//! Linear probes: ridge and logistic regression, and what controls leave of a variable.

/// Rows of features, one after the other. `[N, P]`
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub values: Vec<f64>,
    pub width: usize,
}

impl Rows {
    pub fn row(&self, at: usize) -> &[f64] {
        &self.values[at * self.width..][..self.width]
    }
}

/// The sum of products, in eight sums side by side.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for ((sum, x), y) in sums.iter_mut().zip(a).zip(b) {
            *sum += x * y;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

/// Solves `A x = b` for a symmetric positive definite `A` [n, n] and several b, in place. Answers whether it was one.
fn cholesky_solve(a: &mut [f64], n: usize, sides: &mut [Vec<f64>]) -> bool {
    for j in 0..n {
        for i in j..n {
            let (head, tail) = a.split_at(i * n);
            let (row_j, row_i) = if i == j {
                (&tail[..j], &tail[..j])
            } else {
                (&head[j * n..j * n + j], &tail[..j])
            };
            let sum = dot(row_i, row_j);
            let value = a[i * n + j] - sum;
            if i == j {
                if value.is_nan() || value <= 0.0 {
                    return false;
                }
                a[j * n + j] = value.sqrt();
            } else {
                a[i * n + j] = value / a[j * n + j];
            }
        }
    }
    for side in sides {
        for i in 0..n {
            let sum: f64 = a[i * n..i * n + i]
                .iter()
                .zip(side.iter())
                .map(|(x, y)| x * y)
                .sum();
            side[i] = (side[i] - sum) / a[i * n + i];
        }
        for i in (0..n).rev() {
            let sum: f64 = (i + 1..n).map(|k| a[k * n + i] * side[k]).sum();
            side[i] = (side[i] - sum) / a[i * n + i];
        }
    }
    true
}

/// What a least-squares fit on controls (and a constant) leaves of a variable.
pub(crate) fn residual(values: &[f64], controls: &[Vec<f64>]) -> Vec<f64> {
    let n = controls.len() + 1;
    let column = |at: usize, row: usize| if at == 0 { 1.0 } else { controls[at - 1][row] };
    let mut a = vec![0.0; n * n];
    let mut side = vec![0.0; n];
    for (row, value) in values.iter().enumerate() {
        for i in 0..n {
            side[i] += column(i, row) * value;
            for j in 0..n {
                a[i * n + j] += column(i, row) * column(j, row);
            }
        }
    }
    // A control that does not vary, or repeats another, adds nothing.
    let scale = (0..n).map(|i| a[i * n + i]).fold(0.0, f64::max);
    for i in 0..n {
        a[i * n + i] += 1e-10 * scale + 1e-300;
    }
    let mut sides = [side];
    if !cholesky_solve(&mut a, n, &mut sides) {
        return values.to_vec();
    }
    let [fit] = sides;
    values
        .iter()
        .enumerate()
        .map(|(row, value)| value - (0..n).map(|i| fit[i] * column(i, row)).sum::<f64>())
        .collect()
}

/// Means and deviations of some rows: what is fitted sees columns of mean 0 and deviation 1.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    mean: Vec<f64>,
    inverse: Vec<f64>,
}

impl Scale {
    pub fn of(rows: &Rows, from: &[usize]) -> Self {
        let count = from.len().max(1) as f64;
        let mut mean = vec![0.0; rows.width];
        for &at in from {
            mean.iter_mut()
                .zip(rows.row(at))
                .for_each(|(m, x)| *m += x / count);
        }
        let mut square = vec![0.0; rows.width];
        for &at in from {
            for ((s, x), m) in square.iter_mut().zip(rows.row(at)).zip(&mean) {
                *s += (x - m) * (x - m) / count;
            }
        }
        let inverse = square
            .iter()
            .map(|s| if *s > 1e-18 { 1.0 / s.sqrt() } else { 0.0 })
            .collect();
        Self { mean, inverse }
    }

    pub fn apply(&self, rows: &Rows, from: &[usize]) -> Vec<f64> {
        from.iter()
            .flat_map(|&at| {
                rows.row(at)
                    .iter()
                    .zip(&self.mean)
                    .zip(&self.inverse)
                    .map(|((x, m), i)| (x - m) * i)
            })
            .collect()
    }
}

/// A fitted linear function of features.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    scale: Scale,
    weights: Vec<f64>,
    constant: f64,
}

impl Linear {
    pub fn of(&self, row: &[f64]) -> f64 {
        let sum: f64 = row
            .iter()
            .zip(&self.scale.mean)
            .zip(self.scale.inverse.iter().zip(&self.weights))
            .map(|((x, m), (i, w))| (x - m) * i * w)
            .sum();
        self.constant + sum
    }

    /// The direction in the features' own units along which it grows fastest, of length 1.
    pub fn direction(&self) -> Vec<f64> {
        let raw: Vec<f64> = self
            .weights
            .iter()
            .zip(&self.scale.inverse)
            .map(|(w, i)| w * i)
            .collect();
        let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
        raw.iter().map(|x| x / length.max(1e-300)).collect()
    }
}

/// Ridge regressions of several targets on some rows, for each of several strengths: `[strength][target]`.
///
/// The strength is relative to the number of rows, so that it means the same for any number of them.
pub(crate) fn ridge(
    rows: &Rows,
    targets: &[Vec<f64>],
    from: &[usize],
    strengths: &[f64],
) -> Vec<Vec<Linear>> {
    let (scale, n) = (Scale::of(rows, from), rows.width);
    let x = scale.apply(rows, from);
    let means: Vec<f64> = targets
        .iter()
        .map(|target| from.iter().map(|&at| target[at]).sum::<f64>() / from.len().max(1) as f64)
        .collect();
    let mut gram = vec![0.0; n * n];
    let mut sides = vec![vec![0.0; n]; targets.len()];
    for (row, &at) in x.chunks_exact(n.max(1)).zip(from) {
        for i in 0..n {
            let xi = row[i];
            for (g, xj) in gram[i * n..i * n + i + 1].iter_mut().zip(row) {
                *g += xi * xj;
            }
        }
        for ((side, target), mean) in sides.iter_mut().zip(targets).zip(&means) {
            let y = target[at] - mean;
            side.iter_mut().zip(row).for_each(|(s, x)| *s += x * y);
        }
    }
    strengths
        .iter()
        .map(|strength| {
            let mut a = gram.clone();
            for i in 0..n {
                a[i * n + i] += strength * from.len() as f64 + 1e-9;
            }
            let mut fitted = sides.clone();
            if !cholesky_solve(&mut a, n, &mut fitted) {
                fitted.iter_mut().for_each(|weights| weights.fill(0.0));
            }
            fitted
                .into_iter()
                .zip(&means)
                .map(|(weights, &constant)| Linear {
                    scale: scale.clone(),
                    weights,
                    constant,
                })
                .collect()
        })
        .collect()
}

/// Logistic regression with a ridge, by Nesterov's accelerated gradient; the output is the log of the odds.
pub(crate) fn logistic(rows: &Rows, labels: &[bool], from: &[usize], strength: f64) -> Linear {
    const STEPS: usize = 150;
    let (scale, n) = (Scale::of(rows, from), rows.width);
    let x = scale.apply(rows, from);
    let count = from.len().max(1) as f64;
    // The largest eigenvalue of the mean of x xᵀ, by its powers, bounds how the slope may bend.
    let mut top = vec![1.0; n];
    let mut bend = 0.0;
    for _ in 0..12 {
        let mut next = vec![0.0; n];
        for row in x.chunks_exact(n.max(1)) {
            let along = dot(row, &top) / count;
            next.iter_mut().zip(row).for_each(|(v, a)| *v += along * a);
        }
        bend = next.iter().map(|v| v * v).sum::<f64>().sqrt();
        top = next.iter().map(|v| v / bend.max(1e-12)).collect();
    }
    let rate = 1.0 / (0.25 * (1.1 * bend + 1.0) + strength);
    let (mut weights, mut constant) = (vec![0.0; n], 0.0);
    let (mut ahead, mut ahead_constant) = (weights.clone(), 0.0);
    for step in 0..STEPS {
        let mut slope: Vec<f64> = ahead.iter().map(|w| strength * w).collect();
        let mut slope_constant = 0.0;
        for (row, &at) in x.chunks_exact(n.max(1)).zip(from) {
            let score = ahead_constant + dot(row, &ahead);
            let error = (1.0 / (1.0 + (-score).exp()) - f64::from(u8::from(labels[at]))) / count;
            slope.iter_mut().zip(row).for_each(|(s, a)| *s += error * a);
            slope_constant += error;
        }
        let momentum = step as f64 / (step as f64 + 3.0);
        for ((w, a), s) in weights.iter_mut().zip(&mut ahead).zip(&slope) {
            let next = *a - rate * s;
            *a = next + momentum * (next - *w);
            *w = next;
        }
        let next = ahead_constant - rate * slope_constant;
        ahead_constant = next + momentum * (next - constant);
        constant = next;
    }
    Linear {
        scale,
        weights,
        constant,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use brillm_plugin::RandomStream;

    #[test]
    fn a_ridge_without_strength_is_least_squares() {
        // y = 2 a - 3 b + 1
        let mut random = RandomStream::new(2);
        let values: Vec<f64> = (0..80).map(|_| random.uniform()).collect();
        let rows = Rows { values, width: 2 };
        let target: Vec<f64> = (0..40)
            .map(|at| 2.0 * rows.row(at)[0] - 3.0 * rows.row(at)[1] + 1.0)
            .collect();
        let from: Vec<usize> = (0..40).collect();
        let fits = ridge(&rows, std::slice::from_ref(&target), &from, &[0.0, 1e6]);
        let (exact, strong) = (&fits[0][0], &fits[1][0]);
        for at in 0..40 {
            assert!((exact.of(rows.row(at)) - target[at]).abs() < 1e-6);
        }
        let mean = target.iter().sum::<f64>() / 40.0;
        assert!((strong.of(rows.row(0)) - mean).abs() < 1e-3);
        let direction = exact.direction();
        assert!((direction[0] / direction[1] + 2.0 / 3.0).abs() < 1e-6);
        assert!(
            residual(&target, &[vec![1.0; 40]])
                .iter()
                .sum::<f64>()
                .abs()
                < 1e-6
        );
    }

    #[test]
    fn a_logistic_fit_has_no_slope_left() {
        let mut random = RandomStream::new(9);
        let values: Vec<f64> = (0..600).map(|_| random.uniform() - 0.5).collect();
        let rows = Rows { values, width: 3 };
        let labels: Vec<bool> = (0..200)
            .map(|at| rows.row(at)[1] + 0.3 * (random.uniform() - 0.5) > 0.0)
            .collect();
        let from: Vec<usize> = (0..200).collect();
        let fit = logistic(&rows, &labels, &from, 0.1);
        // At the optimum the mean error is 0 (the constant is not held back).
        let error: f64 = from
            .iter()
            .map(|&at| {
                1.0 / (1.0 + (-fit.of(rows.row(at))).exp()) - f64::from(u8::from(labels[at]))
            })
            .sum();
        assert!(error.abs() < 0.5, "{error}");
        let direction = fit.direction();
        assert!(direction[1] > 0.9, "{direction:?}");
    }

    /// Three features and a target that a formula gives, and what scikit-learn 1.9 makes of them.
    pub(crate) fn formula() -> (Rows, Vec<f64>) {
        let row = |i: usize| {
            [
                ((i * 7) % 11) as f64 / 11.0,
                ((i * 5 + 3) % 13) as f64 / 13.0,
                ((i * i) % 17) as f64 / 17.0,
            ]
        };
        let target = (0..24)
            .map(|i| ((i * i * 3 + 5 * i) % 19) as f64 / 19.0 + 2.0 * row(i)[0] - row(i)[2])
            .collect();
        let values = (0..24).flat_map(row).collect();
        (Rows { values, width: 3 }, target)
    }

    #[test]
    fn ridge_and_logistic_are_scikit_learns() {
        let (rows, target) = formula();
        let from: Vec<usize> = (0..24).collect();
        // Ridge(alpha = strength · N) on StandardScaler's columns.
        let fits = ridge(&rows, std::slice::from_ref(&target), &from, &[0.03, 3.0]);
        for (fit, golden) in fits.iter().zip([
            [0.21615045881, 1.60694948892, 0.59805133824, 1.75997810843],
            [0.63213743962, 1.02367369690, 0.70374534944, 1.03796895858],
        ]) {
            for (at, golden) in golden.into_iter().enumerate() {
                let own = fit[0].of(rows.row(at));
                assert!((own - golden).abs() < 1e-8, "{own} and {golden}");
            }
        }
        // LogisticRegression(C = 1 / (strength · N)) of the target against its median.
        let mut sorted = target.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = (sorted[11] + sorted[12]) / 2.0;
        let labels: Vec<bool> = target.iter().map(|y| *y > middle).collect();
        for (strength, golden, tolerance) in [
            (
                0.1,
                [-0.95682782834, 1.86023280143, -0.45810141159, 1.79479467705],
                1e-4,
            ),
            (
                0.01,
                [-1.70677138336, 4.84633246355, -0.84192348073, 4.19064118913],
                1e-2,
            ),
        ] {
            let fit = logistic(&rows, &labels, &from, strength);
            for (at, golden) in golden.into_iter().enumerate() {
                let own = fit.of(rows.row(at));
                assert!((own - golden).abs() < tolerance, "{own} and {golden}");
            }
        }
    }
}
