//! Telling a story with less and less of it, for as long as it goes wrong.

/// The shortest part of a list that still `fails`, as far as it is found by leaving out halves, then smaller pieces, then
/// one at a time.
pub fn shrink<T: Clone>(mut all: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut size = all.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < all.len() {
            let end = (at + size).min(all.len());
            let mut less = all.clone();
            less.drain(at..end);
            if fails(&less) {
                all = less;
            } else {
                at = end;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    all
}

#[test]
fn what_has_nothing_to_do_with_it_is_left_out() {
    let mut told = 0;
    let least = shrink((0..50).collect(), |steps: &[i32]| {
        told += 1;
        steps.contains(&7) && steps.contains(&31)
    });
    assert_eq!(least, [7, 31]);
    assert!(told < 100, "{told}");
    assert_eq!(shrink(vec![1, 2], |_| false), [1, 2]);
    assert_eq!(shrink(vec![1, 2, 3], |_| true), [0; 0]);
}
