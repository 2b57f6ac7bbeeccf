//! How many copies are worth working on at once.
//!
//! On a thin link one copy after the other: each is whole sooner, and a cut costs one connection. On a fat one several, since
//! one connection cannot fill a long way. What the link is, its cap says, or else what came in the last second.

/// From so many bytes a second on a link is fat.
const FAT: f64 = 128.0 * 1024.0;

/// The number of copies at once, of `most`.
#[expect(
    clippy::cast_precision_loss,
    reason = "a cap above 2^53 bytes a second is fat"
)]
pub(crate) fn lanes(most: usize, cap: Option<u64>, rate: Option<f64>) -> usize {
    let thin_cap = cap.is_some_and(|cap| (cap as f64) < FAT);
    let thin = thin_cap || (cap.is_none() && rate.is_none_or(|rate| rate < FAT));
    if thin { 1 } else { most }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thin_link_has_one_copy_and_a_fat_one_all() {
        assert_eq!(lanes(4, Some(8_000), Some(1e9)), 1);
        assert_eq!(lanes(4, Some(1_000_000), None), 4);
        assert_eq!(lanes(4, None, None), 1);
        assert_eq!(lanes(4, None, Some(10_000.0)), 1);
        assert_eq!(lanes(4, None, Some(1e6)), 4);
    }
}
