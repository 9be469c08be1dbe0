//! Embeds the English model only where it is there: the published package leaves the models out.

fn main() {
    const MODEL: &str = "models/english.bril";
    println!("cargo::rustc-check-cfg=cfg(english_model)");
    println!("cargo::rerun-if-changed={MODEL}");
    if std::env::var_os("CARGO_FEATURE_MODEL").is_none() {
        return;
    }
    if std::path::Path::new(MODEL).exists() {
        println!("cargo::rustc-cfg=english_model");
    } else {
        println!(
            "cargo::warning={MODEL} is missing: the program is built without a model; pass --model to its commands"
        );
    }
}
