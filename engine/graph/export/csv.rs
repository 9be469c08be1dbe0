//! Comma-separated values (RFC 4180).

use std::fmt::Display;
use std::io::{Result, Write};

/// Write a record, whose fields are escaped already.
pub(crate) fn record(out: &mut impl Write, fields: &[&dyn Display]) -> Result<()> {
    for (index, field) in fields.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(out, "{comma}{field}")?;
    }
    write!(out, "\r\n")
}
