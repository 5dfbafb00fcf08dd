//! A child for the tests of what becomes of children: it sets its limits as the real one does, and then does as its
//! argument says.

#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{self, Write as _};
use std::process::ExitCode;

use rhizome_decoder::child::{Request, confine, serve};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let how = arguments.first().map_or("decode", String::as_str);
    if how == "decode" {
        return serve();
    }
    let request = Request::read(&mut io::stdin().lock()).unwrap();
    confine(request.limits()).unwrap();
    let say = |bytes: &[u8]| {
        io::stdout()
            .write_all(bytes)
            .and_then(|()| io::stdout().flush())
    };
    match how {
        "spins" => loop {
            std::hint::black_box(0);
        },
        "sleeps" => loop {
            std::thread::park();
        },
        "hogs" => {
            let mut all: Vec<Vec<u8>> = Vec::new();
            loop {
                all.push(std::hint::black_box(vec![1; 8 << 20]));
            }
        }
        "panics" => panic!("as asked"),
        "floods" => {
            let frame = [&b"d\0\x01\0\0"[..], &vec![0; 1 << 16]].concat();
            while say(&frame).is_ok() {}
        }
        "lies" => {
            let _ = say(br#"a   O{"stripped":{"format":null,"read":0,"written":1}}"#);
        }
        // What it got is said as the reason of a fault.
        "looks" | "opens" | "removes" | "listens" | "starts" | "threads" | "signals" => {
            tries(how, arguments.get(1).map_or("", String::as_str));
            let found = looks();
            let answer = format!(r#"{{"fault":{{"broken":"{found}"}}}}"#);
            let length = u32::try_from(answer.len()).unwrap().to_be_bytes();
            let _ = say(&[b"a", &length[..], answer.as_bytes()].concat());
        }
        other => {
            let _ = say(other.as_bytes());
        }
    }
    ExitCode::SUCCESS
}

/// What it knows of what it must not.
fn looks() -> &'static str {
    if std::env::vars_os().any(|(name, _)| name != "MIMALLOC_ARENA_EAGER_COMMIT") {
        "its environment"
    } else {
        "nothing"
    }
}

/// Does what it may not, and goes on.
fn tries(what: &str, path: &str) {
    match what {
        "opens" => drop(std::fs::File::open(path)),
        "removes" => drop(std::fs::remove_file(path)),
        "listens" => drop(std::net::TcpListener::bind("127.0.0.1:0")),
        "starts" => drop(std::process::Command::new("/bin/true").status()),
        "threads" => drop(std::thread::Builder::new().spawn(|| {})),
        #[cfg(target_os = "linux")]
        "signals" => drop(rustix::process::test_kill_process(rustix::process::getpid())),
        _ => {}
    }
}
