//! Opens a model and continues a prompt, as text that streams and as a whole.
//!
//!     cargo run --release --example generate -- models/english.bril "Once upon a time"

use std::io::Write;

use brillm::path::Sampling;
use brillm::{Model, Request};

fn main() -> brillm::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments
        .next()
        .unwrap_or_else(|| "models/english.bril".into());
    let prompt = arguments
        .next()
        .unwrap_or_else(|| "Once upon a time".into());
    let model = Model::open(path.as_ref(), Default::default())?;

    // Greedy, three lines: the node of most energy at every step.
    let (text, ids) = Request::text(&model, &prompt)?
        .tokens(20)
        .start(&model)?
        .collect_text()?;
    println!("{prompt}{text} ({} tokens)", ids.len());

    // Sampled, token by token; the same seed gives the same text.
    let sampling = Sampling::default().temperature(0.8).top_p(0.95).seed(7);
    print!("{prompt}");
    for piece in Request::text(&model, &prompt)?
        .tokens(40)
        .sampling(sampling)
        .start(&model)?
    {
        print!("{}", piece?.text);
        std::io::stdout()
            .flush()
            .map_err(|error| brillm::Error::io(error, "standard output"))?;
    }
    println!();
    Ok(())
}
