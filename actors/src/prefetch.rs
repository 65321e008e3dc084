//! Hints to the processor of what this thread needs next, where another has it in its cache.
//!
//! A job comes from another core and goes back there, line by line; one line takes up to half a microsecond where the
//! two share no cache, which is as long as a quick call runs. What was asked for a call or two before is there in time.
//! Elsewhere than on x86-64 nothing is asked for.

/// Has the lines of a value fetched, to be read.
#[inline]
pub(crate) fn to_read<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    fetch::<{ std::arch::x86_64::_MM_HINT_T0 }, T>(value);
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = value;
}

/// Has the lines of a value fetched, to be written: nobody else keeps them, where the program is built for processors
/// that all know of this (`prefetchw`); else as if they were to be read.
#[inline]
pub(crate) fn to_write<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    fetch::<{ std::arch::x86_64::_MM_HINT_ET0 }, T>(value);
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = value;
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn fetch<const HINT: i32, T>(value: &T) {
    for line in (0..size_of::<T>()).step_by(64) {
        // SAFETY: it is a hint, which changes nothing: no address makes it fault, and this one is in `value`.
        unsafe { std::arch::x86_64::_mm_prefetch::<HINT>(std::ptr::from_ref(value).cast::<i8>().add(line)) };
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_value_that_is_asked_for_stays_as_it_is_whatever_its_size() {
        let (big, small, none) = ([7_u64; 100], 7_u8, ());
        super::to_read(&big);
        super::to_read(&small);
        super::to_read(&none);
        super::to_write(&big);
        super::to_write(&small);
        super::to_write(&none);
        assert_eq!((big, small), ([7; 100], 7));
    }
}
