//! The GPU backend compared with the CPU, on every software adapter of this machine or on one that is named.
//!
//! Each test runs on lavapipe (Vulkan), SwiftShader (Vulkan, inside Chromium) and llvmpipe (GL), which differ in
//! subgroups, limits and alignments. Tests of a missing adapter are listed as ignored; with `BRILLM_REQUIRE=all` a
//! missing adapter is a failure. `BRILLM_GPU_ADAPTER="vulkan nvidia"` runs the suite on the adapter whose backend, name
//! and driver contain these words instead, without the assertions that hold for software adapters alone.

mod adapters;
mod commands;
mod decoding;
mod kernels;
mod models;
mod runs;
mod shaders;
mod training;

use std::sync::{Arc, OnceLock};

use brillm::kernel::gpu::{Adapter, AdapterChoice, Device, DeviceOptions};
use libtest_mimic::{Arguments, Conclusion, Trial};

/// The software adapters: a label, and words of backend, name and driver.
const ADAPTERS: [(&str, &str); 3] = [
    ("lavapipe", "vulkan llvmpipe"),
    ("swiftshader", "vulkan swiftshader"),
    ("gl-llvmpipe", "gl llvmpipe"),
];
/// SwiftShader's driver in Debian's Chromium.
const SWIFTSHADER: &str = "/usr/lib/chromium/vk_swiftshader_icd.json";
/// Vulkan's variable for more drivers.
const DRIVERS: &str = "VK_ADD_DRIVER_FILES";

/// One adapter under test.
pub struct Bed {
    label: String,
    adapter: Adapter,
    /// Opened without anything forced; shared by the tests.
    pub device: Device,
}

impl Bed {
    fn open(label: &str, words: &str) -> Result<Self, String> {
        let adapter = Adapter::choose(&AdapterChoice::Named(words.into()))
            .map_err(|error| error.to_string())?;
        let device =
            Device::open(&adapter, DeviceOptions::default()).map_err(|error| error.to_string())?;
        Ok(Self {
            label: label.to_string(),
            adapter,
            device,
        })
    }

    /// Open the same adapter with something forced.
    pub fn with(&self, options: DeviceOptions) -> Device {
        Device::open(&self.adapter, options).expect("the adapter opens")
    }

    /// Whether the adapter runs on the CPU.
    pub fn is_software(&self) -> bool {
        !self.device.report().kind.is_real()
    }

    /// Whether this adapter runs the longer lists: all but the slower ones of the software adapters.
    pub fn is_thorough(&self) -> bool {
        ADAPTERS[1..].iter().all(|(label, _)| *label != self.label)
    }
}

type Test = (&'static str, fn(&Bed));
/// Tests that not every adapter runs.
const ONLY: &[(&str, &[&str])] = &[
    // Mesa's GL can hide an extension.
    (
        "an_unusable_adapter_is_listed_with_the_reason",
        &["gl-llvmpipe"],
    ),
    // Thorough adapters run them all in every_form_and_blend_trains_as_on_the_cpu.
    (
        "losses_of_100_steps_match_the_cpu",
        &["swiftshader", "gl-llvmpipe"],
    ),
];
/// Tests that thorough adapters alone run.
const THOROUGH: &[&str] = &["the_bench_reports_the_adapter"];
/// Tests without an adapter.
const ALONE: &[(&str, fn())] = &[
    (
        "every_shader_parses_and_validates",
        kernels::every_shader_parses_and_validates,
    ),
    (
        "parameters_and_bindings_match_the_shaders",
        kernels::parameters_and_bindings_match_the_shaders,
    ),
    ("no_driver_is_reported", adapters::no_driver_is_reported),
    (
        "a_missing_adapter_is_reported",
        kernels::a_missing_adapter_is_reported,
    ),
];

/// Start this program again with SwiftShader among Vulkan's drivers, which are read once.
#[cfg(unix)]
fn with_swiftshader() {
    use std::os::unix::process::CommandExt;
    if std::env::var_os(DRIVERS).is_none() && std::path::Path::new(SWIFTSHADER).exists() {
        let program = std::env::current_exe().expect("this program has a path");
        let error = std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .env(DRIVERS, SWIFTSHADER)
            .exec();
        panic!("cannot start again: {error}");
    }
}

/// The tests of one adapter, which is opened by the first of them.
fn trials(label: &str, words: &str, required: bool) -> Vec<Trial> {
    let missing = Adapter::choose(&AdapterChoice::Named(words.into())).err();
    if let Some(error) = missing.as_ref().filter(|_| required) {
        let text = format!("{error}; ./tests/run --install installs the software adapters");
        let name = format!("{label}::the_adapter_is_there");
        return vec![Trial::test(name, || Err(text.into()))];
    }
    let tests: Vec<Test> = [
        kernels::TESTS,
        decoding::TESTS,
        models::TESTS,
        commands::TESTS,
        adapters::TESTS,
        runs::TESTS,
        shaders::TESTS,
        training::TESTS,
    ]
    .concat();
    let thorough = ADAPTERS[1..].iter().all(|(other, _)| *other != label);
    let runs = |name: &str| {
        let only = ONLY.iter().find(|(only, _)| *only == name);
        only.is_none_or(|(_, labels)| labels.contains(&label))
            && (thorough || !THOROUGH.contains(&name))
    };
    let bed = Arc::new(OnceLock::new());
    let named = (label.to_string(), words.to_string());
    tests
        .into_iter()
        .filter(|(name, _)| runs(name))
        .map(|(name, test)| {
            let (bed, (label, words)) = (bed.clone(), named.clone());
            let trial = Trial::test(format!("{label}::{name}"), move || {
                let bed = bed.get_or_init(|| Bed::open(&label, &words));
                test(bed.as_ref()?);
                Ok(())
            });
            match &missing {
                Some(_) => trial
                    .with_kind("no adapter: ./tests/run --install")
                    .with_ignored_flag(true),
                None => trial,
            }
        })
        .collect()
}

fn main() -> std::process::ExitCode {
    #[cfg(unix)]
    with_swiftshader();
    let mut arguments = Arguments::from_args();
    // Software adapters use all cores.
    arguments.test_threads.get_or_insert(1);
    let mut all: Vec<Trial> = ALONE
        .iter()
        .map(|&(name, test)| {
            Trial::test(name, move || {
                test();
                Ok(())
            })
        })
        .collect();
    match std::env::var("BRILLM_GPU_ADAPTER") {
        Ok(words) => all.extend(trials(&words.replace(' ', "-"), &words, true)),
        Err(_) => {
            let required = std::env::var("BRILLM_REQUIRE").is_ok_and(|value| value == "all");
            for (label, words) in ADAPTERS {
                all.extend(trials(label, words, required));
            }
        }
    }
    let conclusion: Conclusion = libtest_mimic::run(&arguments, all);
    conclusion.exit_code()
}
