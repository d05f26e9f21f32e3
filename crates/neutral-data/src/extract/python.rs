//! The docstrings of Python files: paragraphs of prose.
//!
//! A docstring is taken to be a triple-quoted string that is the first thing on its line; strings and
//! comments elsewhere are skipped, so that quotes in them do not confuse. Left out of it: examples
//! (`>>>`), tables, definitions of parameters, and what `::` introduces, all of which are indented
//! below a line or marked.

/// The blocks of all docstrings of a file.
pub(super) fn blocks(source: &str) -> Vec<String> {
    docstrings(source).into_iter().flat_map(|(text, raw)| paragraphs(text, raw)).collect()
}

/// Contents of triple-quoted strings that begin their line, and whether they are raw.
fn docstrings(source: &str) -> Vec<(&str, bool)> {
    let bytes = source.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    // Whether only spaces and a prefix (`r`, `u`) were on the line until here.
    let mut fresh = true;
    let mut raw = false;
    while at < bytes.len() {
        let byte = bytes[at];
        match byte {
            b'\n' => {
                fresh = true;
                raw = false;
                at += 1;
            }
            b'#' => at += until(&bytes[at..], b"\n", false),
            b'"' | b'\'' => {
                let triple = [byte; 3];
                let delimiter =
                    if bytes[at..].starts_with(&triple) { &triple[..] } else { &triple[..1] };
                let start = at + delimiter.len();
                let length = until(&bytes[start..], delimiter, true);
                if fresh && delimiter.len() == 3 {
                    found.push((&source[start..start + length], raw));
                }
                at = (start + length + delimiter.len()).min(bytes.len());
                fresh = false;
            }
            b' ' | b'\t' => at += 1,
            b'r' | b'R' | b'u' | b'U' if fresh && !raw => {
                raw = byte.eq_ignore_ascii_case(&b'r');
                at += 1;
            }
            _ => {
                fresh = false;
                at += 1;
            }
        }
    }
    found
}

/// How many bytes come before `end`, past backslashes and what they escape if asked for.
fn until(bytes: &[u8], end: &[u8], escapes: bool) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(end) {
            return at;
        }
        at += if escapes && bytes[at] == b'\\' { 2 } else { 1 };
    }
    bytes.len()
}

fn paragraphs(docstring: &str, raw: bool) -> Vec<String> {
    let mut all = Vec::new();
    let mut paragraph = String::new();
    let mut indent = None;
    // Literal text after `::` lasts while lines are indented deeper than the line with `::`.
    let mut literal_below: Option<usize> = None;
    let mut example = false;
    for line in docstring.lines().chain([""]) {
        let trimmed = line.trim();
        let depth = line.len() - line.trim_start().len();
        let ends = trimmed.is_empty()
            || is_rule(trimmed)
            || trimmed.starts_with(".. ")
            || trimmed.starts_with("- ")
            || trimmed.starts_with("* ")
            || indent.is_some_and(|i| i != depth && !paragraph.is_empty());
        if ends && !paragraph.is_empty() {
            all.push(std::mem::take(&mut paragraph));
        }
        if trimmed.is_empty() {
            example = false;
            continue;
        }
        literal_below = literal_below.filter(|outer| depth > *outer);
        example |= trimmed.starts_with(">>>") || trimmed.starts_with("...");
        let directive = trimmed.starts_with(".. ") && trimmed.contains("::");
        if literal_below.is_none() && !example && !is_rule(trimmed) && !directive {
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            let text = trimmed.strip_prefix("- ").or(trimmed.strip_prefix("* ")).unwrap_or(trimmed);
            let text = text.strip_prefix(".. ").unwrap_or(text);
            paragraph.push_str(&plain(text, raw));
        }
        if literal_below.is_none() && trimmed.ends_with("::") {
            literal_below = Some(depth);
        }
        // The first line follows the quotes, so its depth says nothing of the next one's.
        indent = (!std::ptr::eq(line.as_ptr(), docstring.as_ptr())).then_some(depth);
    }
    all
}

/// Underlines of headings and borders of tables.
fn is_rule(line: &str) -> bool {
    line.len() >= 3 && line.chars().all(|c| "=-~+^#*| ".contains(c))
}

/// Without reStructuredText's marks for code, roles and emphasis.
fn plain(text: &str, raw: bool) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    // `:role:`target`` keeps the target.
    while let Some(at) = rest.find(":`") {
        let before = &rest[..at];
        let role = before.rfind(|c: char| !(c.is_ascii_alphanumeric() || "-_.:+".contains(c)));
        let start = role.map_or(0, |r| r + before[r..].chars().next().map_or(1, char::len_utf8));
        let is_role = before[start..].starts_with(':') && before.len() > start + 1;
        plain.push_str(if is_role { &before[..start] } else { &rest[..=at] });
        rest = &rest[at + 1..];
        if let (true, Some(end)) = (is_role, rest[1..].find('`')) {
            plain.push_str(rest[1..=end].trim_start_matches('~'));
            rest = &rest[end + 2..];
        }
    }
    plain.push_str(rest);
    let plain = plain.replace("``", "").replace(['`'], "").replace("**", "");
    if raw { plain } else { plain.replace("\\\\", "\\") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_of_docstrings_is_kept_and_code_is_not() {
        let source = r#"# a comment with """ in it
x = "not \" a docstring"
y = """neither is this"""
def f():
    r"""Compute the ``thing`` with :func:`numpy.dot`.

    A longer text that
    goes on, see: `ratio`.

    Parameters
    ----------
    x : array
        The first
        argument.

    Examples
    --------
    >>> f(1)
    2

    For example::

        code = here

    After the code.
    - an item
    """
    return '''no'''
'''unended é'''"#;
        let expected = [
            "Compute the thing with numpy.dot.",
            "A longer text that goes on, see: ratio.",
            "Parameters",
            "x : array",
            "The first argument.",
            "Examples",
            "For example::",
            "After the code.",
            "an item",
            "unended é",
        ];
        assert_eq!(blocks(source), expected);
    }

    #[test]
    fn broken_sources_do_not_panic() {
        for source in ["\"\"\"", "'''\\", "r\"\"\"é\\", "\"é", "\"\"\":`", "\"\"\"x :é:`y\"\"\""]
        {
            blocks(source);
        }
    }
}
