//! The argument of commands that use a graph with static resistances of a lower order than its own.

use clap::Args;

#[derive(Args)]
pub(super) struct OrderArgument {
    /// Use static resistances of order N, from 2 (edges only) to that of the model (longer walks too) [default: the
    /// order of the model].
    #[arg(long, value_name = "N")]
    pub(super) order: Option<usize>,
}
