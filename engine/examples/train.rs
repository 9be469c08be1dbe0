//! Trains a small model on a few lines of text, saves it, opens it and generates.

use std::sync::atomic::AtomicBool;

use brillm::learn::{Recipe, Trainer};
use brillm::{Error, Model, Request};

const RECIPE: &str = r#"
name = "crow"

[data]
train = ["crow.txt"]
validation-fraction = 0
vocabulary = 300

[profile]
width = 16

[train]
tokens = 20_000
batch = 4
steps = 16
folds = 0
"#;

fn main() -> brillm::Result<()> {
    let folder = std::env::temp_dir().join(format!("brillm-example-{}", std::process::id()));
    let place = |error| Error::io(error, folder.display());
    std::fs::create_dir_all(&folder).map_err(place)?;
    let story = "A thirsty crow found a jug. The water stood too low. The crow dropped stones into the jug, \
                 one after another. The water rose, and the crow drank.\n";
    std::fs::write(folder.join("crow.txt"), story.repeat(40)).map_err(place)?;

    let recipe = Recipe::parse(RECIPE, &[])?;
    // A progress observer receives every step; `()` ignores them.
    let mut trainer = Trainer::prepare(recipe, &folder, &folder.join("run"), false, &mut ())?;
    let outcome = trainer.run(&AtomicBool::new(false), &mut ())?;

    let model = Model::open(&outcome.model, Default::default())?;
    let (text, _) = Request::text(&model, "A thirsty")?
        .tokens(30)
        .start(&model)?
        .collect_text()?;
    println!("after {} steps: A thirsty{text}", outcome.steps);
    std::fs::remove_dir_all(&folder).map_err(place)
}
