//! Answers of plugins: a plugin in this program answers every call of the host with the bytes of the input.
//!
//! The host must refuse what is invalid. The plugin keeps the rules that the host cannot check (it writes into its buffers
//! alone, and its pointers are valid); all numbers, counts, statuses, needs and texts are arbitrary.

mod answers;
mod table;

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use brillm::Engine;
use brillm::hook::{Call, MaskMoment, MaskTokens};
use brillm::path::{BeamOptions, Sampling};
use brillm::plugin::Plugins;
use brillm::run::{HookedEngine, ProbedModel, SequenceOptions, Speaker, grow, write_records};
use brillm::signal::Start;
use brillm::transformer::{CalibrationText, Transformer};

use crate::{files, graphs, networks};
use table::entry;

/// The two kinds of models that the hooks run on.
fn engines() -> &'static [Engine; 2] {
    static ENGINES: OnceLock<[Engine; 2]> = OnceLock::new();
    ENGINES.get_or_init(|| {
        let seed = include_bytes!("../../seeds/folder/llama");
        let folder = files::folder().join("llama");
        networks::write_folder(&folder, seed);
        let network = Transformer::open(&folder).expect("the seed is a model");
        [Engine::from(graphs::sifu()), Engine::from(&network)]
    })
}

fn run(kind: u8) -> brillm::Result<()> {
    let engines = engines();
    // SAFETY: the entry and what it names live as long as the program.
    let plugins = unsafe { Plugins::of_entry(entry) }?;
    let hooks = plugins.hooks();
    let (call, never) = (Call::new(7, 0, 0), AtomicBool::new(false));
    let sampling = Sampling::default()
        .temperature(f32::from(kind >> 6))
        .top_p(0.9);
    let engine = &engines[usize::from(kind & 1)];
    let prompt = [0, 1, 2, 3, 1, 0];
    match kind >> 1 & 7 {
        0..=2 => {
            let text = CalibrationText::cut(&prompt, 1, 3)?;
            let hooked = HookedEngine::calibrated(engine, hooks, 7, Some(&text))?;
            let mut session = hooked.session(
                &prompt,
                &SequenceOptions {
                    sampling,
                    ..SequenceOptions::default()
                },
            )?;
            for _ in 0..6 {
                session.step()?;
            }
        }
        3 => {
            let hooked = HookedEngine::new(engine, hooks, 7)?;
            hooked.stream(&prompt, 1, &Default::default())?;
            let options = BeamOptions::default();
            hooked.beam(&prompt, &Start::Profile, &options)?;
        }
        4 => {
            let mechanism = graphs::sifu().mechanism();
            grow(
                mechanism,
                &prompt,
                &Start::Profile,
                &sampling,
                4,
                None,
                hooks,
            )?;
        }
        5 => {
            let mut speaker = Speaker::new(engine.clone(), sampling, hooks.clone());
            let documents = [Ok("a b c".to_string()), Ok("f".to_string())];
            let written = HashSet::from(["a".to_string()]);
            write_records(
                documents,
                hooks,
                7,
                Some(&mut speaker),
                &written,
                &never,
                &mut |_| Ok(()),
                &mut |_| {},
            )?;
        }
        6 => {
            if let Some(mask) = &hooks.mask {
                mask.ratio(
                    &call,
                    &MaskMoment {
                        step: 1,
                        steps: 4,
                        epoch: 0.5,
                    },
                )?;
                let mut weights = [1.0; 6];
                mask.weigh(
                    &call,
                    &MaskTokens {
                        tokens: &prompt,
                        tags: &[],
                        words: &[],
                        allowed: &[true; 6],
                        ratio: 0.5,
                    },
                    &mut weights,
                )?;
                assert!(
                    weights
                        .iter()
                        .all(|weight| weight.is_finite() && *weight >= 0.0)
                );
                let state = mask.save()?;
                mask.restore(&state)?;
            }
        }
        _ => {
            let mut subject = ProbedModel::new(engine.clone(), None, || {})?;
            for probe in &hooks.probe {
                probe.ask(&call, &mut subject)?;
            }
        }
    }
    plugins.reports(&call)?;
    Ok(())
}

/// Run the models with a plugin whose answers are the bytes.
pub fn plugin(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else {
        return;
    };
    // The models must not count for the first input.
    engines();
    answers::answer_with(rest);
    table::prepare();
    let _ = run(kind);
}
