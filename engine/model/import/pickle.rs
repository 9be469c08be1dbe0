//! Reader for the subset of Python's pickle format that checkpoints use; executes no code.
//!
//! Objects are stored in one vector and refer to each other by index, so that memory is bounded by the bytes read.
//! Classes and calls are kept as names; only what describes tensors is interpreted.

use std::collections::HashMap;

use crate::{Error, ErrorKind, Result};

/// Operations of a pickle at most: each adds up to 40 bytes to memory. A checkpoint has about 30 for each tensor.
const MOST_OPERATIONS: usize = 1 << 20;

/// Bytes of a name at most. Operations can use a text many times that is in the file once.
pub(crate) const LONGEST_NAME: usize = 512;

/// An unpickled object; references are indices into [`Pickle`].
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
    /// Length of the pickle in bytes.
    pub(crate) length: usize,
}

fn invalid(what: impl Into<String>, at: usize) -> Error {
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
            return Err(invalid("the file ends within an object", self.at));
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
            .ok_or_else(|| invalid("a line has no end", self.at))?;
        let line = self.text(end)?;
        self.at += 1;
        Ok(line)
    }

    fn text(&mut self, length: usize) -> Result<String> {
        let at = self.at;
        String::from_utf8(self.take(length)?.to_vec())
            .map_err(|_| invalid("a name is not UTF-8", at))
    }
}

/// The stack machine that executes pickle operations; the stack and the memo hold object indices.
struct Machine<'a> {
    reader: Reader<'a>,
    objects: Vec<Object>,
    stack: Vec<usize>,
    /// Stack heights at which MARK was executed.
    marks: Vec<usize>,
    memo: HashMap<usize, usize>,
    /// Offset of the current operation, for errors.
    at: usize,
}

impl Machine<'_> {
    fn empty(&self) -> Error {
        invalid("an operation finds too few objects on the stack", self.at)
    }

    fn push(&mut self, object: Object) {
        self.objects.push(object);
        self.stack.push(self.objects.len() - 1);
    }

    fn pop(&mut self) -> Result<usize> {
        self.stack.pop().ok_or_else(|| self.empty())
    }

    fn top(&self) -> Result<usize> {
        self.stack.last().copied().ok_or_else(|| self.empty())
    }

    /// Pop all objects pushed since the last mark.
    fn since_mark(&mut self) -> Result<Vec<usize>> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        let mark = mark.ok_or_else(|| self.empty())?;
        Ok(self.stack.split_off(mark))
    }

    /// Execute operations up to STOP and return the index of the pickled object.
    fn run(&mut self) -> Result<usize> {
        for _ in 0..MOST_OPERATIONS {
            self.at = self.reader.at;
            let code = self.reader.take(1)?[0];
            if code == b'.' {
                return self.pop();
            }
            if let Some(object) = self.constant(code)? {
                self.push(object);
            } else if !self.build(code)? {
                self.rearrange(code)?;
            }
        }
        let what = format!("the pickle has more than {MOST_OPERATIONS} operations");
        Err(invalid(what, self.at).advice("save the state dict of the model alone"))
    }

    /// Creates the object of a class from its module and name.
    fn class(&self, module: &str, name: &str) -> Result<Object> {
        if module.len() + name.len() > LONGEST_NAME {
            return Err(invalid("a class name is too long", self.at));
        }
        Ok(Object::Class(format!("{module}.{name}")))
    }

    /// Return the object of an operation whose operands follow it in the file.
    fn constant(&mut self, code: u8) -> Result<Option<Object>> {
        let reader = &mut self.reader;
        Ok(Some(match code {
            b'}' => Object::Dictionary(Vec::new()),
            b']' | 0x8f => Object::List(Vec::new()),
            b')' => Object::Tuple(Vec::new()),
            b'N' => Object::None,
            0x88 => Object::Bool(true),
            0x89 => Object::Bool(false),
            b'J' => Object::Integer(i64::from(reader.number(4)? as u32 as i32)),
            b'K' => Object::Integer(reader.number(1)? as i64),
            b'M' => Object::Integer(reader.number(2)? as i64),
            0x8a => {
                let length = reader.number(1)?;
                let bytes = reader.take(length)?;
                let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                let start = if negative { -1i64 } else { 0 };
                let value = bytes
                    .iter()
                    .rev()
                    .fold(start, |value, &byte| value << 8 | i64::from(byte));
                // Only the magic number of legacy files exceeds 64 bits; its value is never used.
                Object::Integer(if length > 8 { 0 } else { value })
            }
            b'G' => {
                let bytes: [u8; 8] = reader.take(8)?.try_into().expect("eight bytes");
                Object::Float(f64::from_be_bytes(bytes))
            }
            b'X' | 0x8c => {
                let length = reader.number(if code == b'X' { 4 } else { 1 })?;
                Object::Text(reader.text(length)?)
            }
            // Byte strings never describe a tensor.
            b'T' | b'B' | b'U' | b'C' => {
                let length = reader.number(if matches!(code, b'T' | b'B') { 4 } else { 1 })?;
                reader.take(length)?;
                Object::None
            }
            b'c' => {
                let (module, name) = (reader.line()?, reader.line()?);
                self.class(&module, &name)?
            }
            _ => return Ok(None),
        }))
    }

    /// Execute an operation that builds an object from others; return whether `code` is one.
    fn build(&mut self, code: u8) -> Result<bool> {
        match code {
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Object::Text(module), Object::Text(name)) =
                    (&self.objects[module], &self.objects[name])
                else {
                    return Err(invalid("a class has no name", self.at));
                };
                let class = self.class(module, name)?;
                self.push(class);
            }
            b't' => {
                let items = self.since_mark()?;
                self.push(Object::Tuple(items));
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(code - 0x84));
                let items = self.stack.split_off(from.ok_or_else(|| self.empty())?);
                self.push(Object::Tuple(items));
            }
            b'Q' => {
                let identity = self.pop()?;
                self.push(Object::Persistent(identity));
            }
            b'R' | 0x81 => {
                let (arguments, class) = (self.pop()?, self.pop()?);
                let ordered = matches!(&self.objects[class], Object::Class(name) if name == "collections.OrderedDict");
                self.push(if ordered {
                    Object::Dictionary(Vec::new())
                } else {
                    Object::Call { class, arguments }
                });
            }
            // The state of an object does not concern tensors.
            b'b' => drop(self.pop()?),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.add(&[key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.add(&items)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' | 0x90 => {
                let items = self.since_mark()?;
                self.append(&items)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Execute an operation on the stack, the marks or the memo.
    fn rearrange(&mut self, code: u8) -> Result<()> {
        match code {
            // Protocol version and frame length: nothing depends on them.
            0x80 => drop(self.reader.take(1)?),
            0x95 => drop(self.reader.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'q' | b'r' => {
                let index = self.reader.number(if code == b'q' { 1 } else { 4 })?;
                self.memo.insert(index, self.top()?);
            }
            0x94 => {
                self.memo.insert(self.memo.len(), self.top()?);
            }
            b'h' | b'j' => {
                let index = self.reader.number(if code == b'h' { 1 } else { 4 })?;
                let object = self.memo.get(&index).copied();
                let missing = || invalid(format!("memo entry {index} is missing"), self.at);
                self.stack.push(object.ok_or_else(missing)?);
            }
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => self.stack.push(self.top()?),
            other => {
                let what = format!("operation {other:#04x} does not occur in checkpoints");
                return Err(invalid(what, self.at));
            }
        }
        Ok(())
    }

    /// Add keys and values, in turn, to the dictionary on top of the stack.
    fn add(&mut self, items: &[usize]) -> Result<()> {
        let dictionary = self.top()?;
        match &mut self.objects[dictionary] {
            Object::Dictionary(pairs) if items.len() % 2 == 0 => {
                pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            // Items of other objects do not concern tensors.
            Object::Call { .. } => Ok(()),
            _ => Err(invalid("keys and values need a dictionary", self.at)),
        }
    }

    /// Append to the list on top of the stack.
    fn append(&mut self, items: &[usize]) -> Result<()> {
        let list = self.top()?;
        match &mut self.objects[list] {
            Object::List(list) => {
                list.extend_from_slice(items);
                Ok(())
            }
            Object::Call { .. } => Ok(()),
            _ => Err(invalid("items need a list", self.at)),
        }
    }
}

impl Pickle {
    /// Read one pickle from the beginning of `bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] with the offset of what is not a pickle, or uses more of Python than tensors need.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let mut machine = Machine {
            reader: Reader { bytes, at: 0 },
            objects: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            at: 0,
        };
        let root = machine.run()?;
        Ok(Self {
            objects: machine.objects,
            root,
            length: machine.reader.at,
        })
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

    /// The items of a tuple or list; empty for other objects.
    pub(crate) fn items(&self, index: usize) -> &[usize] {
        match self.object(index) {
            Object::Tuple(items) | Object::List(items) => items,
            _ => &[],
        }
    }

    /// The characters of a text object that is short enough for a name.
    pub(crate) fn name(&self, index: usize) -> Option<&str> {
        match self.object(index) {
            Object::Text(text) if text.len() <= LONGEST_NAME => Some(text),
            _ => None,
        }
    }

    /// The value of an integer that is not negative.
    pub(crate) fn count(&self, index: usize) -> Option<usize> {
        match self.object(index) {
            Object::Integer(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }
}
