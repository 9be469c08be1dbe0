//! One line a candidate.

use std::fmt::Write;

use super::super::Trace;
use crate::graph::export::CsvField;

pub(super) fn write(trace: &Trace) -> String {
    let mut out = String::from(
        "step,position,source,id,display,bytes,energy,probability,rank,edge,count,chosen\r\n",
    );
    for step in &trace.steps {
        for one in &step.candidates {
            let count = one
                .count
                .map_or_else(String::new, |count| count.to_string());
            let _ = write!(
                out,
                "{},{},{},{},{},{},{},{:e},{},{},{count},{}\r\n",
                step.index,
                step.position,
                step.source,
                one.id,
                CsvField(&one.display),
                one.bytes_hex,
                one.energy,
                one.probability,
                one.rank,
                super::kind(one),
                one.id == step.chosen
            );
        }
    }
    out
}
