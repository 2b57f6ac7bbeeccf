//! The range of a request: one at most.

use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Whole,
    Part(Range<u64>),
    Impossible,
}

/// Reads `bytes=0-9`, `bytes=10-` or `bytes=-5`; other units are ignored, as HTTP wants it.
pub(crate) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(ranges) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    part(ranges, size)
        .filter(|part| part.start < part.end)
        .map_or(Wanted::Impossible, Wanted::Part)
}

fn part(range: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = range.trim().split_once('-')?;
    // `parse` would take a sign.
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse::<u64>().ok())?
    };
    match (first, last) {
        ("", last) => Some(size.saturating_sub(number(last)?)..size),
        (first, "") => Some(number(first)?..size),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then(|| first..last.saturating_add(1).min(size))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_one_that_the_object_has() {
        for (header, part) in [
            ("bytes=0-9", 0..10),
            ("bytes=99-99", 99..100),
            ("bytes=90-1000", 90..100),
            ("bytes=10-", 10..100),
            ("bytes=-5", 95..100),
            ("bytes=-500", 0..100),
        ] {
            assert_eq!(wanted(Some(header), 100), Wanted::Part(part), "{header}");
        }
        for header in [
            "bytes=100-",
            "bytes=5-4",
            "bytes=-0",
            "bytes=-",
            "bytes=0-1,5-6",
            "bytes=+1-2",
            "bytes=x-1",
        ] {
            assert_eq!(wanted(Some(header), 100), Wanted::Impossible, "{header}");
        }
        assert_eq!(wanted(None, 100), Wanted::Whole);
        assert_eq!(wanted(Some("lines=1-2"), 100), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Impossible);
    }
}
