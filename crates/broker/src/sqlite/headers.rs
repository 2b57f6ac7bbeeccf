//! Headers as one column: for each header the length and bytes of its name, then of its value.

use bytes::{Buf, BufMut, Bytes};

use crate::record::Headers;

/// None for no headers.
pub(super) fn encode(headers: &Headers) -> Option<Vec<u8>> {
    if headers.is_empty() {
        return None;
    }
    let mut column = Vec::with_capacity(
        headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 8)
            .sum(),
    );
    for (name, value) in headers {
        column.put_u32(name.len() as u32);
        column.put_slice(name.as_bytes());
        column.put_u32(value.len() as u32);
        column.put_slice(value);
    }
    Some(column)
}

/// None if the column is damaged.
pub(super) fn decode(column: &[u8]) -> Option<Headers> {
    let mut column = Bytes::copy_from_slice(column);
    let mut headers = Headers::new();
    while column.has_remaining() {
        let name = String::from_utf8(field(&mut column)?.to_vec()).ok()?;
        headers.push((name, field(&mut column)?));
    }
    Some(headers)
}

fn field(column: &mut Bytes) -> Option<Bytes> {
    let length = column.try_get_u32().ok()? as usize;
    (length <= column.len()).then(|| column.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_come_back_as_they_went(headers: Vec<(String, Vec<u8>)>) {
            let headers: Headers = headers.into_iter().map(|(n, v)| (n, Bytes::from(v))).collect();
            let column = encode(&headers).unwrap_or_default();
            prop_assert_eq!(decode(&column), Some(headers));
        }

        #[test]
        fn damaged_columns_are_told(column: Vec<u8>) {
            let _any = decode(&column);
        }
    }
}
