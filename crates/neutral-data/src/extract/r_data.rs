//! R's lazy-load databases: `<name>.rdb` holds compressed values, `<name>.rdx` says where.
//!
//! Every character vector is a text, one element a line, as in packages of novels.

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::{GzDecoder, ZlibDecoder};

use super::Sink;
use super::files::Found;
use super::rows::{self, Cutter};
use super::xdr::{self, Value};
use crate::DataError;

/// No text is larger; a file that claims to be is refused before it fills the memory.
const MAX_BYTES: u64 = 1 << 30;

/// Documents `<variable>#<number>` of about `document_bytes` each.
pub(super) fn documents(
    file: &Found,
    document_bytes: usize,
    sink: &mut Sink<'_>,
) -> Result<(), DataError> {
    let index_path = file.path.with_extension("rdx");
    let index = index(&index_path).map_err(|m| DataError::extract(&index_path, m))?;
    let database = fs::read(&file.path).map_err(|e| DataError::io("read", &file.path, e))?;
    for (name, offset, length) in index {
        let bad = |m: String| DataError::extract(&file.path, format!("`{name}` {m}"));
        let value = value(&database, offset, length).map_err(bad)?;
        if let Value::Strings(lines) = value {
            let mut cutter = Cutter::new(&name, document_bytes, sink);
            rows::paragraphs(lines.into_iter().map(Ok), &mut |p| cutter.push(p))?;
            cutter.finish()?;
        }
    }
    Ok(())
}

/// Names, offsets and lengths of the variables, sorted by name.
fn index(path: &Path) -> Result<Vec<(String, usize, usize)>, String> {
    let file = fs::File::open(path).map_err(|e| e.to_string())?;
    let bytes = inflate(GzDecoder::new(file))?;
    let Value::List(parts, part_names) = xdr::read(&bytes)? else {
        return Err("is not an index: no list".into());
    };
    let variables = part_names.iter().position(|n| n == "variables").and_then(|i| parts.get(i));
    let Some(Value::List(places, names)) = variables else {
        return Err("is not an index: no `variables`".into());
    };
    if places.len() != names.len() {
        return Err(format!("has {} places for {} names", places.len(), names.len()));
    }
    let place = |(name, place): (&String, &Value)| match place {
        Value::Integers(pair) if pair.len() == 2 => {
            match (usize::try_from(pair[0]), usize::try_from(pair[1])) {
                (Ok(offset), Ok(length)) => Ok((name.clone(), offset, length)),
                _ => Err(format!("has a negative place for `{name}`")),
            }
        }
        _ => Err(format!("has no place for `{name}`")),
    };
    let mut index = names.iter().zip(places).map(place).collect::<Result<Vec<_>, _>>()?;
    index.sort();
    Ok(index)
}

/// A value of the database: its length in 4 bytes, then zlib.
fn value(database: &[u8], offset: usize, length: usize) -> Result<Value, String> {
    let end = offset.checked_add(length).ok_or("has an impossible place")?;
    let bytes = database.get(offset..end).ok_or("lies beyond the end of the file")?;
    let (_, packed) = bytes.split_at_checked(4).ok_or("is too short")?;
    match packed.first() {
        Some(b'2') => Err("is packed with bzip2, which is not read".into()),
        Some(b'Z') => Err("is packed with xz, which is not read".into()),
        _ => xdr::read(&inflate(ZlibDecoder::new(packed))?),
    }
}

fn inflate(packed: impl Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    packed.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("unpacks to more than {MAX_BYTES} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    /// Writes what `saveRDS` and `makeLazyLoadDB` write.
    #[derive(Default)]
    struct Xdr(Vec<u8>);

    impl Xdr {
        fn new() -> Self {
            let mut xdr = Self(b"X\n".to_vec());
            xdr.ints(&[3, 0x0004_0201, 0x0003_0500, 5]);
            xdr.0.extend(b"UTF-8");
            xdr
        }
        fn ints(&mut self, ints: &[i32]) {
            self.0.extend(ints.iter().flat_map(|i| i.to_be_bytes()));
        }
        fn string(&mut self, text: &str) {
            self.ints(&[0x0004_0009, text.len() as i32]);
            self.0.extend(text.as_bytes());
        }
        fn strings(&mut self, texts: &[&str]) {
            self.ints(&[16, texts.len() as i32]);
            for text in texts {
                self.string(text);
            }
        }
        fn names(&mut self, first: bool, names: &[&str]) {
            self.ints(&[0x402]);
            if first {
                self.ints(&[1]);
                self.string("names");
            } else {
                self.ints(&[0x1ff]);
            }
            self.strings(names);
            self.ints(&[0xfe]);
        }
    }

    fn database(folder: &Path, lines: &[&str], place: impl Fn(usize) -> [i32; 2]) -> Found {
        let mut text = Xdr::new();
        text.strings(lines);
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&text.0).unwrap();
        let mut rdb = (text.0.len() as i32).to_be_bytes().to_vec();
        rdb.extend(zlib.finish().unwrap());
        let mut index = Xdr::new();
        index.ints(&[0x213, 2, 0x213, 1, 13, 2]);
        index.ints(&place(rdb.len()));
        index.names(true, &["emma"]);
        index.ints(&[10, 1, 1]);
        index.names(false, &["variables", "compressed"]);
        let path = folder.join("Rdata.rdb");
        fs::write(&path, rdb).unwrap();
        let file = fs::File::create(folder.join("Rdata.rdx")).unwrap();
        let mut gz = GzEncoder::new(file, Compression::default());
        gz.write_all(&index.0).unwrap();
        gz.finish().unwrap();
        Found { path, id: "Rdata.rdb".into() }
    }

    fn read(found: &Found) -> Result<Vec<(String, Vec<String>)>, DataError> {
        let mut all = Vec::new();
        documents(found, 20, &mut |batch| {
            all.extend(batch.into_iter().map(|d| (d.id, d.blocks)));
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn a_character_vector_becomes_documents_of_paragraphs() {
        let folder = tempfile::tempdir().unwrap();
        let lines = ["EMMA", "", "Emma Woodhouse,", "handsome", "", "", "Sixteen years"];
        let found = database(folder.path(), &lines, |n| [0, n as i32]);
        let expected = [
            (
                "emma#00000".to_owned(),
                vec!["EMMA".to_owned(), "Emma Woodhouse, handsome".to_owned()],
            ),
            ("emma#00001".to_owned(), vec!["Sixteen years".to_owned()]),
        ];
        assert_eq!(read(&found).unwrap(), expected);
    }

    #[test]
    fn hostile_places_and_damage_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        for place in [[0, i32::MAX], [-1, 4], [i32::MAX, i32::MAX], [0, 3], [0, 9]] {
            let found = database(folder.path(), &["a"], |_| place);
            assert!(read(&found).unwrap_err().to_string().contains("emma"), "{place:?}");
        }
        // Every truncation and every changed byte is an error or other data, never a panic.
        let mut text = Xdr::new();
        text.ints(&[0x213, 1, 13, 2, 1, 2]);
        text.names(true, &["emma"]);
        assert!(xdr::read(&text.0).is_ok());
        for at in 0..text.0.len() {
            assert!(xdr::read(&text.0[..at]).is_err());
            for byte in [0, 0x13, 0x7f, 0xff] {
                let mut changed = text.0.clone();
                changed[at] = byte;
                let _ = xdr::read(&changed);
            }
        }
    }
}
