//! Digits that a graph draws after their words, what judges them, and their picture: shared by the measurement
//! `senses.rs` and `tests/digits.rs`.

use brillm::modality::{Image, Modality};
use brillm::path::Sampling;
use brillm::{Engine, Request, Result};

/// The words of the ten digits.
pub const WORDS: [&str; 10] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
];
/// Neighbours that vote.
const NEIGHBOURS: usize = 3;

/// Vectors of known digits, which classify others by their nearest neighbours.
pub struct Neighbours(pub Vec<(Vec<f32>, usize)>);

impl Neighbours {
    /// The digit that most of the nearest vectors have.
    pub fn classify(&self, vector: &[f32]) -> usize {
        let distance = |other: &[f32]| -> f32 {
            vector
                .iter()
                .zip(other)
                .map(|(a, b)| (a - b) * (a - b))
                .sum()
        };
        let mut order: Vec<(f32, usize)> = self
            .0
            .iter()
            .map(|(other, digit)| (distance(other), *digit))
            .collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut votes = [0; 10];
        order[..NEIGHBOURS.min(order.len())]
            .iter()
            .for_each(|&(_, digit)| votes[digit] += 1);
        let most = votes.iter().max().copied().unwrap_or(0);
        // Of digits with equally many votes, that of the nearest neighbour.
        let winner = order.iter().find(|(_, digit)| votes[*digit] == most);
        winner.map_or(0, |&(_, digit)| digit)
    }

    /// Count the images of [`draw`] that are taken for the digit of their row.
    pub fn recognised(&self, images: &[Image]) -> usize {
        let each = images.len() / WORDS.len();
        let right = images
            .iter()
            .enumerate()
            .filter(|(at, image)| self.classify(&pixels(image)) == at / each);
        right.count()
    }
}

/// The brightness of each pixel, as a vector of [`Neighbours`].
pub fn pixels(image: &Image) -> Vec<f32> {
    image.pixels.iter().map(|&pixel| f32::from(pixel)).collect()
}

/// Codes of a modality that continue a prompt, drawn with a seed.
pub fn drawn(engine: &Engine, ids: &[u32], modality: Modality, seed: u64) -> Result<Vec<u32>> {
    let sampling = Sampling::default().temperature(0.7).top_p(0.95).seed(seed);
    let request = Request::ids(ids.to_vec()).tokens(256).sampling(sampling);
    let request = request.continue_as(modality, engine.tokenizer())?;
    Ok(engine.start(request)?.collect_text()?.1)
}

/// Draw `each` images after the word of each digit, seeds from 0: none is chosen. `[10 · each]`
pub fn draw(engine: &Engine, each: u64) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    for word in WORDS {
        let prompt = engine.encode(&format!("a {word}"))?;
        for seed in 0..each {
            let codes = drawn(engine, &prompt, Modality::Image, seed)?;
            images.push(engine.tokenizer().decode_image(&codes)?);
        }
    }
    Ok(images)
}

/// Arrange images of one size in rows, four times as large, with a dark line around each.
pub fn grid(images: &[Image], columns: usize) -> Image {
    const SCALE: usize = 4;
    let (width, height) = (images[0].width * SCALE + 4, images[0].height * SCALE + 4);
    let mut all = Image {
        width: width * columns,
        height: height * images.len().div_ceil(columns),
        pixels: Vec::new(),
    };
    all.pixels = vec![64; all.width * all.height];
    for (at, image) in images.iter().enumerate() {
        let (left, top) = (at % columns * width + 2, at / columns * height + 2);
        for y in 0..height - 4 {
            for x in 0..width - 4 {
                let pixel = image.pixels[y / SCALE * image.width + x / SCALE];
                all.pixels[(top + y) * all.width + left + x] = pixel;
            }
        }
    }
    all
}
