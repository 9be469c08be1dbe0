//! An axis of a learning curve: the values it spans and the round ones it names.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// Maps values to pixels, evenly or by their logarithms, and labels its ticks.
#[derive(Clone)]
pub(super) struct Axis {
    range: Range<f64>,
    logarithmic: bool,
    ticks: Vec<f64>,
    label: Label,
}

#[derive(Clone, Copy)]
enum Label {
    /// With as many decimals as tell the ticks apart.
    Decimals(usize),
    /// With a unit: 500k, 2.5M.
    Tokens,
}

impl Axis {
    /// An axis from zero to the most tokens.
    pub(super) fn tokens(values: impl Iterator<Item = f64>) -> Self {
        let end = bounds(values).end.max(1.0);
        let range = 0.0..end * 1.02;
        Self {
            ticks: ticks(&range, 8).0,
            range,
            logarithmic: false,
            label: Label::Tokens,
        }
    }

    /// An even axis with some room around the values.
    pub(super) fn linear(values: impl Iterator<Item = f64>) -> Self {
        let Range { start, end } = bounds(values);
        // Values that are all the same get room too.
        let size = start.abs().max(end.abs()).max(1e-6);
        let margin = (0.06 * (end - start)).max(1e-3 * size);
        let range = start - margin..end + margin;
        let (ticks, decimals) = ticks(&range, 7);
        Self {
            range,
            logarithmic: false,
            ticks,
            label: Label::Decimals(decimals),
        }
    }

    /// An axis on which equal factors are equally long, or an even one if a value is not above zero.
    pub(super) fn logarithmic(values: impl Iterator<Item = f64> + Clone) -> Self {
        let Range { start, end } = bounds(values.clone());
        if start <= 0.0 {
            return Self::linear(values);
        }
        let margin = (end / start).powf(0.06).max(1.001);
        let range = start / margin..end * margin;
        let (ticks, decimals) = logarithmic_ticks(&range);
        Self {
            range,
            logarithmic: true,
            ticks,
            label: Label::Decimals(decimals),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let Range { start, end } = self.range;
        let share = match self.logarithmic {
            true => (value / start).ln() / (end / start).ln(),
            false => (value - start) / (end - start),
        };
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight().allow_light_points() {
            true => Vec::new(),
            false => self.ticks.clone(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        match self.label {
            Label::Decimals(decimals) => format!("{value:.decimals$}"),
            Label::Tokens => short(*value),
        }
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> Range<f64> {
    values.fold(f64::INFINITY..f64::NEG_INFINITY, |bounds, value| {
        bounds.start.min(value)..bounds.end.max(value)
    })
}

/// Round values inside a range, about `wanted` of them, and the decimals that tell them apart.
fn ticks(range: &Range<f64>, wanted: usize) -> (Vec<f64>, usize) {
    let rough = (range.end - range.start) / wanted as f64;
    let decade = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0]
        .map(|factor| factor * decade)
        .into_iter()
        .find(|&step| step >= 0.999 * rough)
        .unwrap_or(10.0 * decade);
    let first = (range.start / step).ceil();
    let last = (range.end / step).floor();
    // A step is at least a part in `wanted`: more ticks than that are an accident of rounding.
    let count = ((last - first).max(0.0) as usize).min(wanted);
    let ticks = (0..=count)
        .map(|tick| (first + tick as f64) * step)
        .collect();
    (ticks, decimals(step))
}

/// Ticks of a logarithmic axis: the coarsest of these in each decade that name enough values, or evenly
/// spaced ones where the range is too short for all of them.
fn logarithmic_ticks(range: &Range<f64>) -> (Vec<f64>, usize) {
    let factors: [&[f64]; 3] = [
        &[1.0],
        &[1.0, 2.0, 5.0],
        &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
    ];
    let decades = range.start.log10().floor() as i32..=range.end.log10().ceil() as i32;
    // Of a range of very many decades, every second, third, … is named.
    let stride = (decades.clone().count() / 12).max(1);
    factors
        .iter()
        .map(|factors| -> Vec<f64> {
            let decade = |decade| {
                factors
                    .iter()
                    .map(move |factor| factor * 10f64.powi(decade))
            };
            let ticks = decades.clone().step_by(stride).flat_map(decade);
            ticks.filter(|tick| range.contains(tick)).collect()
        })
        .find(|ticks| ticks.len() >= 4)
        .map_or_else(
            || ticks(range, 7),
            |ticks| {
                let decimals = decimals(ticks[0]);
                (ticks, decimals)
            },
        )
}

/// Decimals that show a step of this size.
fn decimals(step: f64) -> usize {
    (-step.log10().floor()).clamp(0.0, 12.0) as usize
}

/// A number of tokens as it is said: 500k, 2.5M, 1B.
fn short(tokens: f64) -> String {
    let (scale, unit) = match tokens {
        t if t >= 1e12 => (1e12, "T"),
        t if t >= 1e9 => (1e9, "B"),
        t if t >= 1e6 => (1e6, "M"),
        t if t >= 1e3 => (1e3, "k"),
        _ => (1.0, ""),
    };
    // Ticks are round: two decimals say them exactly, without the dust of their arithmetic.
    format!("{}{unit}", (tokens / scale * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(
            ticks(&(0.0..10.0), 5),
            (vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0], 0)
        );
        let (values, decimals) = ticks(&(3.405..3.475), 7);
        let labels: Vec<String> = values.iter().map(|v| format!("{v:.decimals$}")).collect();
        assert_eq!(labels[..2], ["3.41", "3.42"]);
        assert!((6..=8).contains(&labels.len()), "{labels:?}");
        let (values, _) = logarithmic_ticks(&(30.0..900.0));
        assert_eq!(values, [50.0, 100.0, 200.0, 500.0]);
        let (values, _) = logarithmic_ticks(&(75.0..320.0));
        assert_eq!(values, [80.0, 90.0, 100.0, 200.0, 300.0]);
        let (values, _) = logarithmic_ticks(&(57.5..63.5));
        assert!(values.len() >= 4 && values.iter().all(|tick| (57.5..63.5).contains(tick)));
        assert_eq!(logarithmic_ticks(&(1.0..1e9)).0.len(), 9);
        assert!(logarithmic_ticks(&(1.0..1e300)).0.len() < 30);
    }

    #[test]
    fn tokens_are_said_shortly() {
        let said = [0.0, 960.0, 5e5, 2.5e6, 1e9].map(short);
        assert_eq!(said, ["0", "960", "500k", "2.5M", "1B"]);
    }

    #[test]
    fn one_value_and_many_are_mapped_inside() {
        for axis in [
            Axis::linear([3.0].into_iter()),
            Axis::linear([0.0, 0.0].into_iter()),
            Axis::logarithmic([60.0].into_iter()),
            Axis::logarithmic([0.0, 60.0].into_iter()),
        ] {
            let Range { start, end } = axis.range();
            assert_eq!(axis.map(&start, (300, 0)), 300);
            assert_eq!(axis.map(&end, (300, 0)), 0);
            assert!(!axis.ticks.is_empty());
        }
        let axis = Axis::logarithmic([10.0, 1000.0].into_iter());
        assert_eq!(axis.map(&100.0, (0, 200)), 100);
    }
}
