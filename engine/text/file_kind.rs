//! Kinds of files, recognised by their first bytes.

use crate::text::decoding::Encoding;

/// What the first bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// Text, as far as the first bytes show.
    Text,
    /// Compressed by gzip.
    Gzip,
    /// Compressed by Zstandard.
    Zstd,
    /// A file that is not text: its format, and what to do.
    Other(&'static str, &'static str),
}

/// Bytes of a file that [`FileKind::of`] needs; shorter files are recognised too.
pub(super) const HEAD: usize = 1024;

const UNPACK: &str = "unpack it first";
const DECOMPRESS: &str = "decompress it first, or compress it with gzip or zstd, which are read";
const CONVERT: &str = "extract its text to a .txt or .jsonl file first";
const MODEL: &str = "name a text here; a model is given to --model";

/// Offset, bytes, format and advice.
const KNOWN: &[(usize, &[u8], &str, &str)] = &[
    (
        0,
        b"PK\x03\x04",
        "a zip archive (or .docx, .xlsx, .npz, .pt)",
        UNPACK,
    ),
    (0, b"PK\x05\x06", "an empty zip archive", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"Rar!\x1a\x07", "a rar archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"\xfd7zXZ\0", "compressed by xz", DECOMPRESS),
    (4, b"1AY&SY", "compressed by bzip2", DECOMPRESS),
    (0, b"\x04\x22\x4d\x18", "compressed by lz4", DECOMPRESS),
    (0, b"LZIP\x01", "compressed by lzip", DECOMPRESS),
    (0, b"\x1f\x9d", "compressed by compress", DECOMPRESS),
    (0, b"\x5d\0\0", "compressed by lzma", DECOMPRESS),
    (0, b"\xff\x06\0\0sNaPpY", "compressed by snappy", DECOMPRESS),
    (0, b"PAR1", "a Parquet table", CONVERT),
    (0, b"ARROW1", "an Arrow table", CONVERT),
    (0, b"\xff\xff\xff\xff", "an Arrow stream", CONVERT),
    (0, b"FEA1", "a Feather table", CONVERT),
    (0, b"Obj\x01", "an Avro file", CONVERT),
    (0, b"ORC", "an ORC table", CONVERT),
    (0, b"\x89HDF\r\n", "an HDF5 file", CONVERT),
    (0, b"SQLite format 3\0", "an SQLite database", CONVERT),
    (0, b"%PDF-", "a PDF document", CONVERT),
    (0, b"{\\rtf", "an RTF document", CONVERT),
    (
        0,
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "a Microsoft Office document",
        CONVERT,
    ),
    (0, b"\x89PNG\r\n", "a PNG image", CONVERT),
    (0, b"\xff\xd8\xff", "a JPEG image", CONVERT),
    (0, b"GIF8", "a GIF image", CONVERT),
    (0, b"II*\0", "a TIFF image", CONVERT),
    (0, b"MM\0*", "a TIFF image", CONVERT),
    (0, b"RIFF", "a RIFF file (sound, video or WebP)", CONVERT),
    (0, b"OggS", "an Ogg file", CONVERT),
    (0, b"fLaC", "a FLAC file", CONVERT),
    (0, b"ID3", "an MP3 file", CONVERT),
    (4, b"ftyp", "an MP4 file", CONVERT),
    (
        0,
        b"\x93NUMPY",
        "a NumPy array",
        "save token ids as .u16 or .u32",
    ),
    (0, b"\x80\x02", "a Python pickle", CONVERT),
    (0, b"\x80\x03", "a Python pickle", CONVERT),
    (0, b"\x80\x04", "a Python pickle", CONVERT),
    (0, b"\x80\x05", "a Python pickle", CONVERT),
    (0, b"GGUF", "a GGUF model", MODEL),
    (0, b"\x89BRIL\r\n\x1a", "a .bril model", MODEL),
    (0, b"\x7fELF", "a program or library", "name a text here"),
    (0, b"MZ\x90\0", "a program or library", "name a text here"),
    (0, b"\0asm", "a WebAssembly module", "name a text here"),
    (
        0,
        b"\xfe\xed\xfa",
        "a program or library",
        "name a text here",
    ),
    (
        0,
        b"\xcf\xfa\xed\xfe",
        "a program or library",
        "name a text here",
    ),
    (
        0,
        b"\xca\xfe\xba\xbe",
        "a program or Java class",
        "name a text here",
    ),
    (0, b"\xff\xfe\0\0", "UTF-32 text", "convert it to UTF-8"),
    (0, b"\0\0\xfe\xff", "UTF-32 text", "convert it to UTF-8"),
];

impl FileKind {
    /// Recognise a file by its first [`HEAD`] bytes.
    pub(super) fn of(head: &[u8]) -> Self {
        if head.starts_with(b"\x1f\x8b") {
            return Self::Gzip;
        }
        // A frame, or a skippable frame, which may come before one.
        let skippable = matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
        if head.starts_with(b"\x28\xb5\x2f\xfd") || skippable {
            return Self::Zstd;
        }
        let binary = is_binary(head);
        let known = KNOWN.iter().find(|(offset, bytes, _, _)| {
            // A text may begin with a few letters like `ORC` too.
            let letters = bytes.iter().all(u8::is_ascii_graphic);
            let certain = !letters || bytes.len() > 5 || *offset == 0 && bytes.len() > 4;
            (certain || binary)
                && head
                    .get(*offset..)
                    .is_some_and(|rest| rest.starts_with(bytes))
        });
        if let Some((kind, advice)) = super::download::pointer(head) {
            return Self::Other(kind, advice);
        }
        match known {
            Some((_, _, format, advice)) => Self::Other(format, advice),
            None if is_safetensors(head) => Self::Other("a safetensors file", MODEL),
            None if binary => Self::Other("binary data", CONVERT),
            None => Self::Text,
        }
    }
}

/// Whether the bytes begin with a length of 8 bytes and a JSON object.
fn is_safetensors(head: &[u8]) -> bool {
    head.len() > 9 && head[5..8] == [0; 3] && head[8] == b'{'
}

/// Whether the bytes contain zeros, are not UTF-16, and either are not UTF-8 or contain more than a few zeros.
fn is_binary(head: &[u8]) -> bool {
    let zeros = head.iter().filter(|&&byte| byte == 0).count();
    let invalid = std::str::from_utf8(head).is_err_and(|error| error.error_len().is_some());
    Encoding::of(head) == Encoding::Utf8 && zeros > 0 && (invalid || zeros * 32 > head.len())
}
