//! Text in columns.

/// Rows in columns; those that are `right` stand flush right.
pub(crate) fn aligned(rows: &[Vec<String>], right: &[bool]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..right.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(&widths).zip(right) {
            let space = " ".repeat(width - cell.chars().count());
            let (before, after) = if *right { (&*space, "") } else { ("", &*space) };
            line += &format!("{before}{cell}{after}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "1"], ["bcd", "1,000"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(&rows, &[false, true]), "a        1\nbcd  1,000\n");
    }
}
