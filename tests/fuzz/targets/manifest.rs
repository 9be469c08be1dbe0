#![no_main]
brillm_fuzz::target!(manifest);
