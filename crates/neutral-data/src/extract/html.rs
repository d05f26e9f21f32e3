//! The text of web pages, block element by block element.

use ego_tree::iter::Edge;
use scraper::{ElementRef, Html, Node, Selector};

/// Elements that do not interrupt a sentence; any other begins and ends a block.
const INLINE: [&str; 38] = [
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em",
    "font", "i", "img", "ins", "kbd", "label", "mark", "meter", "q", "rp", "rt", "ruby", "s",
    "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr",
];

/// Elements whose content is not text.
const SILENT: [&str; 4] = ["script", "style", "template", "noscript"];

/// The blocks below the elements that `select` finds, without what `drop` matches.
///
/// # Errors
/// If a selector is not valid CSS.
pub(super) fn blocks(html: &str, select: &str, drop: &[String]) -> Result<Vec<String>, String> {
    let select = selector(select)?;
    let drop = drop.iter().map(|d| selector(d)).collect::<Result<Vec<_>, _>>()?;
    let page = Html::parse_document(html);
    let mut blocks = Vec::new();
    let mut last: Option<ElementRef<'_>> = None;
    for element in page.select(&select) {
        // What lies within an element that was selected before is there already.
        let within = |outer: ElementRef<'_>| element.ancestors().any(|a| a.id() == outer.id());
        if last.is_none_or(|outer| !within(outer)) {
            walk(element, &drop, &mut blocks);
            last = Some(element);
        }
    }
    Ok(blocks)
}

/// The blocks of a piece of HTML.
pub(super) fn fragment(html: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    walk(Html::parse_fragment(html).root_element(), &[], &mut blocks);
    blocks
}

/// A selector, or what is wrong with it.
pub(super) fn selector(css: &str) -> Result<Selector, String> {
    Selector::parse(css).map_err(|e| format!("`{css}` is not a CSS selector: {e}"))
}

fn walk(root: ElementRef<'_>, drop: &[Selector], blocks: &mut Vec<String>) {
    let mut block = String::new();
    let mut flush = |block: &mut String| {
        if block.contains(|c: char| !c.is_whitespace()) {
            blocks.push(std::mem::take(block));
        }
        block.clear();
    };
    // The node below which everything is left out.
    let mut dropped = None;
    // Not recursive: a page may nest deeper than the stack is high.
    for edge in root.traverse() {
        let (node, opens) = match edge {
            Edge::Open(node) => (node, true),
            Edge::Close(node) => (node, false),
        };
        if let Some(id) = dropped {
            if !opens && node.id() == id {
                dropped = None;
            }
            continue;
        }
        match node.value() {
            Node::Text(text) if opens => block.push_str(text),
            Node::Element(element) => {
                let name = element.name();
                if !INLINE.contains(&name) {
                    flush(&mut block);
                }
                let matches =
                    || ElementRef::wrap(node).is_some_and(|e| drop.iter().any(|d| d.matches(&e)));
                if opens && (SILENT.contains(&name) || matches()) {
                    dropped = Some(node.id());
                }
            }
            _ => {}
        }
    }
    flush(&mut block);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_block_elements_without_what_is_dropped() {
        let html = "<html><body><p>outside</p><div id='DisplayArea'><h1>Title</h1>
            <p>One <b>bold</b> and <code>code</code> word.</p><pre>x = 1</pre>
            <div class='note'><p>A note&nbsp;&eacute;</p></div><ul><li>item<li>other</ul>
            <nav><p>menu</p></nav><p class='skip'>gone</p>tail<script>s()</script> end</div></body></html>";
        let drop = ["pre", "nav", "p.skip"].map(str::to_owned);
        let blocks = blocks(html, "div#DisplayArea", &drop).unwrap();
        let squeezed: Vec<_> =
            blocks.iter().map(|b| b.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected =
            ["Title", "One bold and code word.", "A note é", "item", "other", "tail", "end"];
        assert_eq!(squeezed, expected);
    }

    #[test]
    fn nested_selections_count_once_and_deep_pages_do_not_overflow() {
        let html = "<div><div>inner</div></div><div>second</div>";
        assert_eq!(blocks(html, "div", &[]).unwrap(), ["inner", "second"]);
        let deep = format!("{}x{}", "<div>".repeat(20_000), "</div>".repeat(20_000));
        assert_eq!(fragment(&deep), ["x"]);
    }

    #[test]
    fn a_bad_selector_is_named() {
        assert!(blocks("", "div[", &[]).unwrap_err().contains("`div[` is not a CSS selector"));
    }
}
