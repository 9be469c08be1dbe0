//! Training on a device.

use crate::Test;

pub const TESTS: &[Test] = &[];
