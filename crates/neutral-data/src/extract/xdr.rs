//! A reader for R's serialized values (XDR, versions 2 and 3): what lists of strings need.
//!
//! Input is not trusted: lengths are checked against what is left before anything is allocated,
//! and depth is limited. Closures, environments and code are refused.

/// A value, as far as it is of use here.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// `NULL`, and names of variables.
    Nothing,
    /// A character vector; missing strings are empty.
    Strings(Vec<String>),
    /// Logical and integer vectors.
    Integers(Vec<i32>),
    /// A list and its names.
    List(Vec<Value>, Vec<String>),
    /// A vector of a kind that is read over.
    Other,
}

const MAX_DEPTH: usize = 64;

/// Reads one serialized value.
pub(super) fn read(bytes: &[u8]) -> Result<Value, String> {
    let mut reader = Reader { rest: bytes, symbols: Vec::new() };
    if reader.take(2)? != b"X\n" {
        return Err("is not R's binary XDR format".into());
    }
    let version = reader.int()?;
    reader.take(8)?;
    match version {
        2 => {}
        3 => {
            let length = reader.length(1)?;
            reader.take(length)?;
        }
        _ => return Err(format!("is R's format {version}; 2 and 3 are known")),
    }
    reader.value(0)
}

struct Reader<'a> {
    rest: &'a [u8],
    /// Names of the symbols so far: a repeated one is written as its number.
    symbols: Vec<String>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or("ends in the middle of a value")?;
        self.rest = rest;
        Ok(head)
    }

    fn int(&mut self) -> Result<i32, String> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.take(4)?);
        Ok(i32::from_be_bytes(bytes))
    }

    /// A length in elements of at least `size` bytes each, all of which must still be there.
    fn length(&mut self, size: usize) -> Result<usize, String> {
        let n = self.int()?;
        match usize::try_from(n) {
            Ok(n) if n <= self.rest.len() / size => Ok(n),
            _ => Err(format!("has a length of {n}, which is more than the file holds")),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err("nests too deep".into());
        }
        let flags = self.int()?;
        let has_attributes = flags & 0x200 != 0;
        let mut value = match flags & 0xff {
            // NULL, the empty environment, the base ones, missing arguments.
            0xf1..=0xfe => Value::Nothing,
            // A reference to a symbol: its index is packed into the flags, or follows.
            0xff => {
                self.symbol(flags)?;
                Value::Nothing
            }
            1 => {
                self.symbol(flags)?;
                Value::Nothing
            }
            2 => return self.pairs(flags, depth),
            9 => Value::Strings(vec![self.string()?]),
            10 | 13 => {
                let n = self.length(4)?;
                Value::Integers((0..n).map(|_| self.int()).collect::<Result<_, _>>()?)
            }
            14 => self.skip(8)?,
            15 => self.skip(16)?,
            24 => self.skip(1)?,
            16 => {
                let n = self.length(8)?;
                let mut strings = Vec::with_capacity(n);
                for _ in 0..n {
                    if self.int()? & 0xff != 9 {
                        return Err("has a character vector of something else".into());
                    }
                    strings.push(self.string()?);
                }
                Value::Strings(strings)
            }
            19 | 20 => {
                let n = self.length(4)?;
                let items = (0..n).map(|_| self.value(depth + 1)).collect::<Result<_, _>>()?;
                Value::List(items, Vec::new())
            }
            kind => return Err(format!("holds a value of R's type {kind}, which is not data")),
        };
        if has_attributes && flags & 0xff != 9 {
            let attributes = self.value(depth + 1)?;
            if let (Value::List(_, names), Value::List(values, keys)) = (&mut value, attributes) {
                let named = keys.iter().zip(values).find(|(key, _)| *key == "names");
                if let Some((_, Value::Strings(found))) = named {
                    *names = found;
                }
            }
        }
        Ok(value)
    }

    /// A linked list: its values, named by its tags. Read in a loop, for it may be long.
    fn pairs(&mut self, mut flags: i32, depth: usize) -> Result<Value, String> {
        let (mut values, mut names) = (Vec::new(), Vec::new());
        while flags & 0xff == 2 {
            if flags & 0x200 != 0 {
                self.value(depth + 1)?;
            }
            let name = if flags & 0x400 == 0 { String::new() } else { self.tag()? };
            values.push(self.value(depth + 1)?);
            names.push(name);
            flags = self.int()?;
        }
        if flags & 0xff == 0xfe {
            Ok(Value::List(values, names))
        } else {
            Err("has a list that does not end".into())
        }
    }

    fn tag(&mut self) -> Result<String, String> {
        let flags = self.int()?;
        self.symbol(flags)
    }

    /// The name of a symbol, or of the one that a reference means: its number is packed into the
    /// flags, or follows them.
    fn symbol(&mut self, flags: i32) -> Result<String, String> {
        match flags & 0xff {
            1 => {
                if self.int()? & 0xff != 9 {
                    return Err("has a symbol without a name".into());
                }
                let name = self.string()?;
                self.symbols.push(name.clone());
                Ok(name)
            }
            0xff => {
                let index = if flags >> 8 == 0 { self.int()? } else { flags >> 8 };
                let place = usize::try_from(index).ok().and_then(|index| index.checked_sub(1));
                let name = place.and_then(|place| self.symbols.get(place)).cloned();
                name.ok_or_else(|| format!("refers to symbol {index}, which it does not have"))
            }
            kind => Err(format!("has a tag of R's type {kind}, which is no symbol")),
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let n = self.int()?;
        if n == -1 {
            return Ok(String::new());
        }
        let n = usize::try_from(n).map_err(|_| format!("has a string of {n} bytes"))?;
        String::from_utf8(self.take(n)?.to_vec()).map_err(|e| e.to_string())
    }

    fn skip(&mut self, size: usize) -> Result<Value, String> {
        let n = self.length(size)?;
        self.take(n * size)?;
        Ok(Value::Other)
    }
}
