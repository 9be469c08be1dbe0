//! The backend for graphics processors against the CPU, on every software adapter of this machine.
//!
//! The tests run once for each of lavapipe (Vulkan), SwiftShader (Vulkan, inside Chromium) and llvmpipe (GL),
//! which differ in subgroups, limits and alignments. One that is missing prints `skipped: no adapter`;
//! with `BRILLM_REQUIRE_GPU=1` that is a failure. The binary starts itself once more, with SwiftShader's
//! driver added to the Vulkan loader's list. Arguments that are no options filter by name.

mod adapters;
mod commands;
mod decoding;
mod kernels;
mod models;
mod runs;
mod shaders;
mod training;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use brillm::kernel::gpu::{Adapter, AdapterChoice, Device, DeviceOptions};

/// What finds each adapter: a label, and words of its backend, name and driver.
const ADAPTERS: [(&str, &str); 3] = [
    ("lavapipe", "vulkan llvmpipe"),
    ("swiftshader", "vulkan swiftshader"),
    ("gl-llvmpipe", "gl llvmpipe"),
];
/// Where Debian's Chromium keeps SwiftShader.
const SWIFTSHADER: &str = "/usr/lib/chromium/vk_swiftshader_icd.json";

/// One adapter under test.
pub struct Bed {
    label: &'static str,
    adapter: Adapter,
    /// Opened without anything forced; shared by the tests.
    pub device: Device,
}

impl Bed {
    fn open(label: &'static str, words: &str) -> Option<Self> {
        let adapter = Adapter::choose(&AdapterChoice::Named(words.into())).ok()?;
        let device = Device::open(&adapter, DeviceOptions::default()).expect("the adapter opens");
        Some(Self {
            label,
            adapter,
            device,
        })
    }

    /// The same adapter with something forced.
    pub fn with(&self, options: DeviceOptions) -> Device {
        Device::open(&self.adapter, options).expect("the adapter opens")
    }

    /// Whether this is the fastest adapter, which walks the longer lists.
    pub fn is_first(&self) -> bool {
        self.label == ADAPTERS[0].0
    }
}

type Test = (&'static str, fn(&Bed));
/// Tests that not every adapter runs.
const ONLY: &[(&str, &[&str])] = &[
    ("the_bench_reports_the_adapter", &["lavapipe"]),
    // Mesa's GL can be told to hide an extension.
    ("a_refused_adapter_says_why", &["gl-llvmpipe"]),
    // Lavapipe walks them all in every_form_and_blend_learns_as_on_the_processor.
    (
        "losses_of_100_steps_follow_the_processor",
        &["swiftshader", "gl-llvmpipe"],
    ),
];
/// Tests without an adapter.
const ALONE: &[(&str, fn())] = &[
    (
        "every_shader_parses_and_validates",
        kernels::every_shader_parses_and_validates,
    ),
    ("no_driver_is_a_message", adapters::no_driver_is_a_message),
    (
        "choosing_says_what_is_missing",
        kernels::choosing_says_what_is_missing,
    ),
];

fn main() -> ExitCode {
    if std::env::var_os("BRILLM_GPU_TESTS").is_none() {
        let mut again =
            std::process::Command::new(std::env::current_exe().expect("this program has a path"));
        again
            .args(std::env::args_os().skip(1))
            .env("BRILLM_GPU_TESTS", "1");
        if std::path::Path::new(SWIFTSHADER).exists() {
            again.env("VK_ADD_DRIVER_FILES", SWIFTSHADER);
        }
        let status = again.status().expect("the program starts again");
        return if status.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let wanted = |name: &str| {
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
    };
    let required = std::env::var("BRILLM_REQUIRE_GPU").is_ok_and(|value| value == "1");
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
    let mut run = |name: String, test: &dyn Fn()| {
        if !wanted(&name) {
            return;
        }
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(test));
        let seconds = begun.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                println!("test {name} ... ok ({seconds:.1} s)");
                passed += 1;
            }
            Err(_) => {
                println!("test {name} ... FAILED ({seconds:.1} s)");
                failed.push(name);
            }
        }
    };
    for &(name, test) in ALONE {
        run(name.to_string(), &test);
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
    for (label, words) in ADAPTERS {
        if !tests
            .iter()
            .any(|(name, _)| wanted(&format!("{label}::{name}")))
        {
            continue;
        }
        match Bed::open(label, words) {
            Some(bed) => {
                for (name, test) in &tests {
                    let only = ONLY.iter().find(|(only, _)| only == name);
                    if only.is_some_and(|(_, labels)| !labels.contains(&label)) {
                        continue;
                    }
                    run(format!("{label}::{name}"), &|| test(&bed));
                }
            }
            None if required => run(format!("{label}::is_there"), &|| {
                panic!("BRILLM_REQUIRE_GPU=1 and no adapter; tests/run --install brings it")
            }),
            None => {
                println!("test {label} ... skipped: no adapter");
                skipped += 1;
            }
        }
    }
    println!(
        "\n{passed} passed, {} failed, {skipped} adapters skipped",
        failed.len()
    );
    for name in &failed {
        println!("  FAILED {name}");
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
