//! Panics of threads that nobody joins: what a server's task dies of would go unnoticed.

use std::{
    panic::{set_hook, take_hook},
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread,
};

/// The name of each thread that has panicked, and what it said.
static SEEN: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());
static WATCHING: Once = Once::new();

fn seen() -> MutexGuard<'static, Vec<(String, String)>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes panics from now on, besides what is done about them otherwise.
pub fn watch() {
    WATCHING.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            let name = thread::current().name().unwrap_or_default().to_owned();
            seen().push((name, panic.to_string()));
            usual(panic);
        }));
    });
}

/// Takes what was noted of threads with this name.
pub fn take(name: &str) -> Vec<String> {
    let mut seen = seen();
    let all = std::mem::take(&mut *seen).into_iter();
    let (taken, left): (Vec<_>, Vec<_>) = all.partition(|(of, _)| of == name);
    *seen = left;
    taken.into_iter().map(|(_, what)| what).collect()
}
