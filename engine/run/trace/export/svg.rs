//! The path as a picture: steps from left to right, candidates by rank from top to bottom.
//!
//! Chosen candidates have a coloured band, bars show probabilities, and the dashes of a line the kind of its edge, so that
//! nothing depends on colour alone. A code of an image or of a sound has its patch or its spectrum before its number.
//! `<metadata>` contains the document.

use std::fmt::Write;

use super::super::open::{BEFORE, BEHIND};
use super::super::{ShownCode, Step, Trace};
use super::Theme;
use crate::Result;
use crate::graph::export::{Xml, XmlJson};
use crate::run::EngineKind;

/// Measures, in pixels.
const COLUMN: usize = 132;
const ROW: usize = 24;
const LEFT: usize = 16;
const TOP: usize = 72;
/// Height of the picture of a code.
const TILE: usize = 16;
/// Columns of a label: half a full-width character each.
const LABEL: usize = 10;
/// Candidates drawn of each step; all of them are in the document.
const DRAWN: usize = 24;

struct Colours {
    ground: &'static str,
    ink: &'static str,
    faint: &'static str,
    bar: &'static str,
    band: &'static str,
}

/// Blue and yellow of the cividis palette, distinguishable with every kind of colour vision.
fn colours(theme: Theme) -> Colours {
    match theme {
        Theme::Light => Colours {
            ground: "#ffffff",
            ink: "#1a1a1a",
            faint: "#6b6b6b",
            bar: "#9fb4d8",
            band: "#ffe9a0",
        },
        Theme::Dark => Colours {
            ground: "#14161a",
            ink: "#f0f0f0",
            faint: "#a0a4ab",
            bar: "#36537f",
            band: "#6a5a1c",
        },
    }
}

pub(super) fn write(trace: &Trace, theme: Theme) -> Result<String> {
    let rows = trace
        .steps
        .iter()
        .map(|step| step.candidates.len().min(DRAWN));
    let rows = rows.max().unwrap_or(1).max(1);
    let width = 2 * LEFT + COLUMN * (trace.steps.len() + 1);
    let height = TOP + ROW * rows + 24;
    let colours = colours(theme);
    let mut out = String::new();
    let _ = writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="system-ui, 'Noto Sans CJK SC', 'PingFang SC', 'Microsoft YaHei', sans-serif" font-size="13" role="img">"#
    );
    let words: Vec<&str> = trace
        .tokens
        .iter()
        .map(|one| one.display.as_str())
        .collect();
    let _ = writeln!(out, "<title>{}</title>", Xml(&words.concat()));
    let json = serde_json::to_string(trace).map_err(|error| {
        crate::Error::new(crate::ErrorKind::Numeric, "the trace has no JSON form").because(error)
    })?;
    let _ = writeln!(
        out,
        "<metadata>{BEFORE}{}{BEHIND}</metadata>",
        XmlJson(&json)
    );
    let _ = writeln!(
        out,
        r#"<rect width="100%" height="100%" fill="{}"/>"#,
        colours.ground
    );
    let kind = match trace.model.kind {
        EngineKind::Graph => "energy",
        EngineKind::Transformer => "score",
    };
    let _ = writeln!(
        out,
        r#"<text x="{LEFT}" y="22" fill="{}" font-weight="bold">{}</text><text x="{LEFT}" y="42" fill="{}">{} · seed {} · temperature {}</text>"#,
        colours.ink,
        Xml(if trace.annotations.title.is_empty() {
            &trace.model.name
        } else {
            &trace.annotations.title
        }),
        colours.faint,
        Xml(&trace.model.profile),
        trace.seed,
        trace.sampling.temperature
    );
    // Position of the chosen token of the previous column.
    let mut from = Some((LEFT + COLUMN - 24, TOP + ROW / 2));
    if let Some(token) = trace.prompt_tokens.checked_sub(1) {
        let token = &trace.tokens[token];
        let shown = (token.display.as_str(), token.code.as_ref());
        label(&mut out, (LEFT, TOP), shown, true, &colours);
    }
    for step in &trace.steps {
        from = column(&mut out, step, from, kind, &colours);
    }
    out.push_str("</svg>\n");
    Ok(out)
}

/// Draw the candidates of a step, connected to `from`, and return where the chosen one ends.
fn column(
    out: &mut String,
    step: &Step,
    from: Option<(usize, usize)>,
    kind: &str,
    colours: &Colours,
) -> Option<(usize, usize)> {
    let x = LEFT + COLUMN * (step.index + 1);
    let _ = writeln!(
        out,
        r#"<text x="{x}" y="{}" fill="{}" font-size="11">{}</text>"#,
        TOP - 10,
        colours.faint,
        step.index
    );
    let mut next = None;
    let mut shown: Vec<_> = step.candidates.iter().take(DRAWN).collect();
    if let Some(chosen) = step.candidates.iter().find(|one| one.id == step.chosen)
        && !shown.iter().any(|one| one.id == chosen.id)
    {
        shown.pop();
        shown.push(chosen);
    }
    for (row, one) in shown.into_iter().enumerate() {
        let (y, chosen) = (TOP + ROW * row, one.id == step.chosen);
        if let Some((x0, y0)) = from {
            line(out, (x0, y0), (x, y + ROW / 2), one, chosen, colours);
        }
        if chosen {
            next = Some((x + COLUMN - 24, y + ROW / 2));
        }
        candidate(out, step, one, (x, y), kind, colours);
    }
    next
}

/// Draw one candidate of a step.
fn candidate(
    out: &mut String,
    step: &Step,
    one: &super::super::Candidate,
    (x, y): (usize, usize),
    kind: &str,
    colours: &Colours,
) {
    let chosen = one.id == step.chosen;
    let _ = write!(
        out,
        r#"<g data-step="{}" data-id="{}"><title>{} · {:.2} % · {kind} {:.4} · {}</title>"#,
        step.index,
        one.id,
        Xml(&one.display),
        100.0 * one.probability,
        one.energy,
        super::kind(one)
    );
    if chosen {
        let _ = write!(
            out,
            r#"<rect x="{x}" y="{}" width="{}" height="{}" rx="4" fill="{}" stroke="{}"/>"#,
            y + 1,
            COLUMN - 24,
            ROW - 2,
            colours.band,
            colours.ink
        );
    }
    let bar = (one.probability * (COLUMN - 32) as f32).max(0.5);
    let _ = write!(
        out,
        r#"<rect x="{}" y="{}" width="{bar:.1}" height="3" fill="{}"/>"#,
        x + 4,
        y + ROW - 6,
        colours.bar
    );
    let shown = (one.display.as_str(), one.code.as_ref());
    label(out, (x + 4, y), shown, chosen, colours);
    let _ = writeln!(
        out,
        r#"<text x="{}" y="{}" fill="{}" font-size="11" text-anchor="end">{:.1} %</text></g>"#,
        x + COLUMN - 28,
        y + 16,
        if chosen { colours.ink } else { colours.faint },
        100.0 * one.probability
    );
}

/// Write the name of a token, cut to its column; a code is its picture and its number.
fn label(
    out: &mut String,
    (mut x, y): (usize, usize),
    (name, code): (&str, Option<&ShownCode>),
    strong: bool,
    colours: &Colours,
) {
    let number;
    let mut text = name;
    // Full-width characters take two columns.
    let mut columns = LABEL as isize;
    if let Some(code) = code
        && let Some(width) = tile(out, (x, y + 2), code, colours)
    {
        (number, x) = (code.index.to_string(), x + width + 4);
        (text, columns) = (&number, (LABEL - (width + 4).div_ceil(8)) as isize);
    }
    let short: String = text
        .chars()
        .take_while(|&character| {
            columns -= if character as u32 > 0x2E7F { 2 } else { 1 };
            columns >= 0
        })
        .collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    let _ = write!(
        out,
        r#"<text x="{x}" y="{}" fill="{}"{}>{}{more}</text>"#,
        y + 16,
        colours.ink,
        if strong { r#" font-weight="bold""# } else { "" },
        Xml(&short)
    );
}

/// Draw the picture of a code as the visualiser does, the pixels of its patch or a bar for each band of its spectrum, and
/// return its width; `None` for a code without values.
fn tile(
    out: &mut String,
    (x, y): (usize, usize),
    code: &ShownCode,
    colours: &Colours,
) -> Option<usize> {
    // A trace that was opened may claim any number of columns.
    let columns = code.columns.min(code.values.len());
    let rows = code.values.len().checked_div(columns)?;
    let width = if code.modality == "image" {
        TILE * columns.min(2 * rows) / rows
    } else {
        2 * TILE
    };
    let _ = write!(
        out,
        r#"<g class="code" transform="translate({x} {y})" shape-rendering="crispEdges">"#
    );
    let mut rect = |x: f32, y: f32, width: f32, height: f32, fill: &str| {
        let _ = write!(
            out,
            r#"<rect x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}" fill="{fill}"/>"#
        );
    };
    let across = width as f32 / columns as f32;
    if code.modality == "image" {
        let side = TILE as f32 / rows as f32;
        for (row, values) in code.values.chunks_exact(columns).enumerate() {
            let mut start = 0;
            // Equal pixels beside each other are one rectangle.
            for run in values.chunk_by(|a, b| a == b) {
                let (left, value) = (start as f32 * across, run[0]);
                let fill = format!("rgb({value},{value},{value})");
                rect(
                    left,
                    row as f32 * side,
                    run.len() as f32 * across,
                    side,
                    &fill,
                );
                start += run.len();
            }
        }
    } else {
        for (band, &value) in code.values.iter().enumerate() {
            let height = TILE as f32 * f32::from(value) / 255.0;
            let left = band as f32 * across;
            rect(left, TILE as f32 - height, across, height, colours.ink);
        }
    }
    // A white patch would not be seen on white.
    let _ = write!(
        out,
        r#"<rect width="{width}" height="{TILE}" fill="none" stroke="{}" stroke-width="0.5"/></g>"#,
        colours.faint
    );
    Some(width)
}

fn line(
    out: &mut String,
    (x0, y0): (usize, usize),
    (x1, y1): (usize, usize),
    one: &super::super::Candidate,
    chosen: bool,
    colours: &Colours,
) {
    let dashes = match super::kind(one) {
        "seen" => r#" stroke-dasharray="6 3""#,
        "shared" => r#" stroke-dasharray="1.5 3""#,
        _ => "",
    };
    let _ = writeln!(
        out,
        r#"<path d="M{x0} {y0}C{} {y0} {} {y1} {x1} {y1}" fill="none" stroke="{}" stroke-width="{:.2}" opacity="{}"{dashes}/>"#,
        x0 + 12,
        x1 - 12,
        if chosen { colours.ink } else { colours.bar },
        0.6 + 5.0 * one.probability,
        if chosen { 1.0 } else { 0.7 }
    );
}
