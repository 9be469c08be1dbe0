//! Adapters that cannot be used: refused with a reason, or not there at all.

use std::process::Command;

use crate::{Bed, Test};

pub const TESTS: &[Test] = &[("a_refused_adapter_says_why", a_refused_adapter_says_why)];

/// An adapter without storage buffers is listed with the reason, refused by name, and passed over otherwise.
fn a_refused_adapter_says_why(_: &Bed) {
    let without = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_brillm"))
            .args(arguments)
            .env(
                "MESA_EXTENSION_OVERRIDE",
                "-GL_ARB_shader_storage_buffer_object",
            )
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, said) = (text(output.stdout), text(output.stderr));
        (output.status.code(), out, said)
    };
    let (code, out, said) = without(&["devices"]);
    assert_eq!(code, Some(0), "{said}");
    let reason = "its kernels can bind 0 storage buffers, 8 are needed";
    assert!(out.contains(&format!("refused    {reason}")), "{out}");
    let once = ["generate", "Once", "--tokens", "1"];
    let (code, _, said) = without(&[&once[..], &["--adapter", "gl llvmpipe"]].concat());
    assert_eq!(code, Some(1));
    assert!(said.contains(reason), "{said}");
    let (code, _, said) = without(&once);
    assert_eq!(code, Some(0), "{said}");
}

/// A machine without any driver.
pub fn no_driver_is_a_message() {
    let without = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_brillm"))
            .args(arguments)
            .env_remove("VK_ADD_DRIVER_FILES")
            .env("VK_ICD_FILENAMES", "/nonexistent")
            .env("VK_DRIVER_FILES", "/nonexistent")
            .env("__EGL_VENDOR_LIBRARY_FILENAMES", "/nonexistent")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), output.stdout, said)
    };
    let none = "no graphics driver is installed";
    let (code, out, said) = without(&["devices"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(String::from_utf8(out).unwrap().contains(none));
    let once = ["generate", "Once", "--tokens", "1"];
    let (code, _, said) = without(&[&once[..], &["--backend", "gpu"]].concat());
    assert_eq!(code, Some(1));
    assert!(
        said.contains(none) && said.contains("--backend cpu"),
        "{said}"
    );
    let (code, _, said) = without(&[&once[..], &["--backend", "auto"]].concat());
    assert_eq!(code, Some(0), "{said}");
}
