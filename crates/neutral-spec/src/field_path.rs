//! `methods[1].method.budget`: where in an experiment a value stands.

use std::fmt;

/// The way from the top of the file to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldPath(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Key(String),
    Index(usize),
}

impl FieldPath {
    /// The path that a sweep's key spells: `training.learning_rate`.
    pub(crate) fn dotted(text: &str) -> Self {
        Self(text.split('.').map(|key| Segment::Key(key.to_owned())).collect())
    }

    /// The path of an entry of the mapping here.
    pub(crate) fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.to_owned()))
    }

    /// The path of an element of the list here.
    pub(crate) fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    fn with(&self, segment: Segment) -> Self {
        let mut path = self.clone();
        path.0.push(segment);
        path
    }

    /// This path, then that one.
    pub(crate) fn join(&self, rest: &Self) -> Self {
        Self(self.0.iter().chain(&rest.0).cloned().collect())
    }

    /// The path of the value around this one.
    pub(crate) fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    /// What follows `start`, if this path begins with it.
    pub(crate) fn after(&self, start: &Self) -> Option<Self> {
        Some(Self(self.0.strip_prefix(start.0.as_slice())?.to_vec()))
    }

    /// Is this the top of the file?
    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        for (i, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if key.is_empty() || !key.chars().all(plain) => {
                    write!(f, "[{key:?}]")?;
                }
                Segment::Key(key) if i == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_one_would_write_it() {
        let path = FieldPath::dotted("methods").index(1).key("sweep").key("grid").key("a.b");
        assert_eq!(path.to_string(), r#"methods[1].sweep.grid["a.b"]"#);
        assert_eq!(path.parent().unwrap().to_string(), "methods[1].sweep.grid");
        let start = FieldPath::dotted("methods").index(1);
        assert_eq!(path.after(&start).unwrap().to_string(), r#"sweep.grid["a.b"]"#);
        assert_eq!(path.after(&FieldPath::dotted("data")), None);
    }
}
