//! What strace wrote down of a process, as calls.

use std::{
    collections::HashMap,
    ffi::OsString,
    io::BufRead,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

/// Each of those that change what a disk holds, or by which clients are answered. Some don't exist on every machine,
/// which the question marks are for; those that the model doesn't know are here so that it can say so.
const CALLS: &str = "trace=?open,openat,?creat,?mkdir,mkdirat,?rename,?renameat,renameat2,?link,linkat,?unlink,\
    unlinkat,?rmdir,write,pwrite64,writev,pwritev,?pwritev2,sendto,sendmsg,ftruncate,?truncate,fallocate,fsync,\
    fdatasync,?copy_file_range,?sendfile,?splice";

/// The command under which a process is watched, as a grandparent would: the process stays the one that was started.
/// Paths stand beside descriptors; strings are hexadecimal, and whole.
pub(crate) fn watching(into: &Path) -> Vec<OsString> {
    let words = [
        "strace", "-D", "-f", "-y", "-xx", "-s", "2000000", "-e", CALLS, "-o",
    ];
    let mut command: Vec<OsString> = words.iter().map(OsString::from).collect();
    command.push(into.into());
    command
}

/// One call that changes what the disk holds, or answers a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The line with which it began: from then on it may have taken effect.
    pub(crate) begin: usize,
    /// The line that says that it returned: from then on it has. None, if it never did.
    pub(crate) end: Option<usize>,
    pub(crate) what: What,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum What {
    Open {
        path: PathBuf,
        create: bool,
        empty: bool,
    },
    /// Without a place it goes to the end.
    Write {
        path: PathBuf,
        at: Option<usize>,
        bytes: Vec<u8>,
    },
    Length {
        path: PathBuf,
        length: usize,
    },
    Sync(PathBuf),
    MakeFolder(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
    /// Bytes to a socket.
    Answer(Vec<u8>),
    Unknown(String),
}

/// The calls that have to do with what lies in `root`, and answers, in the order in which they began.
pub(crate) fn read(trace: impl BufRead, root: &Path) -> Vec<Call> {
    let mut begun: HashMap<String, (usize, String)> = HashMap::new();
    let mut calls = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let line = line.expect("the trace can be read");
        let (thread, said) = line.split_once(' ').expect("a thread's number is first");
        let said = said.trim();
        if said.starts_with("+++") || said.starts_with("---") {
            continue;
        }
        if let Some(first) = said.strip_suffix("<unfinished ...>") {
            let first = first.trim_end().to_owned();
            begun.insert(thread.to_owned(), (number, first));
            continue;
        }
        // At the end of a process: nobody knows whether it took effect.
        let said = said.replace("<unfinished ...>", "");
        let resumed = said.strip_prefix("<... ");
        let (begin, said) = match resumed.and_then(|said| said.split_once(" resumed>")) {
            Some((_, rest)) => {
                let (begin, first) = begun.remove(thread).expect("what is resumed has begun");
                (begin, first + rest)
            }
            None => (number, said),
        };
        calls.extend(call(begin, number, &said, root));
    }
    for (begin, first) in begun.into_values() {
        calls.extend(call(begin, begin, &format!("{first}) = ?"), root));
    }
    calls.sort_by_key(|call| call.begin);
    calls
}

fn call(begin: usize, end: usize, said: &str, root: &Path) -> Option<Call> {
    let (name, rest) = said.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end();
    let arguments = Arguments(arguments.strip_suffix(')').unwrap_or(arguments).trim_end());
    if result.contains("ERESTART") {
        // It is there once more.
        return None;
    }
    let result = result.split([' ', '<']).next()?;
    let result = match result {
        "?" => None,
        // An error, which is negative, has changed nothing.
        number => Some(number.parse::<usize>().ok()?),
    };
    let what = what(name, &arguments, result, root)?;
    let end = result.map(|_| end);
    Some(Call { begin, end, what })
}

fn what(name: &str, arguments: &Arguments, result: Option<usize>, root: &Path) -> Option<What> {
    let ours = |path: PathBuf| path.starts_with(root).then_some(path);
    let what = match name {
        "write" | "pwrite64" | "writev" | "sendto" | "sendmsg" => {
            return written(name, arguments, result, root);
        }
        "open" | "openat" | "creat" => {
            let has = |flag: &str| name == "creat" || arguments.0.contains(flag);
            What::Open {
                path: ours(arguments.path(0)?)?,
                create: has("O_CREAT"),
                empty: has("O_TRUNC"),
            }
        }
        "ftruncate" => What::Length {
            path: ours(arguments.places().next()?)?,
            length: arguments.last_number()?,
        },
        "fsync" | "fdatasync" => What::Sync(ours(arguments.places().next()?)?),
        "mkdir" | "mkdirat" => What::MakeFolder(ours(arguments.path(0)?)?),
        "rename" | "renameat" | "renameat2" => {
            What::Rename(ours(arguments.path(0)?)?, ours(arguments.path(1)?)?)
        }
        "link" | "linkat" => What::Link(ours(arguments.path(0)?)?, ours(arguments.path(1)?)?),
        "unlink" | "unlinkat" | "rmdir" => What::Remove(ours(arguments.path(0)?)?),
        other => {
            let named = (0..2).find_map(|which| ours(arguments.path(which)?));
            named.or_else(|| arguments.places().find_map(ours))?;
            What::Unknown(other.to_owned())
        }
    };
    Some(what)
}

fn written(name: &str, arguments: &Arguments, result: Option<usize>, root: &Path) -> Option<What> {
    let path = arguments.places().next()?;
    let is_file = path.starts_with(root);
    if !is_file && !path.as_os_str().as_encoded_bytes().starts_with(b"socket:") {
        return None;
    }
    let mut bytes = arguments.strings().concat();
    if !is_file {
        return Some(What::Answer(bytes));
    }
    if let Some(length) = result {
        assert!(length <= bytes.len(), "strace cut off what was written");
        bytes.truncate(length);
    }
    let at = match name {
        "pwrite64" => Some(arguments.last_number()?),
        _ => None,
    };
    Some(What::Write { path, at, bytes })
}

/// What stands between the parentheses of a call. Texts are hexadecimal, so nothing in them looks like something else.
struct Arguments<'a>(&'a str);

impl Arguments<'_> {
    fn strings(&self) -> Vec<Vec<u8>> {
        let quoted = self.0.split('"').skip(1).step_by(2);
        quoted.map(plain).collect()
    }

    /// What descriptors stand for.
    fn places(&self) -> impl Iterator<Item = PathBuf> {
        let opened = self.0.split('<').skip(1);
        let closed = opened.filter_map(|rest| rest.split_once('>'));
        closed.map(|(path, _)| OsString::from_vec(plain(path)).into())
    }

    /// A path that is given, which may be one from the folder that is given before it.
    fn path(&self, which: usize) -> Option<PathBuf> {
        let named = self.strings().into_iter().nth(which)?;
        let beside = self.places().nth(which).unwrap_or_default();
        Some(beside.join(OsString::from_vec(named)))
    }

    fn last_number(&self) -> Option<usize> {
        self.0.rsplit(", ").next()?.parse().ok()
    }
}

/// The bytes of `\x2f\x74…`.
fn plain(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len() / 4);
    loop {
        rest = match rest {
            [b'\\', b'x', high, low, rest @ ..] => {
                bytes.push((digit(*high) << 4) + digit(*low));
                rest
            }
            [other, rest @ ..] => {
                bytes.push(*other);
                rest
            }
            [] => return bytes,
        };
    }
}

fn digit(character: u8) -> u8 {
    match character {
        b'0'..=b'9' => character - b'0',
        b'a'..=b'f' => character - b'a' + 10,
        other => panic!("{other} is no hexadecimal digit of strace's"),
    }
}
