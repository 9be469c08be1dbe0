//! The conformance cases that [`check`](super::check) runs, each in its own process.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::sha256::sha256 as checksum;
use crate::plugin::check::Verdict;
use crate::plugin::conformance_input::{Fresh, Input};
use crate::plugin::instance::{self, Instance};
use crate::plugin::library::{self, Code};
use crate::plugin::manifest::Manifest;
use crate::plugin::schema::Schema;
use crate::plugin::selection::OnError;
use crate::plugin::{HOOKS, loader};
use crate::{Error, ErrorKind, Result};

/// The library opens; its entry is pure and fast.
pub(crate) const ENTRY: &str = "entry";
/// The manifest matches the library.
pub(crate) const MANIFEST: &str = "manifest";

/// Cases of every plugin.
const PLAIN: [&str; 5] = [
    "schema",
    "config default",
    "config unknown",
    "config garbage",
    "future host",
];
/// Inputs that every hook is called with.
const INPUTS: [(&str, Input); 6] = [
    ("one", Input::plain(1)),
    ("many", Input::plain(257)),
    ("empty", Input::plain(0)),
    ("huge", Input::plain(1 << 16)),
    (
        "nan",
        Input {
            size: 64,
            special: Some(f32::NAN),
        },
    ),
    (
        "infinite",
        Input {
            size: 64,
            special: Some(f32::INFINITY),
        },
    ),
];
/// Cases that compare the answers of several calls of a hook.
const COMPARISONS: [&str; 4] = ["replay", "thread", "two instances", "cost"];

/// The result of a case, as its process prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub verdict: Verdict,
    pub detail: String,
}

/// List the cases of a plugin with these hooks.
pub(crate) fn names(hooks: &[String]) -> Vec<String> {
    let mut names: Vec<String> = PLAIN.iter().map(ToString::to_string).collect();
    for hook in hooks {
        if hook.starts_with("wgsl/1:") {
            names.push(format!("{hook} valid"));
            continue;
        }
        let inputs = INPUTS.iter().map(|(name, _)| *name);
        names.extend(
            inputs
                .chain(COMPARISONS)
                .map(|name| format!("{hook} {name}")),
        );
    }
    names
}

/// Run a case.
pub(crate) fn run(
    path: &Path,
    plugin: Option<&str>,
    name: &str,
    options: &Map<String, Value>,
) -> Result<Outcome> {
    let outcome = match name {
        ENTRY => entry(path),
        MANIFEST => manifest(path),
        _ => {
            let code = loader::choose(&library::open(path)?, plugin)?.clone();
            match name {
                "schema" => Schema::from_value(&code.described.schema).map(|_| passed("")),
                "config default" => make(&code, options).map(|_| passed("")),
                "config unknown" => Ok(unknown_option(&code)),
                "config garbage" => Ok(garbage(&code)),
                "future host" => future_host(&code, options),
                _ => {
                    let (hook, case) = name.rsplit_once(' ').ok_or_else(|| absent(name))?;
                    let (hook, case) = match hook.strip_suffix(" two") {
                        Some(hook) => (hook, "two instances"),
                        None => (hook, case),
                    };
                    if let Some(hook) = hook.strip_prefix("wgsl/1:") {
                        shader(&code, hook)
                    } else if HOOKS.contains(&hook) {
                        hook_case(&code, options, hook, case)
                    } else {
                        return Err(absent(name));
                    }
                }
            }
        }
    };
    Ok(outcome.unwrap_or_else(|error| Outcome {
        verdict: Verdict::Failed,
        detail: error.to_string(),
    }))
}

fn absent(name: &str) -> Error {
    Error::new(ErrorKind::Input, format!("unknown case {name:?}"))
}

fn passed(detail: impl Into<String>) -> Outcome {
    Outcome {
        verdict: Verdict::Passed,
        detail: detail.into(),
    }
}

fn failed(detail: impl Into<String>) -> Outcome {
    Outcome {
        verdict: Verdict::Failed,
        detail: detail.into(),
    }
}

fn entry(path: &Path) -> Result<Outcome> {
    let begun = Instant::now();
    let first = library::open(path)?;
    let took = begun.elapsed();
    let second = library::open(path)?;
    let ids = |codes: &[Code]| {
        codes
            .iter()
            .map(|code| code.described.clone())
            .collect::<Vec<_>>()
    };
    if ids(&first) != ids(&second) {
        return Ok(failed(
            "its entry returns a different answer the second time",
        ));
    }
    if took.as_millis() > 1000 {
        return Ok(failed(format!("opening took {} ms", took.as_millis())));
    }
    let detail = serde_json::to_string(&ids(&first))
        .map_err(|error| Error::new(ErrorKind::Plugin, error.to_string()))?;
    Ok(passed(detail))
}

fn manifest(path: &Path) -> Result<Outcome> {
    let Some(manifest) = Manifest::beside(path)? else {
        return Ok(Outcome {
            verdict: Verdict::Warned,
            detail: "it has no manifest, so `brillm plugin list` does not show it".into(),
        });
    };
    library::verify(path, &checksum(path)?, &manifest.sha256, "its manifest")?;
    library::compare(&manifest, &library::open(path)?)?;
    Ok(passed(""))
}

pub(crate) fn make(code: &Code, options: &Map<String, Value>) -> Result<Arc<Instance>> {
    let options = loader::configure(code, options)?;
    Instance::create(code.clone(), options, OnError::Stop).map(Arc::new)
}

/// The host rejects unknown options; the plugin should reject them as well.
fn unknown_option(code: &Code) -> Outcome {
    let mut options = loader::configure(code, &Map::new()).unwrap_or_default();
    options.insert("no-such-option".into(), Value::from(1));
    match Instance::create(code.clone(), options, OnError::Stop) {
        Err(_) => passed("it rejects an unknown option"),
        Ok(_) => Outcome {
            verdict: Verdict::Warned,
            detail: "it accepts an unknown option; the engine never passes one".into(),
        },
    }
}

/// Create an instance from invalid options: an error is expected, a crash is not.
fn garbage(code: &Code) -> Outcome {
    for text in ["", "{", "[]", "null", "{\"a\":", "\u{feff}{}", "\u{0}"] {
        let status = instance::create_from(code, text);
        if status == brillm_abi::BRL_E_PANIC {
            return failed(format!("it panics on the options {text:?}"));
        }
    }
    passed("")
}

/// Create an instance with a host table that is longer than the plugin knows.
fn future_host(code: &Code, options: &Map<String, Value>) -> Result<Outcome> {
    #[repr(C)]
    struct Longer {
        known: brillm_abi::brl_host,
        more: [u64; 16],
    }
    let now = instance::host(&code.described.id);
    let mut known = *now;
    known.struct_size = size_of::<Longer>() as u64;
    known.abi += 7;
    let longer = Box::leak(Box::new(Longer {
        known,
        more: [u64::MAX; 16],
    }));
    let filled = loader::configure(code, options)?;
    let host = (&raw const *longer).cast::<brillm_abi::brl_host>();
    let instance = Instance::create_with(code.clone(), filled, OnError::Stop, host)?;
    drop(instance);
    if longer.more != [u64::MAX; 16] {
        return Ok(failed("it wrote into the host's table"));
    }
    Ok(passed(""))
}

#[cfg(feature = "gpu")]
fn shader(code: &Code, _hook: &str) -> Result<Outcome> {
    // Installing an instance validates its shaders.
    let instance = make(code, &Map::new())?;
    crate::plugin::adapt::install(&instance, &mut crate::hook::Hooks::default())?;
    Ok(passed("valid WGSL with the bindings of its hook"))
}

#[cfg(not(feature = "gpu"))]
fn shader(_code: &Code, hook: &str) -> Result<Outcome> {
    Ok(Outcome {
        verdict: Verdict::Warned,
        detail: format!("this build has no GPU backend: the shader of {hook} was not validated"),
    })
}

fn hook_case(code: &Code, options: &Map<String, Value>, hook: &str, case: &str) -> Result<Outcome> {
    if let Some((_, input)) = INPUTS.iter().find(|(name, _)| *name == case) {
        let answer = Fresh::new(code, options)?.ask(hook, *input, 1);
        return Ok(match answer {
            Ok(answer) => passed(answer.summary()),
            Err(error) if input.special.is_some() && !error.to_string().contains("panicked") => {
                passed(format!("refused: {error}"))
            }
            Err(error) => failed(error.to_string()),
        });
    }
    let input = Input::plain(257);
    match case {
        "replay" => {
            let first = Fresh::new(code, options)?.ask(hook, input, 7)?;
            let second = Fresh::new(code, options)?.ask(hook, input, 7)?;
            Ok(if first.0 == second.0 {
                passed("")
            } else {
                failed(
                    "the answer differs for the same seed and input: use the host's random numbers only",
                )
            })
        }
        "thread" => {
            let here = Fresh::new(code, options)?.ask(hook, input, 7)?;
            let there = Fresh::new(code, options)?;
            let there =
                std::thread::scope(|scope| scope.spawn(move || there.ask(hook, input, 7)).join())
                    .map_err(|_| Error::new(ErrorKind::Plugin, "the thread ended early"))??;
            Ok(if here.0 == there.0 {
                passed("")
            } else {
                failed("the answer differs on another thread")
            })
        }
        "two instances" => {
            let (one, two) = (Fresh::new(code, options)?, Fresh::new(code, options)?);
            let alone = Fresh::new(code, options)?;
            let alone = [
                alone.ask(hook, input, 7)?.0,
                alone.ask(hook, Input::plain(31), 8)?.0,
            ];
            let first = one.ask(hook, input, 7)?.0;
            let _ = two.ask(hook, Input::plain(65), 9)?;
            let second = one.ask(hook, Input::plain(31), 8)?.0;
            Ok(if alone == [first, second] {
                passed("")
            } else {
                failed("the answers of one instance depend on another")
            })
        }
        "cost" => {
            let fresh = Fresh::new(code, options)?;
            let begun = Instant::now();
            let mut calls = 0;
            while calls < 20 && begun.elapsed().as_millis() < 500 {
                fresh.ask(hook, Input::plain(4000), calls)?;
                calls += 1;
            }
            let each = begun.elapsed().as_secs_f64() * 1e6 / calls.max(1) as f64;
            let verdict = if each > 50_000.0 {
                Verdict::Warned
            } else {
                Verdict::Passed
            };
            Ok(Outcome {
                verdict,
                detail: format!("{each:.0} µs per call with 4000 numbers"),
            })
        }
        _ => Err(absent(case)),
    }
}
