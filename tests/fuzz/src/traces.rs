//! Traces: JSON documents, and SVG pictures that carry them.

use brillm::run::trace::{Theme, Trace, TraceFormat};

/// Read text as a trace, write it in every format, and read back those that carry it.
fn reopen(text: &str) {
    let Ok(trace) = Trace::read(text) else { return };
    let _ = trace.sampling.sampling(trace.seed).check();
    for format in TraceFormat::ALL {
        let Ok(text) = trace.export(format, Theme::Dark) else {
            continue;
        };
        if matches!(format, TraceFormat::Json | TraceFormat::Svg) {
            let again = Trace::read(&text).expect("an exported trace is read back");
            assert_eq!(again, trace, "{format:?} changes the trace");
        }
    }
    assert_eq!(trace.ids().len(), trace.tokens.len());
}

/// Read the bytes as a trace.
pub fn trace(data: &[u8]) {
    reopen(&String::from_utf8_lossy(data));
}

/// Read the bytes as what an SVG carries, or as an SVG.
pub fn svg(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if text.starts_with('<') {
        return reopen(&text);
    }
    reopen(&format!(
        "<svg><metadata><brillm:trace xmlns:brillm=\"https://github.com/brillm/brillm/trace\">{text}</brillm:trace></metadata></svg>"
    ));
}
