//! Learning curves of one or several runs as one SVG picture.
//!
//! Training loss and validation perplexity, each over the training tokens seen, one colour a run. The
//! perplexity's axis is logarithmic: a run comes down from thousands and ends in differences of a few.

use super::axis::Axis;
use super::log::{Record, RunLog};
use crate::error::{Error, ErrorKind, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

/// Width of the picture and height of each of its panels, in pixels.
const PANEL: (u32, u32) = (960, 400);
/// Height of the title above the panels, in pixels.
const TITLE: u32 = 48;
/// No curve has more points; a longer one shows the means of as many equal parts.
const MAXIMUM_POINTS: usize = 400;
/// Okabe and Ito's colours, told apart by colour-blind readers too; then the same with dashed lines.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// A curve: its name, and its points as (training tokens, value) in runs without a gap.
struct Curve {
    name: String,
    pieces: Vec<Vec<(f64, f64)>>,
    /// How many records a point stands for.
    records: usize,
}

/// One of the picture's parts.
struct Panel {
    axis: &'static str,
    logarithmic: bool,
    curves: Vec<Curve>,
}

/// Draws the learning curves of the runs in `folders` and returns the picture as SVG.
///
/// A run is named by its folder, or its whole path where two folders have one name. Values that are not
/// finite leave gaps. A panel without a single value is left out.
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
            axis: "training loss (nats a token)",
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
                .advice("give the folder of a run that has logged a step"),
        );
    }

    let mut svg = String::new();
    let height = TITLE + PANEL.1 * panels.len() as u32;
    let root = SVGBackend::with_string(&mut svg, (PANEL.0, height)).into_drawing_area();
    paint(&root, &panels)
        .and_then(|()| root.present().map_err(|error| error.to_string()))
        .map_err(|error| Error::new(ErrorKind::Numeric, error).at("plot"))?;
    drop(root);
    Ok(svg)
}

/// Draws the learning curves of the runs in `folders` into the SVG file `path`, whole or not at all.
///
/// # Errors
/// As [`draw`], and an input-output error if the file cannot be written.
pub fn write(folders: &[PathBuf], path: &Path) -> Result<()> {
    let svg = draw(folders)?;
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    fs::write(&partial, svg)
        .and_then(|()| fs::rename(&partial, path))
        .map_err(|error| Error::io(error, path.display()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Painted = std::result::Result<(), String>;

fn paint(root: &Area, panels: &[Panel]) -> Painted {
    root.fill(&WHITE).map_err(|error| error.to_string())?;
    let root = root
        .margin(10, 0, 0, 0)
        .titled("Learning curves", ("sans-serif", 24))
        .map_err(|error| error.to_string())?;
    for (area, panel) in root.split_evenly((panels.len(), 1)).iter().zip(panels) {
        panel.paint(area)?;
    }
    Ok(())
}

impl Panel {
    fn points(&self) -> impl Iterator<Item = (f64, f64)> + Clone {
        self.curves
            .iter()
            .flat_map(|curve| curve.pieces.iter().flatten().copied())
    }

    fn paint(&self, area: &Area) -> Painted {
        let tokens = Axis::tokens(self.points().map(|(tokens, _)| tokens));
        let values = self.points().map(|(_, value)| value);
        let values = match self.logarithmic {
            true => Axis::logarithmic(values),
            false => Axis::linear(values),
        };
        let failed = |error: DrawingAreaErrorKind<_>| -> String { error.to_string() };
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(tokens, values)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .bold_line_style(BLACK.mix(0.12))
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 14))
            .axis_desc_style(("sans-serif", 16))
            .x_desc("training tokens seen")
            .y_desc(self.axis)
            .draw()
            .map_err(failed)?;
        for (index, curve) in self.curves.iter().enumerate() {
            let width = if curve.records > 1 { 1 } else { 2 };
            let style = COLOURS[index % COLOURS.len()].stroke_width(width);
            let dashed = index / COLOURS.len() % 2 == 1;
            for piece in &curve.pieces {
                let points = piece.iter().copied();
                if dashed {
                    chart.draw_series(DashedLineSeries::new(points, 6, 4, style))
                } else {
                    chart.draw_series(LineSeries::new(points, style))
                }
                .map_err(failed)?;
                // Few points are marked: a line of one would not be seen at all.
                if piece.len() <= 40 {
                    let dots = piece
                        .iter()
                        .map(|&point| Circle::new(point, 3, style.filled()));
                    chart.draw_series(dots).map_err(failed)?;
                }
            }
            if !curve.pieces.is_empty() {
                let dash = if dashed { 8 } else { 10 };
                let thick = style.stroke_width(2);
                let part = move |from, to| PathElement::new([(from, 0), (to, 0)], thick);
                let key = move |at| EmptyElement::at(at) + part(0, dash) + part(20 - dash, 20);
                chart
                    .draw_series(std::iter::empty::<Circle<(f64, f64), i32>>())
                    .map_err(failed)?
                    .label(curve.label())
                    .legend(key);
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 14))
            .draw()
            .map_err(failed)
    }
}

impl Curve {
    fn new(name: &str, points: &[(f64, f64)]) -> Self {
        let records = points.len().div_ceil(MAXIMUM_POINTS).max(1);
        let means = points.chunks(records).map(|part| {
            let size = part.len() as f64;
            let (tokens, values) = part
                .iter()
                .fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
            (tokens / size, values / size)
        });
        let means: Vec<_> = means.collect();
        Self {
            name: name.to_owned(),
            pieces: means
                .split(|point| !point.1.is_finite())
                .filter(|piece| !piece.is_empty())
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

/// The name of each run: its folder's, or the whole path where that is not unique.
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
    fn runs_of_one_name_are_told_apart() {
        let folders = ["a/x", "b/x", "c/y"].map(PathBuf::from);
        let expected = [
            folders[0].display().to_string(),
            folders[1].display().to_string(),
            "y".into(),
        ];
        assert_eq!(names(&folders), expected);
    }

    #[test]
    fn long_curves_are_thinned_and_gaps_stay_gaps() {
        let points: Vec<(f64, f64)> = (0..800).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let curve = Curve::new("run", &points);
        assert_eq!(curve.pieces.len(), 1);
        assert_eq!(curve.pieces[0].len(), 400);
        assert_eq!(curve.pieces[0][1], (2.5, 0.5));
        assert_eq!(curve.label(), "run (means of 2 records)");
        let gap = Curve::new("run", &[(1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0)]);
        assert_eq!(gap.pieces, [vec![(1.0, 2.0)], vec![(3.0, 1.0)]]);
    }
}
