//! Tensors by name, those of equal blocks as one row.

use neutral_report::thousands;
use neutral_torch::{TensorFile, TorchError};
use serde::Serialize;

use super::facts::shorten;

/// One tensor, or one a block.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct TensorRow {
    /// `layers.{0..29}.mlp.adapter.w_i`.
    pub name: String,
    /// The kind of number.
    pub kind: String,
    /// Of each.
    pub shape: Vec<i64>,
    /// How many tensors.
    pub tensors: usize,
    /// Numbers in all of them.
    pub parameters: u64,
}

/// Names, kinds and shapes of a file's tensors.
pub(super) fn of_file(file: &TensorFile) -> Result<Vec<(String, String, Vec<i64>)>, TorchError> {
    let names = file.names().into_iter();
    let describe = |name: String| {
        let (kind, shape) = file.describe(&name)?;
        Ok((name, format!("{kind:?}"), shape))
    };
    names.map(describe).collect()
}

/// Puts tensors together whose names differ only in the number of the block.
pub(super) fn fold(tensors: Vec<(String, String, Vec<i64>)>) -> Vec<TensorRow> {
    let mut groups: indexmap::IndexMap<_, Vec<Option<usize>>> = indexmap::IndexMap::new();
    for (name, kind, shape) in tensors {
        let (template, block) = split(&name);
        groups.entry((template, kind, shape)).or_default().push(block);
    }
    let rows = groups.into_iter().map(|((template, kind, shape), blocks)| {
        let each = shape.iter().fold(1, |product: u64, &n| product.saturating_mul(n as u64));
        let mut numbers: Vec<usize> = blocks.iter().filter_map(|block| *block).collect();
        numbers.sort_unstable();
        let name = template.replacen("{}", &ranges(&numbers), 1);
        let parameters = each.saturating_mul(blocks.len() as u64);
        TensorRow { name, kind, shape, tensors: blocks.len(), parameters }
    });
    rows.collect()
}

/// A name with its first number between dots left out.
fn split(name: &str) -> (String, Option<usize>) {
    let parts: Vec<&str> = name.split('.').collect();
    let found = parts.iter().enumerate().find_map(|(at, part)| {
        // As it would be written, so that it can be put back.
        let number: usize = part.parse().ok()?;
        (number.to_string() == *part).then_some((at, number))
    });
    match found {
        // A brace in a name would be taken for the place of the number.
        Some((at, number)) if !name.contains('{') => {
            let mut template: Vec<&str> = parts;
            template[at] = "{}";
            (template.join("."), Some(number))
        }
        _ => (name.to_owned(), None),
    }
}

/// `7`, `{0..29}`, `{0..3,5}`.
fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [one] => one.to_string(),
        run => format!("{}..{}", run[0], run[run.len() - 1]),
    });
    match numbers {
        [one] => one.to_string(),
        _ => format!("{{{}}}", runs.collect::<Vec<_>>().join(",")),
    }
}

/// The rows as text, with their sum.
pub(super) fn table(rows: &[TensorRow], parameters: u64) -> Vec<Vec<String>> {
    let mut table = vec![["tensor", "kind", "shape", "parameters"].map(str::to_owned).to_vec()];
    table.extend(rows.iter().map(|row| {
        let shape: Vec<_> = row.shape.iter().map(ToString::to_string).collect();
        let times = if row.tensors > 1 { format!("{} × ", row.tensors) } else { String::new() };
        let shape = format!("{times}[{}]", shape.join(", "));
        vec![shorten(&row.name), row.kind.clone(), shape, thousands(row.parameters)]
    }));
    let tensors: usize = rows.iter().map(|row| row.tensors).sum();
    table.push(vec![
        "total".to_owned(),
        String::new(),
        format!("{tensors} tensors"),
        thousands(parameters),
    ]);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_tensors_of_several_blocks_are_one_row() {
        let tensor =
            |name: &str, shape: &[i64]| (name.to_owned(), "Float".to_owned(), shape.to_vec());
        let mut tensors: Vec<_> =
            (0..12).map(|i| tensor(&format!("layers.{i}.w"), &[2, 3])).collect();
        tensors.sort();
        tensors.push(tensor("layers.13.w", &[2, 3]));
        tensors.push(tensor("layers.14.w", &[2, 4]));
        tensors.push(tensor("norm", &[5]));
        let rows = fold(tensors);
        let seen: Vec<_> =
            rows.iter().map(|row| (&*row.name, row.tensors, row.parameters)).collect();
        assert_eq!(seen, [("layers.{0..11,13}.w", 13, 78), ("layers.14.w", 1, 8), ("norm", 1, 5)]);
    }

    #[test]
    fn names_that_only_look_numbered_are_left_alone() {
        for name in ["a.01.b", "a.{}.3", "a.b", ""] {
            assert_eq!(split(name), (name.to_owned(), None));
        }
    }
}
