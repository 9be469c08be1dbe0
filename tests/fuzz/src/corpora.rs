//! Corpora, labelled texts and files of token ids.

use brillm::text::{Corpus, CorpusFormat, CorpusOptions, LabelledFields, read_ids, read_labelled};

use crate::files;

/// Read the bytes after the first as a file of the kind that the first byte chooses.
pub fn corpus(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let name = [
        "c.txt", "c.jsonl", "c.json", "c.u16", "c.u32", "c.gz", "c.doc", "c",
    ][usize::from(first & 7)];
    let path = files::write(name, rest);
    if name.ends_with("16") || name.ends_with("32") {
        let _ = read_ids(&path, (first & 8 != 0).then_some(300));
        return;
    }
    let format = [
        CorpusFormat::Auto,
        CorpusFormat::Plain,
        CorpusFormat::Jsonl,
        CorpusFormat::Doc,
    ][usize::from(first >> 6)];
    let options = CorpusOptions {
        format,
        field: (first & 16 != 0).then(|| "a".to_string()),
        lossy: first & 32 != 0,
        simplify: None,
    };
    let Ok(corpus) = Corpus::open(&[path.to_str().expect("a plain path")], options) else {
        return;
    };
    for document in corpus {
        let Ok(text) = document else { break };
        assert!(!text.trim().is_empty(), "an empty document");
    }
}

/// Read the bytes after the first as labelled texts.
pub fn labelled(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let path = files::write(if first & 1 == 0 { "l.jsonl" } else { "l.tsv" }, rest);
    let fields = ["label,text", "2,1", "a,b,c", "1,2,3"][usize::from(first >> 1 & 3)];
    let fields: LabelledFields = fields.parse().expect("valid fields");
    let _ = read_labelled(&path, &fields);
}
