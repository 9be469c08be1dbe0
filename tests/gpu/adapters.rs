//! Adapters that cannot be used, and machines without one.

use std::process::Command;

use crate::{Bed, Test};

pub const TESTS: &[Test] = &[(
    "an_unusable_adapter_is_listed_with_the_reason",
    an_unusable_adapter_is_listed_with_the_reason,
)];

/// An adapter without storage buffers is listed with the reason, an error by name, and skipped otherwise.
fn an_unusable_adapter_is_listed_with_the_reason(_: &Bed) {
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
        let (out, errors) = (text(output.stdout), text(output.stderr));
        (output.status.code(), out, errors)
    };
    let (code, out, errors) = without(&["devices"]);
    assert_eq!(code, Some(0), "{errors}");
    let reason = "its kernels can bind 0 storage buffers, 8 are needed";
    assert!(out.contains(&format!("refused    {reason}")), "{out}");
    let once = ["generate", "Once", "--tokens", "1"];
    let (code, _, errors) = without(&[&once[..], &["--adapter", "gl llvmpipe"]].concat());
    assert_eq!(code, Some(1));
    assert!(errors.contains(reason), "{errors}");
    let (code, _, errors) = without(&once);
    assert_eq!(code, Some(0), "{errors}");
}

/// A machine without any driver.
pub fn no_driver_is_reported() {
    let without = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_brillm"))
            .args(arguments)
            .env_remove("VK_ADD_DRIVER_FILES")
            .env("VK_ICD_FILENAMES", "/nonexistent")
            .env("VK_DRIVER_FILES", "/nonexistent")
            .env("__EGL_VENDOR_LIBRARY_FILENAMES", "/nonexistent")
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), output.stdout, errors)
    };
    let none = "no graphics driver is installed";
    let (code, out, errors) = without(&["devices"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(String::from_utf8(out).unwrap().contains(none));
    let once = ["generate", "Once", "--tokens", "1"];
    let (code, _, errors) = without(&[&once[..], &["--backend", "gpu"]].concat());
    assert_eq!(code, Some(1));
    assert!(
        errors.contains(none) && errors.contains("--backend cpu"),
        "{errors}"
    );
    let (code, _, errors) = without(&[&once[..], &["--backend", "auto"]].concat());
    assert_eq!(code, Some(0), "{errors}");
}
