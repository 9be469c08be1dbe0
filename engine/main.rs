//! The command `brillm`.
#![forbid(unsafe_code)]

/// The English model, aligned so that its blocks can be used where they lie.
#[cfg(english_model)]
mod embedded {
    #[repr(C, align(64))]
    pub struct Aligned<T: ?Sized>(pub T);
    pub static ENGLISH: &Aligned<[u8]> = &Aligned(*include_bytes!("../models/english.bril"));
}

fn main() -> std::process::ExitCode {
    #[cfg(english_model)]
    let english = Some(&embedded::ENGLISH.0);
    #[cfg(not(english_model))]
    let english = None;
    brillm::cli::main(english)
}
