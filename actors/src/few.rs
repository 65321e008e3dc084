//! Copies of few bytes, in place: to call for one of 32 bytes costs more than the copy itself.

/// Copies all of `from` to the beginning of `to`.
///
/// # Panics
///
/// If there is no room.
#[inline(always)]
pub(crate) fn copy<const N: usize>(from: &[u8], to: &mut [u8; N]) {
    /// Of `M` to `2 * M` bytes the first and the last, which may overlap.
    #[inline]
    fn ends<const M: usize>(from: &[u8], to: &mut [u8]) {
        if let (Some(first), Some(last)) = (from.first_chunk::<M>(), from.last_chunk::<M>()) {
            to[..M].copy_from_slice(first);
            to[from.len() - M..from.len()].copy_from_slice(last);
        }
    }
    match from.len() {
        32..=64 => ends::<32>(from, to),
        16..=31 => ends::<16>(from, to),
        8..=15 => ends::<8>(from, to),
        4..=7 => ends::<4>(from, to),
        length => to[..length].copy_from_slice(from),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_of_it_is_copied_and_nothing_else_is_touched() {
        let bytes: Vec<u8> = (1..=70).collect();
        for length in 0..=70 {
            let mut to = [0; 70];
            super::copy(&bytes[..length], &mut to);
            assert_eq!(to[..length], bytes[..length]);
            assert!(to[length..].iter().all(|byte| *byte == 0));
        }
    }
}
