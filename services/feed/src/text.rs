//! Plain text out of what catalogues hold: bounded, one line, no control characters; markup of feeds turned to text.

/// The longest title, in characters.
pub const TITLE_CHARS: usize = 300;
/// The longest description, in characters.
pub const DESCRIPTION_CHARS: usize = 4000;
/// The longest credit, in characters.
pub const CREDIT_CHARS: usize = 200;

/// Bounds a text and takes out what does not print. Markup stays as the characters that it is.
pub fn plain(text: &str, most: usize) -> String {
    let mut plain = String::with_capacity(text.len().min(most * 4));
    let mut count = 0;
    let mut gap = false;
    for character in text.chars() {
        if character.is_whitespace() || character.is_control() {
            gap = true;
            continue;
        }
        if turns(character) {
            continue;
        }
        let wanted = 1 + usize::from(gap && count > 0);
        if count + wanted > most.saturating_sub(1) {
            // One place is kept for the sign that something is missing.
            plain.push('…');
            return plain;
        }
        if gap && count > 0 {
            plain.push(' ');
        }
        plain.push(character);
        count += wanted;
        gap = false;
    }
    plain
}

/// The text of an HTML fragment: no tags, no scripts, entities resolved. Whatever comes out is text and must be shown
/// as text: a `<` may be in it.
pub fn from_html(html: &str, most: usize) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = if rest.starts_with('<') {
            tag(rest, &mut text)
        } else {
            entity(rest, &mut text)
        };
        rest = &rest[taken..];
    }
    text.push_str(rest);
    plain(&text, most)
}

/// Passes over one tag, and over all of a script or style; gives how many bytes that took.
fn tag(rest: &str, text: &mut String) -> usize {
    if let Some(comment) = rest.strip_prefix("<!--") {
        return comment.find("-->").map_or(rest.len(), |end| 4 + end + 3);
    }
    let inside = &rest[1..];
    let closing = inside.strip_prefix('/').unwrap_or(inside);
    let name_end = closing
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(closing.len());
    let name = closing[..name_end].to_ascii_lowercase();
    let begins_tag = closing.starts_with(|c: char| c.is_ascii_alphabetic()) || inside.starts_with(['!', '?']);
    let Some(end) = tag_end(rest).filter(|_| begins_tag) else {
        text.push('<');
        return 1;
    };
    if matches!(name.as_str(), "script" | "style") && !inside.starts_with('/') {
        let close = format!("</{name}");
        let lower = rest[end..].to_ascii_lowercase();
        let Some(start) = lower.find(&close) else {
            return rest.len();
        };
        return end + start;
    }
    if !matches!(
        name.as_str(),
        "a" | "abbr" | "b" | "code" | "em" | "i" | "span" | "strong" | "sub" | "sup" | "u"
    ) {
        text.push(' ');
    }
    end
}

/// Where a tag ends; a `>` within quotes does not end it.
fn tag_end(rest: &str) -> Option<usize> {
    let mut quote = None;
    for (at, character) in rest.char_indices().take(4096) {
        match (quote, character) {
            (None, '>') => return Some(at + 1),
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            _ => {}
        }
    }
    None
}

fn entity(rest: &str, text: &mut String) -> usize {
    let end = rest.bytes().take(12).position(|byte| byte == b';');
    let resolved = end.and_then(|end| Some((resolve(&rest[1..end])?, end + 1)));
    let (character, taken) = resolved.unwrap_or(('&', 1));
    text.push(character);
    taken
}

fn resolve(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code);
    }
    let character = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "ndash" => '–',
        "mdash" => '—',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        "hellip" => '…',
        "deg" => '°',
        "times" => '×',
        "copy" => '©',
        "middot" => '·',
        _ => return None,
    };
    Some(character)
}

/// Characters that turn round or hide what is shown.
fn turns(character: char) -> bool {
    matches!(character, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fffe}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_keeps_markup_as_characters() {
        assert_eq!(plain("<b>Mars</b> & Moon", 100), "<b>Mars</b> & Moon");
        assert_eq!(plain("  a\u{0}\u{1b}[31m\r\n\tb\u{202e}c  ", 100), "a [31m bc");
    }

    #[test]
    fn plain_is_bounded_in_characters() {
        assert_eq!(plain("éééé", 5), "éééé");
        let cut = plain(&"é ".repeat(500), TITLE_CHARS);
        assert!(cut.chars().count() <= TITLE_CHARS && cut.ends_with('…'));
    }

    #[test]
    fn html_becomes_text() {
        let html = "<p>Fish &amp; chips<br/>cost &#163;5 &lt; &#x20ac;9</p><script>alert('<p>')</script><!-- no -->\
                    <a title=\"a > b\" href='x'>more</a> 3 < 4 &unknown; AT&T";
        assert_eq!(
            from_html(html, 500),
            "Fish & chips cost £5 < €9 more 3 < 4 &unknown; AT&T"
        );
        assert_eq!(from_html("<img src=x onerror=alert(1)>Title", 500), "Title");
        assert_eq!(from_html("<script>never closed", 500), "");
        assert_eq!(from_html("un<closed", 500), "un<closed");
        assert_eq!(from_html("", 500), "");
    }
}
