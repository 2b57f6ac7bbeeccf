//! What kind of file the bytes are, by their own first bytes: what a server says of them is not believed.

/// How many bytes from the start are enough to tell.
pub const HEAD_BYTES: usize = 8 * 1024;

/// A media type and the extension that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaType {
    /// As in IANA's registry, where it is there.
    pub name: &'static str,
    /// The usual extension; none for bytes of no known kind.
    pub extension: Option<&'static str>,
}

impl MediaType {
    const fn new(name: &'static str, extension: &'static str) -> Self {
        Self {
            name,
            extension: Some(extension),
        }
    }
}

/// Tells the media type from the first [`HEAD_BYTES`] of a file.
pub fn sniff(head: &[u8]) -> MediaType {
    // Text first: an SVG is XML to infer, but what a browser would do with it is what matters.
    if let Some(text) = as_text(head) {
        return sniff_text(text);
    }
    match infer::get(head) {
        Some(kind) => MediaType::new(kind.mime_type(), kind.extension()),
        None => MediaType {
            name: "application/octet-stream",
            extension: None,
        },
    }
}

fn sniff_text(text: &str) -> MediaType {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let lower = start
        .get(..start.floor_char_boundary(1024))
        .unwrap_or_default()
        .to_ascii_lowercase();
    if lower.starts_with("<svg")
        || (lower.starts_with("<?xml") || lower.starts_with("<!")) && lower.contains("<svg")
    {
        return MediaType::new("image/svg+xml", "svg");
    }
    match infer::get(start.as_bytes()) {
        Some(kind) => MediaType::new(kind.mime_type(), kind.extension()),
        None => MediaType::new("text/plain", "txt"),
    }
}

/// The head as text, if it is UTF-8 (but for a character cut at its end) with no control characters of binary files.
fn as_text(head: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let plain =
        |character: char| !character.is_control() || matches!(character, '\n' | '\r' | '\t' | '\u{c}');
    (!text.is_empty() && text.chars().all(plain)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_is_told_by_the_bytes() {
        let named = |head: &[u8]| sniff(head).name;
        assert_eq!(named(b"\xff\xd8\xff\xe0\0\x10JFIF\0"), "image/jpeg");
        assert_eq!(named(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "image/png");
        assert_eq!(named(b"%PDF-1.7\n\xe2\xe3"), "application/pdf");
        assert_eq!(named(b"hello, world\n"), "text/plain");
        assert_eq!(named("na\u{ef}ve".as_bytes()), "text/plain");
        assert_eq!(named(&"é".as_bytes()[..1]), "application/octet-stream");
        assert_eq!(named(b"\0\x01\x02\x03"), "application/octet-stream");
        assert_eq!(named(b""), "application/octet-stream");
        assert_eq!(named(b"<!DOCTYPE html><html>"), "text/html");
    }

    #[test]
    fn svg_is_named_whatever_comes_before_it() {
        for text in [
            "<svg xmlns='http://www.w3.org/2000/svg'/>",
            "\u{feff}  <?xml version=\"1.0\"?>\n<!-- x -->\n<SVG/>",
            "<!DOCTYPE svg><svg/>",
        ] {
            assert_eq!(sniff(text.as_bytes()).name, "image/svg+xml", "{text}");
        }
    }
}
