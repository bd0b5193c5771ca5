//! Numbers threads, so that each can keep to a part of something that is shared.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Returns a number of this thread: threads that begin one after the other have different ones, modulo any small number.
#[inline]
pub(crate) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    let own = OWN.try_with(Cell::get).ok().flatten();
    own.unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // A thread that ends may have lost it already.
        OWN.try_with(|own| own.set(Some(number))).ok();
        number
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_its_number_and_others_have_others() {
        let own = thread_number();
        let other = std::thread::spawn(thread_number).join().expect("no panic");
        assert_ne!(own, other);
        assert_eq!(own, thread_number());
    }
}
