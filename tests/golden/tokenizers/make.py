"""Train small tokenizers of many kinds and write what Hugging Face's libraries make of 200 lines.

    pip install tokenizers==0.23.3 transformers==5.24.0 sentencepiece==0.2.3 protobuf
    python tests/golden/tokenizers/make.py

Each folder is a model folder without a model: files in one of the layouts, and `expected.json` with the ids of every line,
the special tokens before and after a text, and the decoded text without and with special tokens. A text that equals
the line is null.
"""

import json
import pathlib
import shutil

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import SentencePieceExtractor, SpmConverter

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[2]

LINES = """Un café à Paris
Hello, world!
The quick brown fox jumps over the lazy dog.
  two leading spaces
trailing spaces   
   both   sides   

 
   
\t
\ttab first
a\tb\tc
line one\nline two
line one\r\nline two\r\n
\n
\n\n\nthree line ends
a\n\n b \n c
mixed \t \n whitespace  \r\n end
double  spaces  between  words
many          spaces
0
1234567890
3.14159 and 2,718,281
1e-9 0x1F 1_000 50% $9.99 €12 £7
2026-11-28T13:05:57Z
+49 (0)30 1234-5678
https://example.org/a/b?c=d&e=f#g
user.name+tag@example.co.uk
C:\\Users\\name\\file.txt /usr/bin/env
fn main() { println!("{}", 1 << 3); }
for (int i = 0; i < n; ++i) a[i] += b[i] * 2;
def f(x):\n    return x ** 2  # square
<div class="x">&amp; &lt;b&gt;</div>
SELECT * FROM t WHERE a = 'b' AND c <> 4;
{"key": [1, 2.5, null, true], "k": "v\\n"}
$E = mc^2$ and \\frac{a}{b}
don't can't I'm you're we've they'll it's he'd
DON'T CAN'T I'M
do not . what ? yes ! well , n't 's 've
"quoted" 'single' «guillemets» „low“ ‘curly’ “double”
em—dash en–dash hy-phen minus−sign
ellipsis… three...dots
UPPER lower Title cAmElCase snake_case kebab-case
Grüße aus Österreich, Straße, Maß
ÄÖÜ äöü ß ẞ
El niño comió piñas en España. ¿Qué? ¡Sí!
Ça va très bien, merci. Où êtes-vous?
Zażółć gęślą jaźń
Příliš žluťoučký kůň úpěl ďábelské ódy
İstanbul'da ılık bir gün, ığüşöç
Tiếng Việt có dấu: ắ ằ ẳ ẵ ặ
Ελληνικά: Καλημέρα κόσμε, Σίσυφος
Привет, мир! Съешь ещё этих мягких французских булок.
Українська: їжак, ґанок, єдність
Српски језик
שלום עולם
שָׁלוֹם
مرحبا بالعالم
اَلْعَرَبِيَّةُ
فارسی می‌خواهم
हिन्दी में नमस्ते दुनिया
বাংলা ভাষা
தமிழ் மொழி
తెలుగు
ಕನ್ನಡ
മലയാളം
ภาษาไทยไม่มีช่องว่าง
ພາສາລາວ
မြန်မာဘာသာ
ភាសាខ្មែរ
ქართული ენა
Հայերեն լեզու
አማርኛ ቋንቋ
中文没有空格
天地玄黄，宇宙洪荒。
繁體中文與簡體中文
こんにちは世界
カタカナ ｶﾀｶﾅ ひらがな
日本語とEnglishの混在
한국어 띄어쓰기
한글 자모
ᚠᚢᚦᚨᚱᚲ runes
𓀀𓁐 hieroglyphs
𝒜𝓁𝓅𝒽𝒶 𝟙𝟚𝟛 math
Ａｂｃ１２３ fullwidth
ﬁ ﬂ ﬃ ligatures
½ ¼ ² ³ ₁ ₂ ™ ℠ № ℃
① ② ⅳ Ⅻ
😀 grin
😀😃😄
👍🏽 skin tone
👨‍👩‍👧‍👦 family
🏳️‍🌈 flag 🇩🇪🇫🇷
❤️ vs ❤
zero\u200bwidth\u200cjoin\u200der
soft\u00adhyphen no\u00a0break thin\u2009space ideographic\u3000space
line\u2028separator paragraph\u2029separator next\u0085line
\ufeffbyte order mark
left\u200eto\u200fright \u202eoverride\u202c
nul\u0000char bell\u0007 esc\u001b[0m del\u007f
\u0001\u0002\u0003
vertical\u000btab form\u000cfeed
private \ue000 use
replacement \ufffd character
\ufffd
ends with \ufffd
e\u0301 vs é, A\u030a vs Å vs \u212b
o\u0302\u0301 vs ố vs o\u0301\u0302
Z̴a̷l̸g̶o̵ ţ̷e̴x̸t̶
n\u0303 combining, x\u0338 overlay
\u0301 starts with a mark
Ω vs \u2126, K vs \u212a
ﷺ ligature
ⅷ ㎏ ㍿ ㌔
a
é
世
😀
.
,
'
-
_
▁
▁a ▁▁ b▁
Ġ Ċ Ġword
##ing ##
</w> a</w>
<s>
</s>
<s>Hello</s>
a<s>b
text <s> text </s> end
<unk>
x<unk>y
<pad> <mask> <eos>
[CLS] [SEP] [MASK] [PAD] [UNK]
[CLS]a[SEP]
a[MASK]b
 [MASK] 
<|endoftext|>
a<|endoftext|>b
a <|endoftext|> b
<|begin_of_text|>Hi<|eot_id|>
<|im_start|>user\nhello<|im_end|>
<extra_id_0> and <extra_id_1>
<0x0A> <0xE4>
<0xE4><0xB8><0x96>
[INST] question [/INST] answer
aswordb word wordy a word.
 word  word 
left<strip>right left <strip> right
NormalizedTOKEN normalizedtoken
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
abababababababababababab
!!!!!!!!!!??????????
.....
-----=====*****
((((()))))
pneumonoultramicroscopicsilicovolcanoconiosis
Donaudampfschifffahrtsgesellschaftskapitän
LONGWORD
supercalifragilisticexpialidocious!!!
1st 2nd 3rd 4th 10x 3D mp3
a1b2c3
v1.2.3-beta+build.5
#hashtag @mention
:-) ;-) <3 \\o/
a,b;c:d|e
x=1;y=2
I.B.M. U.S.A. e.g. i.e.
Mr. Smith isn't here , is he ?
well-known state-of-the-art
and/or he/she
1/2 3/4
10:30 a.m.
20°C −5°F
100km/h
¹²³
naïve façade résumé
coöperate
fiancée
Œuvre œuf Æsop æther
ĳ Ĳ ŉ
ſtrange long s
ǅ ǆ
Straßenbahnhaltestelle
ΑΣ ας
ı I i İ
tabs\t\tand\t\t\ttabs
indent\n\tcode\n\t\tmore
\r
\r\n
end with newline\n
 a
a 
  a  b  
\u3000全角
\u00a0nbsp first
nbsp last\u00a0
اللغة English mixed עברית
Latin кириллица ελληνικά 漢字
a\u0300\u0301\u0302\u0303
👩🏽‍💻 codes 🧑‍🚀
🇺 single indicator
\U0001f1e9 half
x\u20dd enclosed
क्‍ष joiner
เ็ก
가각간
Once upon a time there was a little girl.
She said, "I don't know!"
to be, or not to be: that is the question
The end.
last line"""


def line_list():
    """The lines; the escapes above are Python's, so split the source rather than the string."""
    source = pathlib.Path(__file__).read_text(encoding="utf-8")
    source = source.split('LINES = """', 1)[1].split('"""', 1)[0]
    result = [eval('"""' + line.replace('"', '\\"') + '"""') for line in source.split("\n")]
    result[result.index("LONGWORD")] = "x" * 90 + "ab" * 60
    return result


LIST = line_list()
assert len(LIST) >= 200, len(LIST)
PROSE = (ROOT / "README.md").read_text() + (ROOT / "ARCHITECTURE.md").read_text()
CORPUS = PROSE.split("\n") + LIST * 3
PIECES = HERE / "corpus.tmp"


def check(folder, fast, note):
    """Write what a tokenizer makes of the lines."""
    fast.no_padding()
    fast.no_truncation()
    rows = []
    frame = None
    for line in LIST:
        ids = fast.encode(line, add_special_tokens=False).ids
        framed = fast.encode(line, add_special_tokens=True).ids
        if ids:
            at = next(at for at in range(len(framed)) if framed[at : at + len(ids)] == ids)
            found = [framed[:at], framed[at + len(ids) :]]
            if not (frame is None or frame == found):
                # The text itself begins like the frame.
                assert framed == frame[0] + ids + frame[1], (folder, line)
            else:
                frame = found
        texts = [fast.decode(framed, skip_special_tokens=skip) for skip in (True, False)]
        rows.append([ids, *[None if text == line else text for text in texts]])
    content = {"note": note, "frame": frame, "lines": rows}
    path = HERE / folder / "expected.json"
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def fresh(folder):
    shutil.rmtree(HERE / folder, ignore_errors=True)
    (HERE / folder).mkdir()
    return HERE / folder


def save(folder, tokenizer, note):
    path = fresh(folder) / "tokenizer.json"
    text = json.loads(tokenizer.to_str())
    path.write_text(json.dumps(text, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    check(folder, Tokenizer.from_file(str(path)), note)


def trained(model, trainer, normalizer=None, pre_tokenizer=None, decoder=None):
    tokenizer = Tokenizer(model)
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    if decoder:
        tokenizer.decoder = decoder
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def template(tokenizer, before, after):
    names = before + after
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join([*before, "$A", *after]),
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in names],
    )


def bpe(size=600, **options):
    return trainers.BpeTrainer(vocab_size=size, show_progress=False, **options)


def json_tokenizers():
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    gpt2 = trained(
        models.BPE(),
        bpe(700, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"]),
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoder=decoders.ByteLevel(),
    )
    gpt2.post_processor = processors.ByteLevel(trim_offsets=False)
    save("byte-level", gpt2, "byte-level BPE as in GPT-2")

    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    llama3 = trained(
        models.BPE(ignore_merges=True),
        bpe(700, initial_alphabet=alphabet),
        pre_tokenizer=pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]),
        decoder=decoders.ByteLevel(),
    )
    llama3.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
    template(llama3, ["<|begin_of_text|>"], [])
    save("split-regex", llama3, "byte-level BPE with Llama 3's pattern and ignore_merges")

    marks = ["<unk>", "<s>", "</s>"]
    llama2 = trained(
        models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True),
        bpe(900, special_tokens=[*marks, *(f"<0x{byte:02X}>" for byte in range(256))], limit_alphabet=150),
        normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        decoder=decoders.Sequence([
            decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
    )
    content = json.loads(llama2.to_str())
    content["added_tokens"] = content["added_tokens"][:3]
    llama2 = Tokenizer.from_str(json.dumps(content))
    template(llama2, ["<s>"], [])
    save("byte-fallback", llama2, "SentencePiece-style BPE with byte fallback as in Llama 2")

    save("no-decoder", trained(models.BPE(unk_token="<unk>"), bpe(special_tokens=["<unk>"]),
        pre_tokenizer=pre_tokenizers.Whitespace()), "BPE of words without a decoder")

    save("suffix", trained(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"),
        bpe(special_tokens=["<unk>"], end_of_word_suffix="</w>"),
        normalizer=normalizers.BertNormalizer(lowercase=True), pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
        decoder=decoders.BPEDecoder("</w>")), "BPE with an end-of-word suffix as in GPT-1")

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    for name, lower in [("word-piece-uncased", True), ("word-piece-cased", False)]:
        tokenizer = trained(models.WordPiece(unk_token="[UNK]"),
            trainers.WordPieceTrainer(vocab_size=800, show_progress=False, special_tokens=special),
            normalizer=normalizers.BertNormalizer(lowercase=lower), pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
            decoder=decoders.WordPiece("##", cleanup=lower))
        template(tokenizer, ["[CLS]"], ["[SEP]"])
        save(name, tokenizer, "WordPiece as in BERT")

    metaspace = trained(models.Unigram(),
        trainers.UnigramTrainer(vocab_size=700, show_progress=False, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>"),
        normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]),
        pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first"), decoder=decoders.Metaspace(prepend_scheme="first"))
    template(metaspace, ["<s>"], ["</s>"])
    metaspace.add_tokens([
        AddedToken("word", single_word=True), AddedToken("<strip>", lstrip=True, rstrip=True),
        AddedToken("NormalizedTOKEN", normalized=True)])
    metaspace.add_special_tokens([AddedToken("[MASK]", lstrip=True)])
    save("unigram", metaspace, "unigram with Metaspace, and added tokens of every property")

    words = trained(models.WordLevel(unk_token="[UNK]"),
        trainers.WordLevelTrainer(vocab_size=700, show_progress=False, special_tokens=["[UNK]", "[PAD]"]),
        normalizer=normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]),
        pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]))
    save("words", words, "words without a decoder")

    characters = trained(models.WordLevel(unk_token="[UNK]"),
        trainers.WordLevelTrainer(vocab_size=500, show_progress=False, special_tokens=["[UNK]", "[BOS]", "[EOS]"]),
        pre_tokenizer=pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated"), decoder=decoders.Fuse())
    template(characters, ["[BOS]"], ["[EOS]"])
    save("characters", characters, "characters")

    ctc = trained(models.WordLevel(unk_token="<unk>"),
        trainers.WordLevelTrainer(vocab_size=400, show_progress=False, special_tokens=["<pad>", "<s>", "</s>", "<unk>", "|"]),
        normalizer=normalizers.Replace(" ", "|"),
        pre_tokenizer=pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated"), decoder=decoders.CTC())
    save("ctc", ctc, "characters with the CTC decoder")

    odd = trained(models.BPE(unk_token="<unk>"), bpe(special_tokens=["<unk>"]),
        pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="always"),
        decoder=decoders.Sequence([
            decoders.Replace(Regex("[▁_]"), " "), decoders.Strip(" ", 0, 0), decoders.Fuse(),
            decoders.Replace("  ", " "), decoders.Strip(" ", 1, 0)]))
    content = json.loads(odd.to_str())
    save("decoder-sequence", Tokenizer.from_str(json.dumps(content)), "decoders after Fuse, which wait for the whole text")


def settings(folder, **config):
    (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n")


def open_folder(folder, note, model_type, sentence_piece=False):
    """Read a folder by transformers; the config decides the class where tokenizer_config.json does not."""
    path = HERE / folder
    (path / "config.json").write_text(json.dumps({"model_type": model_type}) + "\n")
    tokenizer = AutoTokenizer.from_pretrained(str(path))
    backend = tokenizer.backend_tokenizer
    if model_type in ("t5", "xlm-roberta"):
        # These classes have a normalizer of their own; the one that transformers makes from the file agrees with
        # SentencePiece, which keeps white space such as U+0085.
        proto = SentencePieceExtractor(str(next(path.glob("*.model")))).proto
        vocab = [(piece.piece, piece.score) for piece in proto.pieces]
        own = SpmConverter.build_tokenizer_from_spm_proto(proto, vocab)
        backend.normalizer, backend.pre_tokenizer = own.normalizer, own.pre_tokenizer
    check(folder, backend, f"{note} ({type(tokenizer).__name__})")
    if sentence_piece:
        # SentencePiece itself agrees, but for special tokens in the text.
        processor = sentencepiece.SentencePieceProcessor(model_file=str(next(path.glob("*.model"))))
        for line in LIST:
            if "<" not in line and "\0" not in line:
                own = tokenizer.backend_tokenizer.encode(line, add_special_tokens=False).ids
                if own != processor.encode(line):
                    print("differs from SentencePiece:", folder, repr(line), own, processor.encode(line))


def byte_pair_files(folder, size=600, specials=(), **options):
    tokenizer = trained(models.BPE(**options), bpe(size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=list(specials)),
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False))
    path = fresh(folder)
    tokenizer.model.save(str(path))
    return path


def json_with_settings():
    """Special tokens and marks of tokenizer_config.json and special_tokens_map.json beside a tokenizer.json."""
    for folder, base, config, special in [
        ("settings-marks", "byte-fallback", {"add_bos_token": False, "add_eos_token": True, "bos_token": "<s>", "eos_token": "</s>"}, None),
        ("settings-added", "byte-level", {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "added_tokens_decoder": {
            "700": {"content": "<|im_end|>", "single_word": False, "lstrip": False, "rstrip": True, "normalized": False, "special": True},
            "701": {"content": "word", "single_word": True, "lstrip": False, "rstrip": False, "normalized": True, "special": False}}}, None),
        ("settings-map", "word-piece-cased", {"tokenizer_class": "PreTrainedTokenizerFast"},
            {"pad_token": "[PAD]", "mask_token": {"content": "<mask>", "single_word": False, "lstrip": True, "rstrip": False, "normalized": False}}),
    ]:
        path = fresh(folder)
        shutil.copy(HERE / base / "tokenizer.json", path)
        settings(path, **{"tokenizer_class": "PreTrainedTokenizerFast", **config})
        if special:
            (path / "special_tokens_map.json").write_text(json.dumps(special) + "\n")
        open_folder(folder, "tokenizer.json with settings beside it", "")


def file_tokenizers():
    byte_pair_files("files-gpt2", specials=["<|endoftext|>"])
    open_folder("files-gpt2", "vocab.json and merges.txt", "gpt2")

    path = byte_pair_files("files-gpt2-marked", specials=["<|endoftext|>"])
    settings(path, add_bos_token=True, add_prefix_space=True, tokenizer_class="GPT2Tokenizer", pad_token="<pad>")
    (path / "added_tokens.json").write_text(json.dumps({"word": 600}) + "\n")
    open_folder("files-gpt2-marked", "vocab.json and merges.txt with a begin token and added tokens", "gpt2")

    path = byte_pair_files("files-roberta", specials=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    settings(path, tokenizer_class="RobertaTokenizer")
    open_folder("files-roberta", "vocab.json and merges.txt of RoBERTa", "roberta")

    path = byte_pair_files("files-qwen2", specials=["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    settings(path, tokenizer_class="Qwen2Tokenizer", eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token=None,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"])
    open_folder("files-qwen2", "vocab.json and merges.txt of Qwen2", "qwen2")

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    for name, lower, config in [
        ("files-bert-uncased", True, None),
        ("files-bert-cased", False, {"do_lower_case": False, "tokenize_chinese_chars": False, "tokenizer_class": "BertTokenizer",
            "added_tokens_decoder": {"800": {"content": "word", "single_word": True, "lstrip": False, "rstrip": False,
                "normalized": True, "special": False}}}),
    ]:
        tokenizer = trained(models.WordPiece(unk_token="[UNK]"),
            trainers.WordPieceTrainer(vocab_size=800, show_progress=False, special_tokens=special),
            normalizer=normalizers.BertNormalizer(lowercase=lower), pre_tokenizer=pre_tokenizers.BertPreTokenizer())
        path = fresh(name)
        tokenizer.model.save(str(path))
        if config:
            settings(path, **config)
        open_folder(name, "vocab.txt", "bert")

    PIECES.write_text("\n".join(line.replace("\0", "") for line in CORPUS), encoding="utf-8")

    def train(folder, name, **options):
        path = fresh(folder)
        sentencepiece.SentencePieceTrainer.train(input=str(PIECES), model_prefix=str(path / "m"), minloglevel=2,
            hard_vocab_limit=False, **options)
        (path / "m.vocab").unlink()
        (path / "m.model").rename(path / name)
        return path

    pairs = dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False)
    train("sentencepiece-bpe", "tokenizer.model", vocab_size=800, character_coverage=0.98,
        user_defined_symbols=["[INST]", "[/INST]", "word"], **pairs)
    open_folder("sentencepiece-bpe", "byte-pair encoding with user-defined pieces", "", True)

    path = train("sentencepiece-llama", "tokenizer.model", vocab_size=800, character_coverage=0.98, **pairs)
    settings(path, tokenizer_class="LlamaTokenizer", legacy=False, add_bos_token=True, add_eos_token=True)
    open_folder("sentencepiece-llama", "byte-pair encoding without the legacy prefixes", "llama")

    train("sentencepiece-unigram", "tokenizer.model", vocab_size=700, character_coverage=0.98)
    open_folder("sentencepiece-unigram", "unigram with NFKC", "", True)

    t5 = dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    path = train("sentencepiece-t5", "spiece.model", vocab_size=700, character_coverage=0.98,
        normalization_rule_name="identity", **t5)
    settings(path, tokenizer_class="T5Tokenizer", extra_ids=10)
    open_folder("sentencepiece-t5", "unigram of T5", "t5")

    # A small character map of its own: code points in hexadecimal, from and to.
    rules = {"\u00e9": "e", "e\u0301": "e", "\ufb03": "ffi", "\u2122": "TM", "\t": " ", "\n": " ", "\u200b": "", "\u3000": " "}
    rules |= {chr(code): chr(code + 32) for code in range(65, 91)}
    points = lambda text: " ".join(f"{ord(c):X}" for c in text)
    table = HERE / "rules.tmp"
    table.write_text("".join(f"{points(a)}\t{points(b)}\n" for a, b in rules.items()))
    path = train("sentencepiece-xlm-roberta", "sentencepiece.bpe.model", vocab_size=700, character_coverage=0.98,
        normalization_rule_tsv=str(table))
    table.unlink()
    settings(path, tokenizer_class="XLMRobertaTokenizer")
    open_folder("sentencepiece-xlm-roberta", "unigram of XLM-RoBERTa with a character map of its own", "xlm-roberta")
    PIECES.unlink()


if __name__ == "__main__":
    (HERE / "lines.json").write_text(json.dumps(LIST, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    json_tokenizers()
    json_with_settings()
    file_tokenizers()
