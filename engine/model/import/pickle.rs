//! The part of Python's pickle that checkpoints use, read without running anything.
//!
//! Objects lie in an arena and are named by index, so that memory is bounded by the bytes read: a pickle
//! cannot ask for more than it brings. Classes and calls are kept as names; only what describes tensors is
//! ever looked at.

use std::collections::HashMap;

use crate::{Error, ErrorKind, Result};

/// One object; references are indices into [`Pickle`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Object {
    None,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Tuple(Vec<usize>),
    List(Vec<usize>),
    Dictionary(Vec<(usize, usize)>),
    Class(String),
    Call { class: usize, arguments: usize },
    Persistent(usize),
}

/// All objects of one pickle.
#[derive(Debug)]
pub(crate) struct Pickle {
    objects: Vec<Object>,
    /// The object that was pickled.
    pub(crate) root: usize,
    /// Bytes it took.
    pub(crate) length: usize,
}

fn fault(what: impl Into<String>, at: usize) -> Error {
    Error::new(ErrorKind::Format, what).at(format!("pickle byte {at}"))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self
            .at
            .checked_add(length)
            .filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(fault("the file ends within an object", self.at));
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self, width: usize) -> Result<usize> {
        let bytes = self.take(width)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.bytes[self.at..];
        let end = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or_else(|| fault("a line does not end", self.at))?;
        let line = self.text(end)?;
        self.at += 1;
        Ok(line)
    }

    fn text(&mut self, length: usize) -> Result<String> {
        let at = self.at;
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| fault("a name is not UTF-8", at))
    }
}

impl Pickle {
    /// Reads one pickle from the beginning of `bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] with the place of what is no pickle, or uses more of Python than tensors need.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader { bytes, at: 0 };
        let mut pickle = Self {
            objects: Vec::new(),
            root: 0,
            length: 0,
        };
        let mut stack: Vec<usize> = Vec::new();
        let mut marks: Vec<usize> = Vec::new();
        let mut memo: HashMap<usize, usize> = HashMap::new();
        loop {
            let at = reader.at;
            let empty = || fault("an operation has nothing to work on", at);
            let code = reader.take(1)?[0];
            macro_rules! push {
                ($object:expr) => {{
                    let object = $object;
                    pickle.objects.push(object);
                    stack.push(pickle.objects.len() - 1);
                }};
            }
            macro_rules! pop {
                () => {
                    stack.pop().ok_or_else(empty)?
                };
            }
            macro_rules! since_mark {
                () => {{
                    let mark = marks
                        .pop()
                        .filter(|&mark| mark <= stack.len())
                        .ok_or_else(empty)?;
                    stack.split_off(mark)
                }};
            }
            match code {
                0x80 => drop(reader.take(1)?),
                0x95 => drop(reader.take(8)?),
                b'}' => push!(Object::Dictionary(Vec::new())),
                b']' | 0x8f => push!(Object::List(Vec::new())),
                b')' => push!(Object::Tuple(Vec::new())),
                b'(' => marks.push(stack.len()),
                b'N' => push!(Object::None),
                0x88 => push!(Object::Bool(true)),
                0x89 => push!(Object::Bool(false)),
                b'J' => push!(Object::Integer(i64::from(reader.number(4)? as u32 as i32))),
                b'K' => push!(Object::Integer(reader.number(1)? as i64)),
                b'M' => push!(Object::Integer(reader.number(2)? as i64)),
                0x8a => {
                    let length = reader.number(1)?;
                    let bytes = reader.take(length)?;
                    // Longer than 64 bits is only the magic number of legacy files, kept as 0.
                    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                    let start = if negative { -1i64 } else { 0 };
                    let value = bytes
                        .iter()
                        .rev()
                        .fold(start, |value, &byte| value << 8 | i64::from(byte));
                    push!(Object::Integer(if length > 8 { 0 } else { value }));
                }
                b'G' => {
                    let bytes: [u8; 8] = reader.take(8)?.try_into().expect("eight bytes");
                    push!(Object::Float(f64::from_be_bytes(bytes)));
                }
                b'X' | b'T' | b'B' => {
                    let length = reader.number(4)?;
                    push!(if code == b'X' {
                        Object::Text(reader.text(length)?)
                    } else {
                        skip(&mut reader, length)?
                    });
                }
                0x8c | b'U' | b'C' => {
                    let length = reader.number(1)?;
                    push!(if code == 0x8c {
                        Object::Text(reader.text(length)?)
                    } else {
                        skip(&mut reader, length)?
                    });
                }
                b'c' => {
                    let (module, name) = (reader.line()?, reader.line()?);
                    push!(Object::Class(format!("{module}.{name}")));
                }
                0x93 => {
                    let (name, module) = (pop!(), pop!());
                    match (&pickle.objects[module], &pickle.objects[name]) {
                        (Object::Text(module), Object::Text(name)) => {
                            push!(Object::Class(format!("{module}.{name}")))
                        }
                        _ => return Err(fault("a class without a name", at)),
                    }
                }
                b't' => {
                    let items = since_mark!();
                    push!(Object::Tuple(items));
                }
                0x85..=0x87 => {
                    let count = usize::from(code - 0x84);
                    let from = stack.len().checked_sub(count).ok_or_else(empty)?;
                    let items = stack.split_off(from);
                    push!(Object::Tuple(items));
                }
                b'q' | b'r' => {
                    let place = reader.number(if code == b'q' { 1 } else { 4 })?;
                    memo.insert(place, *stack.last().ok_or_else(empty)?);
                }
                0x94 => {
                    memo.insert(memo.len(), *stack.last().ok_or_else(empty)?);
                }
                b'h' | b'j' => {
                    let place = reader.number(if code == b'h' { 1 } else { 4 })?;
                    stack.push(
                        *memo
                            .get(&place)
                            .ok_or_else(|| fault("a reference to nothing", at))?,
                    );
                }
                b'Q' => {
                    let identity = pop!();
                    push!(Object::Persistent(identity));
                }
                b'R' | 0x81 => {
                    let (arguments, class) = (pop!(), pop!());
                    let ordered = matches!(&pickle.objects[class], Object::Class(name) if name == "collections.OrderedDict");
                    push!(if ordered {
                        Object::Dictionary(Vec::new())
                    } else {
                        Object::Call { class, arguments }
                    });
                }
                b'b' => drop(pop!()),
                b's' => {
                    let (value, key) = (pop!(), pop!());
                    pickle.add(*stack.last().ok_or_else(empty)?, &[key, value], at)?;
                }
                b'u' => {
                    let items = since_mark!();
                    pickle.add(*stack.last().ok_or_else(empty)?, &items, at)?;
                }
                b'a' => {
                    let item = pop!();
                    pickle.append(*stack.last().ok_or_else(empty)?, &[item], at)?;
                }
                b'e' | 0x90 => {
                    let items = since_mark!();
                    pickle.append(*stack.last().ok_or_else(empty)?, &items, at)?;
                }
                b'0' => drop(pop!()),
                b'1' => drop(since_mark!()),
                b'2' => stack.push(*stack.last().ok_or_else(empty)?),
                b'.' => {
                    pickle.root = pop!();
                    pickle.length = reader.at;
                    return Ok(pickle);
                }
                other => {
                    return Err(fault(
                        format!("operation {other:#04x} is not one of a checkpoint's"),
                        at,
                    ));
                }
            }
        }
    }

    fn add(&mut self, dictionary: usize, items: &[usize], at: usize) -> Result<()> {
        match &mut self.objects[dictionary] {
            Object::Dictionary(pairs) if items.len() % 2 == 0 => {
                pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            // Attributes set on an object that is no dictionary do not concern tensors.
            Object::Call { .. } => Ok(()),
            _ => Err(fault("keys and values for what is no dictionary", at)),
        }
    }

    fn append(&mut self, list: usize, items: &[usize], at: usize) -> Result<()> {
        match &mut self.objects[list] {
            Object::List(list) => {
                list.extend_from_slice(items);
                Ok(())
            }
            Object::Call { .. } => Ok(()),
            _ => Err(fault("items for what is no list", at)),
        }
    }

    /// An object by its index.
    pub(crate) fn object(&self, index: usize) -> &Object {
        &self.objects[index]
    }

    /// The value of a text key in a dictionary.
    pub(crate) fn value(&self, dictionary: usize, key: &str) -> Option<usize> {
        match self.object(dictionary) {
            Object::Dictionary(pairs) => pairs
                .iter()
                .find(|&&(name, _)| matches!(self.object(name), Object::Text(text) if text == key))
                .map(|&(_, value)| value),
            _ => None,
        }
    }

    /// The items of a tuple or list.
    pub(crate) fn items(&self, index: usize) -> &[usize] {
        match self.object(index) {
            Object::Tuple(items) | Object::List(items) => items,
            _ => &[],
        }
    }

    /// A text.
    pub(crate) fn text(&self, index: usize) -> Option<&str> {
        match self.object(index) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An integer that is not negative.
    pub(crate) fn count(&self, index: usize) -> Option<usize> {
        match self.object(index) {
            Object::Integer(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }
}

fn skip(reader: &mut Reader<'_>, length: usize) -> Result<Object> {
    reader.take(length)?;
    Ok(Object::None)
}
