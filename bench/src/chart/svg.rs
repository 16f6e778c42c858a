//! The few shapes of which the charts are made, as SVG.
//!
//! Own code, since it is a page: what the drawing libraries bring (fonts, canvases, layout) is what
//! these charts must not need. Colours follow the reader's light or dark scheme, on a ground of
//! their own, and text is in the reader's own font.

use std::fmt::Write as _;

const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}\
.title{font-size:18px;font-weight:600}.name{font-size:13px;font-weight:600}\
.small{font-size:11px;fill:#59636e}.strong{font-weight:600}.warn{fill:#cf222e}\
.ground{fill:#fff}.ours{fill:#bc4c00}.peer{fill:#8c959f}.floor{fill:#d1d9e0}\
.axis{stroke:#818b98;stroke-width:1}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.small{fill:#9198a1}.warn{fill:#f85149}\
.ground{fill:#0d1117}.ours{fill:#f0883e}.peer{fill:#6e7681}.floor{fill:#3d444d}\
.axis{stroke:#656c76}}";

/// A drawing; lengths in pixels.
#[derive(Debug)]
pub(super) struct Svg {
    width: f64,
    body: String,
}

impl Svg {
    pub(super) fn new(width: f64) -> Self {
        Self { width, body: String::new() }
    }

    pub(super) fn bar(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        let _ = writeln!(
            self.body,
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="1.5"/>"#
        );
    }

    /// A line straight down.
    pub(super) fn axis(&mut self, (x, y): (f64, f64), length: f64) {
        let end = y + length;
        let _ = writeln!(
            self.body,
            r#"<line class="axis" x1="{x:.1}" y1="{y:.1}" x2="{x:.1}" y2="{end:.1}"/>"#
        );
    }

    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let text = escaped(text);
        let _ = writeln!(self.body, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{text}</text>"#);
    }

    /// The file. What a screen reader says first is `title`, then `about`.
    pub(super) fn finish(self, height: f64, title: &str, about: &str) -> String {
        let (Self { width, body }, title, about) = (self, escaped(title), escaped(about));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\">\n\
             <title>{title}</title>\n<desc>{about}</desc>\n<style>{STYLE}</style>\n\
             <rect class=\"ground\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>\n{body}</svg>\n"
        )
    }
}

/// Text as it may stand in XML: markup is made harmless, what XML 1.0 forbids is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => {}
            letter if letter.is_control() && letter != '\n' && letter != '\t' => {}
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_texts_is_harmless() {
        assert_eq!(escaped("a<b>&\"c'\u{0}\u{1b}µ"), "a&lt;b&gt;&amp;&quot;c&#39;µ");
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        let mut svg = Svg::new(10.0);
        svg.text("small", (1.0, 2.0), "x");
        let text = svg.finish(5.0, "t", "a");
        assert_eq!(text.matches("http").count(), 1, "the name space alone: {text}");
        for word in ["url(", "@import", "href", "<script"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
}
