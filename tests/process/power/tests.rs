//! The trace is read as strace writes it, and the disk forgets what it may and nothing else.

use std::{collections::BTreeSet, fmt::Write as _, ops::Range, path::Path};

use super::{
    chance::Chance,
    disk::{Cut, Image, after_power_loss},
    trace::{Call, What, read},
};

/// As strace writes it with `-xx`.
fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |mut hex, byte| {
        write!(hex, "\\x{byte:02x}").unwrap();
        hex
    })
}

fn calls(lines: &[String]) -> Vec<Call> {
    read(lines.join("\n").as_bytes(), Path::new("/d"))
}

fn open(path: &str) -> String {
    let (cwd, path) = (hex("/"), hex(path));
    format!("7     openat(AT_FDCWD<{cwd}>, \"{path}\", O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 3<{path}>")
}

fn write_at(path: &str, text: &str, at: usize) -> String {
    let (path, bytes, length) = (hex(path), hex(text), text.len());
    format!("7     pwrite64(3<{path}>, \"{bytes}\", {length}, {at}) = {length}")
}

fn sync(path: &str) -> String {
    format!("7     fsync(3<{}>) = 0", hex(path))
}

fn rename(from: &str, to: &str) -> String {
    format!("7     rename(\"{}\", \"{}\") = 0", hex(from), hex(to))
}

/// What is there after all of it, of what may be lost so many of eight kept.
fn left(lines: &[String], kept: usize) -> Image {
    left_of(&calls(lines), usize::MAX, &mut Chance::keeping(kept))
}

fn left_of(calls: &[Call], at: usize, chance: &mut Chance) -> Image {
    let cut = Cut {
        at,
        lies_from: usize::MAX,
    };
    after_power_loss(calls, Path::new("/d"), &cut, chance)
}

fn file(image: &Image, name: &str) -> Option<String> {
    let bytes = image.files.get(Path::new(name))?;
    Some(String::from_utf8(bytes.clone()).unwrap())
}

#[test]
fn calls_are_read() {
    let a = hex("/d/a");
    let read = calls(&[
        open("/d/a"),
        open("/elsewhere"),
        format!(
            "7     pwrite64(3<{a}>, \"{}\", 2, 4096 <unfinished ...>",
            hex("ab")
        ),
        format!("8     fsync(3<{a}> <unfinished ...>"),
        "7     <... pwrite64 resumed>)              = 1".to_owned(),
        format!("7     unlink(\"{a}\") = -1 ENOENT (No such file or directory)"),
        "7     --- SIGTERM {si_signo=SIGTERM, si_code=SI_USER} ---".to_owned(),
        format!(
            "7     writev(4<{}>, [{{iov_base=\"{}\", iov_len=4}}, {{iov_base=\"{}\", iov_len=2}}], 2) = 6",
            hex("socket:[12]"),
            hex("HTTP"),
            hex("$1")
        ),
        "8     <... fsync resumed> <unfinished ...>) = ?".to_owned(),
        "7     +++ exited with 0 +++".to_owned(),
    ]);
    let path = Path::new("/d/a");
    let expected = [
        (
            (0, Some(0)),
            What::Open {
                path: path.into(),
                create: true,
                empty: false,
            },
        ),
        (
            (2, Some(4)),
            What::Write {
                path: path.into(),
                at: Some(4096),
                bytes: b"a".to_vec(),
            },
        ),
        ((3, None), What::Sync(path.into())),
        ((7, Some(7)), What::Answer(b"HTTP$1".to_vec())),
    ];
    let expected = expected.map(|((begin, end), what)| Call { begin, end, what });
    assert_eq!(read, expected);
}

#[test]
fn what_was_synced_stays() {
    let story = [
        open("/d/a"),
        write_at("/d/a", "old", 0),
        sync("/d/a"),
        sync("/d"),
        write_at("/d/a", "new", 0),
    ];
    assert_eq!(file(&left(&story, 0), "a").as_deref(), Some("old"));
    assert_eq!(file(&left(&story, 8), "a").as_deref(), Some("new"));
    // Before the folder has been synced, there may be no such name.
    assert_eq!(file(&left(&story[..3], 0), "a"), None);
    // A sync that hasn't returned yet, or to which the disk only says yes, is none.
    let calls = calls(&story);
    let before = left_of(&calls, 2, &mut Chance::keeping(0));
    assert_eq!(before, Image::default());
    let cut = Cut {
        at: usize::MAX,
        lies_from: 3,
    };
    let lied = after_power_loss(&calls, Path::new("/d"), &cut, &mut Chance::keeping(0));
    assert_eq!(file(&lied, "a"), None);
}

#[test]
fn a_sync_is_for_what_had_returned_before_it_began() {
    let a = hex("/d/a");
    let story = [
        open("/d/a"),
        sync("/d"),
        format!(
            "8     pwrite64(3<{a}>, \"{}\", 3, 0 <unfinished ...>",
            hex("one")
        ),
        format!("7     fsync(3<{a}> <unfinished ...>"),
        "8     <... pwrite64 resumed>)              = 3".to_owned(),
        "7     <... fsync resumed>)              = 0".to_owned(),
        sync("/d/a"),
    ];
    assert_eq!(file(&left(&story[..6], 0), "a").as_deref(), Some(""));
    assert_eq!(file(&left(&story, 0), "a").as_deref(), Some("one"));
}

#[test]
fn writes_tear_between_sectors() {
    let old = "o".repeat(1536);
    let story = [
        open("/d/a"),
        write_at("/d/a", &old, 0),
        sync("/d/a"),
        sync("/d"),
        write_at("/d/a", &"n".repeat(1000), 300),
    ];
    let calls = calls(&story);
    let mut seen = BTreeSet::new();
    for seed in 0..500 {
        let image = left_of(&calls, usize::MAX, &mut Chance::new(seed));
        let found = file(&image, "a").unwrap();
        let is_new = |range: Range<usize>| {
            let part: &str = &found[range];
            let first = &part[..1];
            assert_eq!(part, first.repeat(part.len()), "it is torn elsewhere");
            first == "n"
        };
        seen.insert([is_new(300..512), is_new(512..1024), is_new(1024..1300)]);
        assert_eq!(found[..300], old[..300]);
        assert_eq!(found[1300..], old[1300..]);
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[test]
fn names_are_lost_whole() {
    let story = [
        format!("7     mkdir(\"{}\", 0700) = 0", hex("/d/new")),
        open("/d/new/a"),
        write_at("/d/new/a", "text", 0),
        sync("/d/new/a"),
        sync("/d/new"),
        rename("/d/new/a", "/d/b"),
        sync("/d/new"),
    ];
    // The folder's own name wasn't synced.
    assert_eq!(left(&story[..5], 0), Image::default());
    let there = left(&story[..5], 8);
    assert_eq!(file(&there, "new/a").as_deref(), Some("text"));
    // To where it moved counts; and it is never in both places, nor in none.
    for seed in 0..100 {
        let story = [&story[..1], &[sync("/d")], &story[1..]].concat();
        let image = left_of(&calls(&story), usize::MAX, &mut Chance::new(seed));
        let texts = ["new/a", "b"].map(|name| file(&image, name));
        assert_eq!(texts.iter().flatten().count(), 1, "{texts:?}");
    }
    let gone = format!("7     unlink(\"{}\") = 0", hex("/d/b"));
    let story = [&story[..], &[sync("/d"), gone, sync("/d")]].concat();
    assert_eq!(file(&left(&story[..9], 0), "b").as_deref(), Some("text"));
    assert_eq!(file(&left(&story[..9], 8), "b"), None);
    assert_eq!(file(&left(&story, 0), "b"), None);
}
