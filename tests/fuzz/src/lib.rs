//! What the fuzz targets run: each function reads arbitrary bytes as one kind of input of brillm and uses the result.
//!
//! An error is a right answer. A panic, a hang of more than a second, or memory beyond [`memory::limit`] is a crash.
//! Everything stays in memory: files that must have a path are in a memory file system, models have a few nodes.

mod corpora;
mod files;
mod graphs;
mod http;
mod memory;
mod networks;
mod plugin;
mod settings;
mod tokenizers;
mod traces;

pub use corpora::{corpus, labelled};
pub use graphs::{bril, bril_repaired, repaired, session, small_model};
pub use http::http;
pub use memory::limit;
pub use networks::{FILES, checkpoint, folder, pickle, zip};
pub use plugin::plugin;
pub use settings::{manifest, recipe};
pub use tokenizers::tokenizer;
pub use traces::{svg, trace};

/// Define the entry of libFuzzer for a function of this crate.
#[macro_export]
macro_rules! target {
    ($run:ident) => {
        libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            $crate::limit(data.len());
            $crate::$run(data);
        });
    };
}

/// Separates the parts of an input that stands for several files.
pub const SEPARATOR: &[u8] = b"\n==\n";

/// Split an input into `N` parts; those that are missing are empty.
fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut rest = Some(data);
    std::array::from_fn(|index| {
        let Some(all) = rest else { return &[][..] };
        let end = all
            .windows(SEPARATOR.len())
            .position(|window| window == SEPARATOR);
        match end.filter(|_| index + 1 < N) {
            Some(end) => {
                rest = Some(&all[end + SEPARATOR.len()..]);
                &all[..end]
            }
            None => rest.take().unwrap_or_default(),
        }
    })
}

/// Let the engine catch panics of the `tokenizers` crate, which it turns into errors; libFuzzer aborts before that.
/// Panics that reach libFuzzer are still crashes.
fn let_panics_be_caught() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            if !panic
                .location()
                .is_some_and(|location| location.file().contains("/registry/"))
            {
                eprintln!("{panic}");
            }
        }));
    });
}
