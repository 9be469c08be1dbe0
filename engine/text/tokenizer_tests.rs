use super::{Tokenizer, tokenizer::MOST_IDS};

#[test]
fn bare_ids_beyond_the_model_are_refused() {
    let stored = Tokenizer::ids(9).unwrap().to_bytes();
    assert!(Tokenizer::from_bytes_for(&stored, 9).is_ok());
    // The number alone would decide how much memory the names of the ids take.
    let text = String::from_utf8(stored.clone()).unwrap();
    let huge = text.replace('9', "16777216").into_bytes();
    for (stored, rows) in [(stored, 8), (huge, 9)] {
        let error = Tokenizer::from_bytes_for(&stored, rows).err().unwrap();
        assert!(
            error.to_string().contains("larger than the model"),
            "{error}"
        );
    }
    assert!(Tokenizer::ids(MOST_IDS + 1).is_err());
}
