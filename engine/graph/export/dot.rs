//! The DOT language of graphviz.

use std::io::{Result, Write};

/// Write the head of a digraph, with further `settings` of the whole graph.
pub(crate) fn begin(out: &mut impl Write, name: &str, settings: &[&str]) -> Result<()> {
    writeln!(out, "digraph {name} {{\n  charset=\"UTF-8\";")?;
    for setting in settings {
        writeln!(out, "  {setting};")?;
    }
    writeln!(out, "  node [shape=box, style=rounded];")
}

/// Write a node or an edge (`subject`) with its attributes, whose values are DOT already.
pub(crate) fn statement(
    out: &mut impl Write,
    subject: &str,
    attributes: &[(&str, String)],
) -> Result<()> {
    write!(out, "  {subject} [")?;
    for (index, (name, value)) in attributes.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(out, "{comma}{name}={value}")?;
    }
    writeln!(out, "];")
}

pub(crate) fn end(out: &mut impl Write) -> Result<()> {
    writeln!(out, "}}")
}

/// A number or a name between double quotes.
pub(crate) fn quoted(value: impl std::fmt::Display) -> String {
    format!("\"{value}\"")
}
