//! A choice for a name that stays when a list grows.

/// An index below `count` for a number that is spread evenly; `None` without any. If the list grows from `n` to `n + 1`
/// entries, all numbers keep their index but one in `n + 1`, which get the new one. So what is shown for an unknown user
/// does not change whenever a user is added, by which it would differ from a known one (pitfall 19).
///
/// The algorithm is the jump consistent hash of Lamping and Veach.
pub(crate) fn steady_choice(number: u64, count: usize) -> Option<usize> {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    let (mut number, mut chosen, mut next) = (number, None, 0_u64);
    while next < count {
        chosen = usize::try_from(next).ok();
        number = number.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        // (next + 1) * 2³¹ / (33 bits of the number + 1), which is next + 1 or more.
        let jump = u128::from(next + 1) * (1 << 31) / (u128::from(number >> 33) + 1);
        next = u64::try_from(jump).unwrap_or(u64::MAX);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_entries_are_chosen_equally_often() {
        let mut chosen = [0_u32; 7];
        for number in 0..7_000_u64 {
            let index = steady_choice(number.wrapping_mul(0x9E37_79B9_7F4A_7C15), 7);
            chosen[index.expect("an entry")] += 1;
        }
        assert!(chosen.iter().all(|count| (850..=1_150).contains(count)), "{chosen:?}");
        assert_eq!((steady_choice(7, 0), steady_choice(7, 1)), (None, Some(0)));
    }

    proptest! {
        #[test]
        fn an_entry_that_is_added_moves_choices_to_itself_alone(number: u64, count in 1..2_000_usize) {
            let (before, after) = (steady_choice(number, count), steady_choice(number, count + 1));
            prop_assert!(before.is_some_and(|index| index < count));
            prop_assert!(after == before || after == Some(count));
        }
    }
}
