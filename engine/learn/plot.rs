//! Learning curves of one or several runs as one SVG picture.
//!
//! Training loss and validation perplexity, each over the training tokens seen, one colour per run. The perplexity
//! axis is logarithmic, because a run begins in the thousands and ends with differences of a few.

use super::log::{Record, RunLog};
use crate::error::{Error, ErrorKind, Result};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::path::{Path, PathBuf};

/// Width of the picture and height of each of its panels, in pixels.
const PANEL: (u32, u32) = (960, 400);
/// Height of the title above the panels, in pixels.
const TITLE: u32 = 48;
/// Points per curve at most; a longer curve shows the means of as many equal intervals.
const MAXIMUM_POINTS: usize = 400;
/// Okabe and Ito's colours, which colour-blind readers can distinguish too; further runs repeat them dashed.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// The learning curve of one run.
struct Curve {
    name: String,
    /// (training tokens, value), split where values are missing.
    segments: Vec<Vec<(f64, f64)>>,
    /// Records averaged into a point.
    records: usize,
}

/// A chart with one curve per run.
struct Panel {
    axis: &'static str,
    logarithmic: bool,
    curves: Vec<Curve>,
}

/// Draw the learning curves of the runs in `folders` and return the picture as SVG.
///
/// A run is named after its folder, or its whole path where two folders have one name. Values that are not
/// finite leave gaps. A panel without values is left out.
///
/// # Errors
/// As [`RunLog::read`], and [`ErrorKind::Input`] if no run has a value to draw.
pub fn draw(folders: &[PathBuf]) -> Result<String> {
    let mut loss = Vec::new();
    let mut perplexity = Vec::new();
    for (folder, name) in folders.iter().zip(names(folders)) {
        let mut training = Vec::new();
        let mut validation = Vec::new();
        for record in RunLog::read(folder)? {
            match record {
                Record::Training(record) => training.push((record.tokens as f64, record.loss)),
                Record::Validation(record) => {
                    validation.push((record.tokens as f64, record.perplexity));
                }
            }
        }
        loss.push(Curve::new(&name, &training));
        perplexity.push(Curve::new(&name, &validation));
    }
    let mut panels = vec![
        Panel {
            axis: "training loss (nats per token)",
            logarithmic: false,
            curves: loss,
        },
        Panel {
            axis: "validation perplexity",
            logarithmic: true,
            curves: perplexity,
        },
    ];
    panels.retain(|panel| panel.points().next().is_some());
    if panels.is_empty() {
        return Err(
            Error::new(ErrorKind::Input, "the runs have no values to draw")
                .at("plot")
                .advice("pass the folder of a run that has logged at least one step"),
        );
    }

    let mut svg = String::new();
    let height = TITLE + PANEL.1 * panels.len() as u32;
    let root = SVGBackend::with_string(&mut svg, (PANEL.0, height)).into_drawing_area();
    paint(&root, &panels)
        .and_then(|()| root.present())
        .map_err(|error| Error::new(ErrorKind::Numeric, error.to_string()).at("plot"))?;
    drop(root);
    Ok(svg)
}

/// Draw the learning curves of the runs in `folders` into the SVG file `path`, written atomically.
///
/// # Errors
/// As [`draw`], and an input-output error if the file cannot be written.
pub fn write(folders: &[PathBuf], path: &Path) -> Result<()> {
    brillm_file::write(path, draw(folders)?).map_err(Error::io_at(path))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Painted = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn paint(root: &Area, panels: &[Panel]) -> Painted {
    root.fill(&WHITE)?;
    let root = root
        .margin(10, 0, 0, 0)
        .titled("Learning curves", ("sans-serif", 24))?;
    for (area, panel) in root.split_evenly((panels.len(), 1)).iter().zip(panels) {
        panel.paint(area)?;
    }
    Ok(())
}

impl Panel {
    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        let segments = self.curves.iter().flat_map(|curve| &curve.segments);
        segments.flatten().map(|&point| self.scaled(point))
    }

    /// Apply the scale of the value axis: log₂ of perplexities, so that ticks are doublings or even parts of one.
    fn scaled(&self, (tokens, value): (f64, f64)) -> (f64, f64) {
        // Beyond these limits the axis could not be divided.
        let value = value.clamp(-1e30, 1e30);
        let value = if self.logarithmic {
            value.max(1e-30).log2()
        } else {
            value
        };
        (tokens, value)
    }

    fn paint(&self, area: &Area) -> Painted {
        let (mut end, mut low, mut high) = (1f64, f64::INFINITY, f64::NEG_INFINITY);
        for (tokens, value) in self.points() {
            (end, low, high) = (end.max(tokens), low.min(value), high.max(value));
        }
        // Equal values need a margin too.
        let margin = (0.06 * (high - low)).max(1e-3 * low.abs().max(high.abs()).max(1e-6));
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(0.0..end * 1.02, low - margin..high + margin)?;
        let value_label = |value: &f64| {
            let value = if self.logarithmic {
                value.exp2()
            } else {
                *value
            };
            let digits = value.abs().max(1.0).log10() as usize;
            let text = format!("{value:.*}", 4usize.saturating_sub(digits));
            // Without decimals there are no zeros to remove.
            if digits >= 4 {
                return text;
            }
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        };
        chart
            .configure_mesh()
            .bold_line_style(BLACK.mix(0.12))
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 14))
            .axis_desc_style(("sans-serif", 16))
            .x_desc("training tokens seen")
            .y_desc(self.axis)
            .x_label_formatter(&|tokens| short(*tokens))
            .y_label_formatter(&value_label)
            .draw()?;
        for (index, curve) in self.curves.iter().enumerate() {
            self.paint_curve(&mut chart, index, curve)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 14))
            .draw()
    }

    fn paint_curve<'a, 'b: 'a>(
        &self,
        chart: &mut Chart<'a, 'b>,
        index: usize,
        curve: &Curve,
    ) -> Painted {
        let width = if curve.records > 1 { 1 } else { 2 };
        let style = COLOURS[index % COLOURS.len()].stroke_width(width);
        let dashed = index / COLOURS.len() % 2 == 1;
        for segment in &curve.segments {
            let points = segment.iter().map(|&point| self.scaled(point));
            if dashed {
                chart.draw_series(DashedLineSeries::new(points.clone(), 6, 4, style))?;
            } else {
                chart.draw_series(LineSeries::new(points.clone(), style))?;
            }
            // A line of a single point would be invisible without a mark.
            if segment.len() <= 40 {
                chart.draw_series(points.map(|point| Circle::new(point, 3, style.filled())))?;
            }
        }
        if !curve.segments.is_empty() {
            let dash = if dashed { 8 } else { 10 };
            let thick = style.stroke_width(2);
            let line = move |from, to| PathElement::new([(from, 0), (to, 0)], thick);
            let key = move |at| EmptyElement::at(at) + line(0, dash) + line(20 - dash, 20);
            chart
                .draw_series(std::iter::empty::<Circle<(f64, f64), i32>>())?
                .label(curve.label())
                .legend(key);
        }
        Ok(())
    }
}

/// Abbreviate a number of tokens: 500k, 2.5M, 1B.
fn short(tokens: f64) -> String {
    let (scale, unit) = match tokens {
        t if t >= 1e12 => (1e12, "T"),
        t if t >= 1e9 => (1e9, "B"),
        t if t >= 1e6 => (1e6, "M"),
        t if t >= 1e3 => (1e3, "k"),
        _ => (1.0, ""),
    };
    // Ticks are round numbers: two decimals show them without the errors of their arithmetic.
    format!("{}{unit}", (tokens / scale * 100.0).round() / 100.0)
}

impl Curve {
    fn new(name: &str, points: &[(f64, f64)]) -> Self {
        let records = points.len().div_ceil(MAXIMUM_POINTS).max(1);
        let means = points.chunks(records).map(|chunk| {
            let size = chunk.len() as f64;
            let (tokens, values) = chunk
                .iter()
                .fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
            (tokens / size, values / size)
        });
        let means: Vec<_> = means.collect();
        Self {
            name: name.to_owned(),
            segments: means
                .split(|point| !point.1.is_finite())
                .filter(|segment| !segment.is_empty())
                .map(<[_]>::to_vec)
                .collect(),
            records,
        }
    }

    fn label(&self) -> String {
        match self.records {
            1 => self.name.clone(),
            records => format!("{} (means of {records} records)", self.name),
        }
    }
}

/// The name of each run: that of its folder, or the whole path where that is not unique.
fn names(folders: &[PathBuf]) -> Vec<String> {
    let name = |folder: &PathBuf| {
        folder
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    folders
        .iter()
        .map(|folder| match name(folder) {
            Some(own)
                if folders
                    .iter()
                    .filter_map(name)
                    .filter(|other| *other == own)
                    .count()
                    == 1 =>
            {
                own
            }
            _ => folder.display().to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_the_same_folder_name_are_named_by_path() {
        let folders = ["a/x", "b/x", "c/y"].map(PathBuf::from);
        let expected = [
            folders[0].display().to_string(),
            folders[1].display().to_string(),
            "y".into(),
        ];
        assert_eq!(names(&folders), expected);
    }

    #[test]
    fn long_curves_are_averaged_and_gaps_stay_gaps() {
        let points: Vec<(f64, f64)> = (0..800).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let curve = Curve::new("run", &points);
        assert_eq!(curve.segments.len(), 1);
        assert_eq!(curve.segments[0].len(), 400);
        assert_eq!(curve.segments[0][1], (2.5, 0.5));
        assert_eq!(curve.label(), "run (means of 2 records)");
        let gap = Curve::new("run", &[(1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0)]);
        assert_eq!(gap.segments, [vec![(1.0, 2.0)], vec![(3.0, 1.0)]]);
    }

    #[test]
    fn token_counts_are_abbreviated() {
        let labels = [0.0, 960.0, 5e5, 2.5e6, 1e9].map(short);
        assert_eq!(labels, ["0", "960", "500k", "2.5M", "1B"]);
    }
}
