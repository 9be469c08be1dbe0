//! Bars as SVG.

use brillm_plugin::{PluginError, Result};
use plotters::prelude::*;

/// Okabe and Ito's colours, told apart by colour-blind readers too.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(150, 150, 150),
    RGBColor(0, 158, 115),
];

/// Room for the series' names, in groups.
const LEGEND: f64 = 1.5;

/// Groups of bars, one colour a series, with a line at `level`. `values[series][group]`
pub(crate) fn bars(
    title: &str,
    axis: &str,
    groups: &[String],
    series: &[(&str, Vec<f64>)],
    level: f64,
) -> Result<String> {
    let mut svg = String::new();
    paint(&mut svg, title, axis, groups, series, level)
        .map_err(|error| PluginError::new(format!("the picture {title:?}: {error}")))?;
    Ok(svg)
}

fn paint(
    svg: &mut String,
    title: &str,
    axis: &str,
    groups: &[String],
    series: &[(&str, Vec<f64>)],
    level: f64,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let width = (100.0 * (groups.len() as f64 + LEGEND)) as u32 + 90;
    let root = SVGBackend::with_string(svg, (width, 400)).into_drawing_area();
    root.fill(&WHITE)?;
    let finite = || {
        series
            .iter()
            .flat_map(|(_, values)| values)
            .filter(|value| value.is_finite())
    };
    let most = finite().copied().fold(level.max(0.01), f64::max) * 1.15;
    let least = finite().copied().fold(0.0, f64::min) * 1.15;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..groups.len() as f64 + LEGEND, least..most)?;
    let name = |at: &f64| {
        let whole = (at - 0.5).round();
        if (at - 0.5 - whole).abs() < 1e-6 {
            groups.get(whole as usize).cloned().unwrap_or_default()
        } else {
            String::new()
        }
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(2 * groups.len() + 4)
        .x_label_formatter(&name)
        .y_desc(axis)
        .draw()?;
    let wide = 0.8 / series.len().max(1) as f64;
    for (place, (name, values)) in series.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        chart
            .draw_series(
                values
                    .iter()
                    .enumerate()
                    .filter(|(_, value)| value.is_finite())
                    .map(|(group, &value)| {
                        let left = group as f64 + 0.1 + place as f64 * wide;
                        Rectangle::new([(left, 0.0), (left + wide * 0.95, value)], colour.filled())
                    }),
            )?
            .label(*name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.filled()));
    }
    chart.draw_series(LineSeries::new(
        [(0.0, level), (groups.len() as f64, level)],
        BLACK.stroke_width(1),
    ))?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .border_style(BLACK.mix(0.3))
        .background_style(WHITE.mix(0.8))
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_bars_and_names() {
        let groups = ["node", "signal"].map(String::from);
        let svg = bars(
            "Size",
            "Spearman",
            &groups,
            &[("trained", vec![0.4, f64::NAN])],
            0.0,
        )
        .unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for text in ["node", "signal", "trained", "Spearman", "#0072B2"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
