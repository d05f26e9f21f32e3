//! Manual pages: paragraphs of prose out of roff's `man` macros.
//!
//! Left out: comments, examples and synopses (`.nf`, `.EX`), tables, equations, definitions and
//! conditionals. Pages in BSD's other dialect, `mdoc`, give nothing.

/// What ends a part that is left out, by what begins it.
const LEFT_OUT: [(&str, &str); 8] = [
    ("nf", "fi"),
    ("EX", "EE"),
    ("TS", "TE"),
    ("EQ", "EN"),
    ("PS", "PE"),
    ("de", "."),
    ("ig", "."),
    ("SY", "YS"),
];

/// The blocks of a page.
pub(super) fn blocks(page: &str) -> Vec<String> {
    let mut text = Paragraphs::default();
    let mut until: Option<&str> = None;
    for line in page.lines() {
        let Some(request) = line.strip_prefix(['.', '\'']) else {
            if until.is_none() {
                text.add(line);
            }
            continue;
        };
        let request = request.trim_start();
        let (name, arguments) = request.split_once([' ', '\t']).unwrap_or((request, ""));
        if let Some(end) = until {
            if name == end {
                until = None;
            }
            continue;
        }
        if let Some((_, end)) = LEFT_OUT.iter().find(|(begin, _)| *begin == name) {
            text.end();
            until = Some(end);
            continue;
        }
        match name {
            // `mdoc`'s first request.
            "Dd" => return Vec::new(),
            "SH" | "SS" => {
                text.end();
                text.add(&joined(arguments, " "));
                text.end();
            }
            "B" | "I" | "SM" | "SB" | "R" => text.add(&joined(arguments, " ")),
            "BR" | "RB" | "IR" | "RI" | "BI" | "IB" | "MR" => text.add(&joined(arguments, "")),
            // The address of a link is left out, its text and what follows it are not.
            "UE" | "ME" => text.attach(arguments),
            "PP" | "P" | "LP" | "HP" | "IP" | "RS" | "RE" | "sp" | "br" | "TQ" | "OP" => text.end(),
            "TP" => {
                text.end();
                // The next line is a label, mostly an option or a constant.
                text.label = true;
            }
            _ => {}
        }
    }
    text.end();
    text.blocks
}

#[derive(Default)]
struct Paragraphs {
    blocks: Vec<String>,
    block: String,
    /// The next line is a block of its own.
    label: bool,
}

impl Paragraphs {
    fn add(&mut self, line: &str) {
        if line.trim().is_empty() {
            return self.end();
        }
        if !self.block.is_empty() {
            self.block.push(' ');
        }
        self.block.push_str(&unescape(line));
        if std::mem::take(&mut self.label) {
            self.end();
        }
    }

    fn attach(&mut self, text: &str) {
        self.block.push_str(&unescape(text));
    }

    fn end(&mut self) {
        self.label = false;
        if !self.block.is_empty() {
            self.blocks.push(std::mem::take(&mut self.block));
        }
    }
}

/// A request's arguments: split at spaces outside of quotes.
fn joined(arguments: &str, separator: &str) -> String {
    let mut all = Vec::new();
    let mut rest = arguments.trim_start();
    while !rest.is_empty() {
        let (argument, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted.split_once('"').unwrap_or((quoted, ""))
        } else {
            let end = unescaped_space(rest);
            (&rest[..end], &rest[end..])
        };
        // Within a request, a comment ends the arguments.
        if argument.starts_with("\\\"") {
            break;
        }
        all.push(argument);
        rest = after.trim_start();
    }
    all.join(separator)
}

fn unescaped_space(text: &str) -> usize {
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match c {
            '\\' => escaped = !escaped,
            ' ' | '\t' if !escaped => return index,
            _ => escaped = false,
        }
    }
    text.len()
}

/// A line without roff's escapes.
fn unescape(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        let Some(escape) = chars.next() else { break };
        match escape {
            '-' => text.push('-'),
            'e' | '\\' => text.push('\\'),
            '\'' | '`' => text.push(escape),
            ' ' | '~' | '0' => text.push(' '),
            // A comment to the end of the line.
            '"' | '#' => break,
            '(' => {
                let name: String = chars.by_ref().take(2).collect();
                text.push_str(special(&name));
            }
            '[' => text.push_str(special(&bracketed(&mut chars))),
            'f' | '*' | 'n' | 'm' | 'F' | 'k' => {
                let name = argument(&mut chars);
                if escape == '*' {
                    text.push_str(special(&name));
                }
            }
            's' => {
                // A size: a sign and digits.
                while chars.next_if(|c| c.is_ascii_digit() || "+-".contains(*c)).is_some() {}
            }
            'h' | 'v' | 'w' | 'l' | 'L' | 'b' | 'o' | 'D' | 'X' | 'Z' => {
                if let Some(quote) = chars.next() {
                    chars.by_ref().take_while(|c| *c != quote).for_each(drop);
                }
            }
            '.' => text.push('.'),
            // Zero-width and positioning escapes: `\&`, `\|`, `\^`, `\%`, `\:`, `\/`, `\,`, `\c` …
            _ => {}
        }
    }
    text
}

/// An argument of one character, two after `(`, or any number in brackets.
fn argument(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    match chars.next() {
        Some('(') => chars.by_ref().take(2).collect(),
        Some('[') => bracketed(chars),
        Some(c) => c.to_string(),
        None => String::new(),
    }
}

fn bracketed(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    chars.by_ref().take_while(|c| *c != ']').collect()
}

/// The character that roff calls so; nothing for those that are not text.
fn special(name: &str) -> &'static str {
    match name {
        "aq" | "cq" => "'",
        "oq" => "‘",
        "dq" => "\"",
        "lq" => "“",
        "rq" => "”",
        "Fo" => "«",
        "Fc" => "»",
        "Bq" => "„",
        "em" => "—",
        "en" => "–",
        "hy" | "mi" => "-",
        "bu" => "•",
        "co" => "©",
        "rg" | "R" => "®",
        "Tm" => "™",
        "ha" => "^",
        "ti" => "~",
        "ga" => "`",
        "aa" => "´",
        "rs" => "\\",
        "sl" => "/",
        "ba" | "or" => "|",
        "at" => "@",
        "sh" => "#",
        "Do" => "$",
        "lB" => "[",
        "rB" => "]",
        "lC" => "{",
        "rC" => "}",
        "la" => "⟨",
        "ra" => "⟩",
        "->" => "→",
        "<-" => "←",
        "<=" => "≤",
        ">=" => "≥",
        "!=" => "≠",
        "+-" => "±",
        "mu" => "×",
        "if" => "∞",
        "de" => "°",
        "mc" => "µ",
        "ss" => "ß",
        "'e" => "é",
        "'a" => "á",
        "'o" => "ó",
        "`e" => "è",
        "`a" => "à",
        ":a" => "ä",
        ":o" => "ö",
        ":u" => "ü",
        "^o" => "ô",
        ",c" => "ç",
        "/o" => "ø",
        "oa" => "å",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_kept_and_code_is_not() {
        let page = r#".\" a comment
.TH open 2
.SH NAME
open \- open a file
.SH SYNOPSIS
.nf
.B int open();
.fi
.SH DESCRIPTION
The \fBopen\fP() call opens the \fIfile\fP given by
.IR pathname ,
which it \*(lqnames\*(rq\ !
.PP
See
.BR close (2)
and \(aqthis\(aq.
.TP
.B O_APPEND
Writes go to the end.
.UR https://example.org
the site
.UE .
.TS
a	b
.TE
.de XX
macro
..
Last\c
 line \s-1GNU\s0 \h'1'x.
"#;
        let expected = [
            "NAME",
            "open - open a file",
            "SYNOPSIS",
            "DESCRIPTION",
            "The open() call opens the file given by pathname, which it “names” !",
            "See close(2) and 'this'.",
            "O_APPEND",
            "Writes go to the end. the site.",
            "Last  line GNU x.",
        ];
        assert_eq!(blocks(page), expected);
    }

    #[test]
    fn hostile_and_mdoc_pages_do_not_panic() {
        assert_eq!(blocks(".Dd today\n.Dt X 1\ntext"), Vec::<String>::new());
        for page in ["\\", ".B \"open", "\\f", "\\(a", "\\[abc", "\\s", "\\h'", ".nf\nx", "é\\é\\"]
        {
            blocks(page);
        }
    }
}
