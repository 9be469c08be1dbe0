//! The findings as tables, CSV and pictures.

use std::fmt::Write;

use brillm_plugin::Result;
use serde_json::{Map, Value, json};

use crate::Findings;
use crate::choices;
use crate::pictures::bars;
use crate::shifting::{STEPS, Shifted};
use crate::words::STYLES;

/// Compute the fraction of each style of title.
pub(crate) fn styles(found: &Findings) -> Value {
    let attribution = choices::styles(&found.shopped);
    Value::Object(
        STYLES
            .iter()
            .zip(attribution)
            .map(|(style, share)| (style.to_string(), json!(share)))
            .collect(),
    )
}

/// Format all findings as tables. Writing to a string cannot fail.
pub(crate) fn text(found: &Findings) -> String {
    let mut out = String::new();
    write_metaphors(&mut out, found);
    write_headlines(&mut out, found);
    write_probes(&mut out, found);
    write_shifts(&mut out, found);
    out
}

/// Write the choices of metaphors.
fn write_metaphors(out: &mut String, found: &Findings) {
    let _ = writeln!(
        out,
        "Metaphors, {} questions, chosen by likelihood a token over the prior's (chance .333)\n\
         {:<30}{:>9}{:>9}{:>9}{:>11}{:>10}{:>8}",
        found.asked.len(),
        "",
        "first",
        "second",
        "third",
        "certainty",
        "contrast",
        "p"
    );
    for one in &found.choices {
        let words = match one.set {
            "varied" => "large, middle, little",
            _ => "control, one size",
        };
        for (about, attribution, certainty) in [
            ("big", one.big, one.certainty_big),
            ("small", one.small, one.certainty_small),
        ] {
            let _ = write!(
                out,
                "{:<30}{:>9.3}{:>9.3}{:>9.3}{certainty:>11.3}",
                format!("{about}: {words}"),
                attribution[0],
                attribution[1],
                attribution[2]
            );
            let _ = match about {
                "big" => writeln!(out, "{:>10.4}{:>8.3}", one.contrast, one.contrast_p),
                _ => writeln!(out),
            };
        }
    }
}

/// Write the choices of headlines.
fn write_headlines(out: &mut String, found: &Findings) {
    let attribution = choices::styles(&found.shopped);
    let _ = writeln!(
        out,
        "\nHeadlines, {} products, text only (chance .25)",
        found.shopped.len()
    );
    for (style, share) in STYLES.iter().zip(attribution) {
        let _ = writeln!(out, "{style:<30}{share:>9.3}");
    }
}

/// Write the figures of probes, with untrained controls.
fn write_probes(out: &mut String, found: &Findings) {
    let _ = writeln!(
        out,
        "\nProbes of {} words, {:.1} tokens each, on words unseen by the fit\n\
         {:<12}{:>6}{:>10}{:>9}{:>10}{:>9}{:>8}{:>10}{:>8}{:>11}{:>11}{:>9}{:>11}",
        found.words,
        found.pieces,
        "features",
        "width",
        "Spearman",
        "- form",
        "- meaning",
        "R2",
        "AUC",
        "permuted",
        "p",
        "perm. AUC",
        "untrained",
        "- form",
        "untr. AUC"
    );
    for (own, control) in &found.probes {
        let _ = write!(
            out,
            "{:<12}{:>6}{:>10.3}{:>9.3}{:>10.3}{:>9.3}{:>8.3}{:>10.3}{:>8.3}{:>11.3}",
            own.features,
            own.width,
            own.spearman,
            own.partial_form,
            own.partial_all,
            own.r2,
            own.area,
            own.permuted_spearman,
            own.permuted_p,
            own.permuted_area
        );
        let _ = match control {
            Some(control) => writeln!(
                out,
                "{:>11.3}{:>9.3}{:>11.3}",
                control.spearman, control.partial_form, control.area
            ),
            None => writeln!(out, "{:>11}{:>9}{:>11}", "-", "-", "-"),
        };
    }
}

/// Write the energies of shifted nodes, if any were shifted.
fn write_shifts(out: &mut String, found: &Findings) {
    if !found.shifted.is_empty() {
        let _ = writeln!(
            out,
            "\nOne node shifted along the direction of size (deviations), its energy read again\n\
             {:<40}{:>10}{:>10}{:>10}{:>10}{:>10}{:>8}{:>8}",
            "", "-2", "-1", "0", "+1", "+2", "others", "curve"
        );
        for one in &found.shifted {
            let _ = write!(out, "{:<40}", format!("{} {}", one.prompt, one.word));
            for energy in one.energies {
                let _ = write!(out, "{energy:>10.4}");
            }
            let _ = writeln!(out, "{:>8}{:>8.4}", one.others_moved, one.curvature);
        }
    }
}

/// Quote a cell of CSV where needed.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}

/// Create the files of all findings: name to text.
pub(crate) fn files(found: &Findings) -> Result<Map<String, Value>> {
    let mut files = Map::new();
    add_metaphors(&mut files, found)?;
    add_headlines(&mut files, found)?;
    add_probes(&mut files, found);
    add_probe_picture(&mut files, found)?;
    if !found.shifted.is_empty() {
        add_shifts(&mut files, found)?;
    }
    Ok(files)
}

/// Add the choices of metaphors: scores and a picture.
fn add_metaphors(files: &mut Map<String, Value>, found: &Findings) -> Result<()> {
    let mut csv = String::from("about,big,set,word1,word2,word3,score1,score2,score3,chosen\n");
    for one in &found.asked {
        let [a, b, c] = &one.words;
        let [x, y, z] = one.scores;
        let _ = writeln!(
            csv,
            "{},{},{},{a},{b},{c},{x:.6},{y:.6},{z:.6},{}",
            cell(&one.about),
            one.big,
            one.set,
            one.chosen + 1
        );
    }
    files.insert("metaphors.csv".into(), csv.into());

    let groups = [
        "big, sizes",
        "small, sizes",
        "big, control",
        "small, control",
    ]
    .map(String::from);
    let fractions = |at: usize| -> Vec<f64> {
        found
            .choices
            .iter()
            .flat_map(|one| [one.big[at], one.small[at]])
            .collect()
    };
    let series = [
        ("first (large)", fractions(0)),
        ("second", fractions(1)),
        ("third (little)", fractions(2)),
    ];
    let svg = bars(
        "Metaphors chosen by likelihood",
        "share",
        &groups,
        &series,
        1.0 / 3.0,
    )?;
    files.insert("metaphors.svg".into(), svg.into());
    Ok(())
}

/// Add the choices of headlines: scores and a picture.
fn add_headlines(files: &mut Map<String, Value>, found: &Findings) -> Result<()> {
    let mut csv = format!("product,{},chosen\n", STYLES.join(","));
    for one in &found.shopped {
        let scores: Vec<String> = one
            .scores
            .iter()
            .map(|score| format!("{score:.6}"))
            .collect();
        let _ = writeln!(
            csv,
            "{},{},{}",
            cell(&one.product),
            scores.join(","),
            STYLES[one.chosen]
        );
    }
    files.insert("headlines.csv".into(), csv.into());

    let attribution = choices::styles(&found.shopped);
    let groups = STYLES.map(String::from);
    let svg = bars(
        "Titles chosen by likelihood",
        "share",
        &groups,
        &[("chosen", attribution.to_vec())],
        0.25,
    )?;
    files.insert("headlines.svg".into(), svg.into());
    Ok(())
}

/// Add the figures of probes.
fn add_probes(files: &mut Map<String, Value>, found: &Findings) {
    let mut csv = String::from(
        "features,weights,width,spearman,partial_form,partial_all,r2,auc,permuted_spearman,permuted_p,permuted_auc\n",
    );
    for (own, control) in &found.probes {
        for (weights, one) in [("trained", Some(own)), ("untrained", control.as_ref())] {
            if let Some(one) = one {
                let _ = writeln!(
                    csv,
                    "{},{weights},{},{:.6},{:.6},{:.6},{:.6},{:.6},{:.6},{:.6},{:.6}",
                    one.features,
                    one.width,
                    one.spearman,
                    one.partial_form,
                    one.partial_all,
                    one.r2,
                    one.area,
                    one.permuted_spearman,
                    one.permuted_p,
                    one.permuted_area
                );
            }
        }
    }
    files.insert("probes.csv".into(), csv.into());
}

/// Add the picture of the probes' rank correlations.
fn add_probe_picture(files: &mut Map<String, Value>, found: &Findings) -> Result<()> {
    let groups: Vec<String> = found
        .probes
        .iter()
        .map(|(own, _)| own.features.clone())
        .collect();
    let of = |figure: fn(&crate::Figures) -> f64| -> Vec<f64> {
        found.probes.iter().map(|(own, _)| figure(own)).collect()
    };
    let control = |figure: fn(&crate::Figures) -> f64| -> Vec<f64> {
        let figures = found.probes.iter();
        figures
            .map(|(_, one)| one.as_ref().map_or(f64::NAN, figure))
            .collect()
    };
    let series = [
        ("trained", of(|one| one.spearman)),
        ("untrained", control(|one| one.spearman)),
        ("permuted", of(|one| one.permuted_spearman)),
        ("form taken out", of(|one| one.partial_form)),
    ];
    let svg = bars(
        "Semantic size, predicted for unseen words",
        "Spearman",
        &groups,
        &series,
        0.0,
    )?;
    files.insert("probes.svg".into(), svg.into());
    Ok(())
}

/// Add the energies of shifted nodes: figures and a picture.
fn add_shifts(files: &mut Map<String, Value>, found: &Findings) -> Result<()> {
    let mut csv = String::from("prompt,word,node,shift,energy,resistance,others_moved\n");
    for one in &found.shifted {
        for (step, (energy, resistance)) in
            STEPS.iter().zip(one.energies.iter().zip(one.resistances))
        {
            let _ = writeln!(
                csv,
                "{},{},{},{step},{energy:.7},{resistance:.7},{}",
                cell(&one.prompt),
                cell(&one.word),
                one.node,
                one.others_moved
            );
        }
    }
    files.insert("shifts.csv".into(), csv.into());

    let groups: Vec<String> = found.shifted.iter().map(|one| one.word.clone()).collect();
    let names = ["-2", "-1", "+1", "+2"];
    let series: Vec<(&str, Vec<f64>)> = [0, 1, 3, 4]
        .into_iter()
        .zip(names)
        .map(|(step, name)| {
            let moved = |one: &Shifted| one.energies[step] - one.energies[2];
            (name, found.shifted.iter().map(moved).collect())
        })
        .collect();
    let svg = bars(
        "Energy of a node shifted by deviations along the direction of size",
        "difference",
        &groups,
        &series,
        0.0,
    )?;
    files.insert("shifts.svg".into(), svg.into());
    Ok(())
}
