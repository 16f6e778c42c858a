//! A value that a thread of the hashing pool keeps between two jobs. The memory of an Argon2 hash is 46 MiB: to map and
//! unmap it for each job takes time, and holds up the other threads of the process wherever they need memory.

use std::any::Any;
use std::cell::RefCell;

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { keeps: false, value: None }) };
}

struct Kept {
    /// Whether this thread gives the value back in time.
    keeps: bool,
    value: Option<Box<dyn Any>>,
}

/// This thread keeps values from now on, and calls [`give_back`] when it has nothing to do.
pub(super) fn begin() {
    KEPT.with_borrow_mut(|kept| kept.keeps = true);
}

/// Keeps `value` for the next job of this thread. A thread that is none of the pool drops it.
#[allow(dead_code, reason = "not with all features")]
pub(super) fn keep<T: 'static>(value: T) {
    let before = KEPT.with_borrow_mut(|kept| match kept.keeps {
        true => kept.value.replace(Box::new(value)),
        false => None,
    });
    drop(before);
}

/// The value that an earlier job of this thread has left.
#[allow(dead_code, reason = "not with all features")]
pub(super) fn take<T: 'static>() -> Option<T> {
    let value = KEPT.with_borrow_mut(|kept| kept.value.take())?;
    value.downcast().ok().map(|value| *value)
}

/// Whether this thread keeps a value.
pub(super) fn is_kept() -> bool {
    KEPT.with_borrow(|kept| kept.value.is_some())
}

/// Drops the value.
pub(super) fn give_back() {
    let value = KEPT.with_borrow_mut(|kept| kept.value.take());
    drop(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_no_pool_keeps_nothing() {
        keep(1);
        assert!(!is_kept() && take::<i32>().is_none());
    }

    #[test]
    fn a_value_is_kept_until_it_is_taken_or_given_back() {
        begin();
        keep(1);
        keep(2);
        assert!(is_kept());
        assert_eq!((take(), take::<i32>()), (Some(2), None));
        keep(3);
        give_back();
        assert!(!is_kept() && take::<i32>().is_none());
    }
}
