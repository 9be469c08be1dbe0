//! The authors' fixtures and the shipped models.

use crate::Test;

pub const TESTS: &[Test] = &[];
