//! A safe base name to save an asset under, from what a stranger's server calls it.
//!
//! The result has no separator, no control or direction-changing character, no leading dot, at most [`MAX_BYTES`]
//! bytes, is never empty, and can be created on any common file system.

use percent_encoding::percent_decode_str;
use url::Url;

/// The longest name, in bytes; file systems take 255, and tools add suffixes.
pub const MAX_BYTES: usize = 120;
const MAX_EXTENSION: usize = 12;

/// The name from `Content-Disposition` or else from the URL's path; `extension` is added where the name has none.
pub fn choose(disposition: Option<&str>, url: &Url, extension: Option<&str>) -> String {
    let from_header = disposition.and_then(from_disposition).map(|name| clean(&name));
    let name = match from_header {
        Some(name) if !name.is_empty() => name,
        _ => {
            let last = url
                .path_segments()
                .and_then(|segments| segments.rev().find(|part| !part.is_empty()));
            clean(&percent_decode_str(last.unwrap_or_default()).decode_utf8_lossy())
        }
    };
    let (stem, own) = match name.rsplit_once('.') {
        Some((stem, own)) if plausible_extension(own) && !stem.is_empty() => (stem, Some(own.to_owned())),
        _ => (name.as_str(), None),
    };
    let extension = own.or_else(|| extension.map(str::to_owned));
    let room = MAX_BYTES - extension.as_ref().map_or(0, |extension| extension.len() + 1);
    let mut stem = bounded(stem, room).trim_end_matches(['.', ' ']).to_owned();
    if stem.is_empty() {
        stem.push_str("asset");
    }
    if reserved(&stem) {
        stem.insert(0, '_');
    }
    match extension {
        Some(extension) => format!("{stem}.{extension}"),
        None => stem,
    }
}

/// `filename*=` (RFC 8187, UTF-8) or `filename=` of a Content-Disposition header.
fn from_disposition(header: &str) -> Option<String> {
    let mut plain = None;
    for parameter in parameters(header) {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "filename*" => {
                let mut parts = value.splitn(3, '\'');
                let (charset, encoded) = (parts.next()?, parts.nth(1));
                if let Some(encoded) = encoded.filter(|_| charset.eq_ignore_ascii_case("utf-8")) {
                    return Some(percent_decode_str(encoded).decode_utf8_lossy().into_owned());
                }
            }
            "filename" => {
                let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                plain = Some(inner.unwrap_or(value).replace("\\\"", "\"").replace("\\\\", "\\"));
            }
            _ => {}
        }
    }
    plain
}

/// Splits a header at semicolons outside quotes.
fn parameters(header: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, character) in header.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ';' if !quoted => {
                parts.push(&header[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&header[start..]);
    parts
}

/// The last component, without characters that a file system or a terminal would take for something else.
fn clean(name: &str) -> String {
    let last = name
        .rsplit(['/', '\\'])
        .find(|part| !part.trim_matches(['.', ' ']).is_empty())
        .unwrap_or_default();
    let safe: String = last
        .chars()
        .filter(|character| !character.is_control() && !invisible(*character))
        .map(|character| {
            if "<>:\"|?*".contains(character) {
                '_'
            } else {
                character
            }
        })
        .collect();
    safe.trim_matches([' ', '.']).to_owned()
}

/// Characters that hide or turn round what is shown: `gpj.exe` must not look like `exe.jpg`.
fn invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffd}')
}

fn plausible_extension(text: &str) -> bool {
    (1..=MAX_EXTENSION).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn bounded(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Device names of Windows, which no file there can have.
fn reserved(stem: &str) -> bool {
    let stem = stem
        .split('.')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_uppercase();
    match stem.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" => true,
        _ => {
            stem.len() == 4
                && (stem.starts_with("COM") || stem.starts_with("LPT"))
                && stem.ends_with(|last: char| last.is_ascii_digit())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_url(link: &str) -> String {
        choose(None, &Url::parse(link).unwrap(), Some("jpg"))
    }

    fn from_header(header: &str) -> String {
        choose(
            Some(header),
            &Url::parse("http://host/fallback.bin").unwrap(),
            Some("jpg"),
        )
    }

    #[test]
    fn name_comes_from_the_path() {
        assert_eq!(
            from_url("http://h/image/PIA20896/PIA20896~thumb.jpg"),
            "PIA20896~thumb.jpg"
        );
        assert_eq!(from_url("http://h/a%20b.png?x=1#y"), "a b.png");
        assert_eq!(from_url("http://h/"), "asset.jpg");
        assert_eq!(from_url("http://h/picture"), "picture.jpg");
        assert_eq!(from_url("http://h/picture/"), "picture.jpg");
    }

    #[test]
    fn name_never_leaves_its_directory() {
        assert_eq!(from_url("http://h/..%2f..%2fetc%2fpasswd"), "passwd.jpg");
        assert_eq!(from_url("http://h/%2e%2e%2f"), "asset.jpg");
        assert_eq!(
            from_header("attachment; filename=\"../../etc/cron.d/x.jpg\""),
            "x.jpg"
        );
        assert_eq!(
            from_header("attachment; filename=\"..\\\\..\\\\boot.ini\""),
            "boot.ini"
        );
        assert_eq!(from_header("attachment; filename=\"..\""), "fallback.bin");
        assert_eq!(
            from_header("attachment; filename*=UTF-8''..%2F..%2Fevil.sh"),
            "evil.sh"
        );
        assert_eq!(from_header("attachment; filename=.bashrc"), "bashrc.jpg");
    }

    #[test]
    fn name_has_no_surprising_characters() {
        assert_eq!(from_header("inline; filename=\"a\u{202e}gpj.exe\""), "agpj.exe");
        assert_eq!(from_header("inline; filename=\"a<b>:c|d?.jpg\""), "a_b__c_d_.jpg");
        assert_eq!(from_url("http://h/a%00b%0ac.jpg"), "abc.jpg");
        assert_eq!(from_header("inline; filename=\"con.jpg\""), "_con.jpg");
        assert_eq!(from_header("inline; filename=\"x; y.jpg\"; size=3"), "x; y.jpg");
        assert_eq!(
            from_header("inline; filename=plain.gif; filename*=utf-8''%e2%82%ac.gif"),
            "€.gif"
        );
    }

    #[test]
    fn name_is_bounded_and_keeps_its_extension() {
        let long = choose(
            None,
            &Url::parse(&format!("http://h/{}.jpeg", "é".repeat(400))).unwrap(),
            None,
        );
        assert!(long.len() <= MAX_BYTES && long.ends_with(".jpeg"), "{long}");
        let endless = choose(
            None,
            &Url::parse(&format!("http://h/x.{}", "y".repeat(400))).unwrap(),
            Some("png"),
        );
        assert!(
            endless.len() <= MAX_BYTES && endless.ends_with(".png"),
            "{endless}"
        );
    }
}
