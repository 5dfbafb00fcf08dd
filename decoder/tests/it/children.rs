//! Children: what they answer is what this process would, and what misbehaves ends.

use std::time::Duration;

use rhizome_decoder::picture::{Ask, Made, Method};
use rhizome_decoder::{Decoders, Error, Fault, Limits, Program, Settings};

use crate::make::{self, jpeg, moving};
use crate::stripped::stripped;
use crate::thumbnails::{WEBP, ask, specified};

/// Decoders whose children do as is said.
fn decoders(how: &str, limits: Limits) -> Decoders {
    let program = Program::Other(
        env!("CARGO_BIN_EXE_rhizome-decoder-misbehaves").into(),
        how.split(' ').map(Into::into).collect(),
    );
    Decoders::new(Settings {
        program,
        at_once: 2,
        waiting: 2,
        limits,
        ..Settings::default()
    })
}

async fn fails(how: &str, limits: Limits) -> Error {
    let photo = jpeg::jpeg(16, 16, false);
    decoders(how, limits)
        .strip(&*photo, tokio::io::sink())
        .await
        .unwrap_err()
}

#[tokio::test]
async fn children_and_threads_answer_the_same() {
    let (children, threads) = (
        decoders("decode", Limits::default()),
        Decoders::in_process(),
    );
    let mut asks = specified();
    asks.extend([
        ask(4, 4, Method::Crop),
        Ask {
            animated: true,
            accepts: WEBP,
            ..ask(5, 5, Method::Scale)
        },
    ]);
    let mut files = make::talkative();
    files.push(("gif", moving::gif(40, 30, 3)));
    files.push(("large", jpeg::jpeg(1600, 1200, false)));
    files.push(("text", b"hello".to_vec()));
    for (name, file) in &files {
        let made = children.thumbnails(&**file, &asks, true).await;
        let same = threads.thumbnails(&**file, &asks, true).await;
        match (made, same) {
            (Ok(made), Ok(same)) => {
                assert_eq!(made, same, "{name}");
                assert!(
                    made.made
                        .iter()
                        .any(|made| matches!(made, Made::Thumbnail(_))),
                    "{name}"
                );
                assert_eq!(
                    children.probe(&**file).await.unwrap(),
                    made.source,
                    "{name}"
                );
            }
            (Err(Error::Fault(Fault::NotAPicture)), Err(Error::Fault(Fault::NotAPicture))) => {
                assert_eq!(*name, "text");
            }
            (made, same) => panic!("{name}: {made:?} and {same:?}"),
        }
        for decoders in [&children, &threads] {
            let mut out = Vec::new();
            let told = decoders.strip(&**file, &mut out).await.unwrap();
            assert_eq!(told.written, out.len() as u64);
            assert_eq!(out, stripped(file), "{name}");
        }
    }
}

#[tokio::test]
async fn a_large_file_goes_through_in_pieces() {
    let photo = jpeg::jpeg(64, 64, false);
    // Twenty megabytes that aren't shown.
    let comment = jpeg::segment(0xfe, &vec![7; 60_000]);
    let large = jpeg::with(&photo, &vec![comment; 350]);
    for decoders in [
        decoders("decode", Limits::default()),
        Decoders::in_process(),
    ] {
        let mut out = Vec::new();
        let told = decoders.strip(&*large, &mut out).await.unwrap();
        assert_eq!(told.read, large.len() as u64);
        assert_eq!(out, photo);
        // No picture: it comes back whole.
        let mut out = Vec::new();
        decoders.strip(&large[1..], &mut out).await.unwrap();
        assert!(out == large[1..]);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_told() {
    let decoders = decoders(
        "decode",
        Limits {
            input: 1000,
            ..Limits::default()
        },
    );
    let fault = decoders.probe(&[0xff; 2000][..]).await.unwrap_err();
    assert!(
        matches!(
            fault,
            Error::Fault(Fault::TooLarge(rhizome_decoder::Excess::Bytes))
        ),
        "{fault:?}"
    );
    let fault = decoders
        .strip(&b"\xff\xd8\xff\xd9"[..], tokio::io::sink())
        .await
        .unwrap_err();
    assert!(matches!(fault, Error::Fault(Fault::Broken(_))), "{fault:?}");
}

#[tokio::test]
async fn a_child_that_takes_too_much_is_killed() {
    let short = || Limits {
        cpu: 1,
        memory: 128 << 20,
        // Others go first: a second of processor time may take long.
        wall: Duration::from_mins(5),
        ..Limits::default()
    };
    for how in ["spins", "hogs", "panics", "nothing", "lies"] {
        let error = fails(how, short()).await;
        assert!(matches!(error, Error::Crashed(_)), "{how}: {error:?}");
    }
    let error = fails("floods", Limits::default()).await;
    assert!(
        matches!(error, Error::Crashed("it answered too much")),
        "{error:?}"
    );
    let wall = Duration::from_millis(300);
    let error = fails(
        "sleeps",
        Limits {
            wall,
            ..Limits::default()
        },
    )
    .await;
    assert!(matches!(error, Error::TimedOut), "{error:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_child_knows_nothing_and_may_do_nothing() {
    let error = fails("looks", Limits::default()).await;
    let Error::Fault(Fault::Broken(found)) = error else {
        panic!("{error:?}");
    };
    assert_eq!(found, "nothing");
    let file = std::env::temp_dir().join(format!("rhizome-decoder-{}", std::process::id()));
    std::fs::write(&file, "x").unwrap();
    for how in [
        "opens", "removes", "listens", "starts", "threads", "signals",
    ] {
        let error = fails(&format!("{how} {}", file.display()), Limits::default()).await;
        assert!(matches!(error, Error::Crashed(_)), "{how}: {error:?}");
        assert!(file.exists(), "{how}");
    }
    std::fs::remove_file(&file).unwrap();
}

/// A file of which nothing comes until the other end is dropped.
fn slow() -> (tokio::io::DuplexStream, tokio::io::DuplexStream) {
    tokio::io::duplex(64)
}

#[tokio::test]
async fn stripping_waits_for_its_turn_and_for_no_thumbnail() {
    let decoders = Decoders::new(Settings {
        program: Program::InProcess,
        at_once: 1,
        waiting: 0,
        patience: Duration::from_millis(200),
        limits: Limits::default(),
    });
    let photo = jpeg::jpeg(16, 16, false);
    let strip = || decoders.strip(&*photo, tokio::io::sink());
    // One has its thumbnails made, and others are refused: strip all the same.
    let (thumbnail, file) = slow();
    let mut probing = std::pin::pin!(decoders.probe(file));
    tokio::select! {
        biased;
        _ = &mut probing => panic!("it has no file"),
        stripped = async {
            assert!(matches!(decoders.probe(&b"x"[..]).await, Err(Error::Busy)));
            strip().await
        } => assert!(stripped.is_ok(), "{stripped:?}"),
    }
    drop(thumbnail);
    assert!(matches!(probing.await, Err(Error::Fault(_))));
    // One strips for long: others wait, though not for ever.
    let (upload, file) = slow();
    let mut stripping = std::pin::pin!(decoders.strip(file, tokio::io::sink()));
    tokio::select! {
        biased;
        _ = &mut stripping => panic!("it has no file"),
        late = strip() => assert!(matches!(late, Err(Error::Busy)), "{late:?}"),
    }
    let turn = async {
        drop(upload);
        strip().await
    };
    let (first, second) = tokio::join!(stripping, turn);
    assert!(first.is_ok() && second.is_ok(), "{first:?}, {second:?}");
}

#[tokio::test]
async fn who_comes_too_late_is_told() {
    let wall = Duration::from_millis(300);
    let limits = Limits {
        wall,
        ..Limits::default()
    };
    let decoders = decoders("sleeps", limits);
    let ask = || decoders.probe(&b"x"[..]);
    // Two at once, two wait, and no more.
    let (one, two, three, four, late) = tokio::join!(ask(), ask(), ask(), ask(), ask());
    assert!(
        [one, two, three, four]
            .iter()
            .all(|outcome| matches!(outcome, Err(Error::TimedOut)))
    );
    assert!(matches!(late, Err(Error::Busy)));
}

#[tokio::test]
async fn without_a_program_nothing_starts() {
    let program = Program::Other("/nowhere/at/all".into(), Vec::new());
    let decoders = Decoders::new(Settings {
        program,
        ..Settings::default()
    });
    assert!(matches!(
        decoders.probe(&b"x"[..]).await,
        Err(Error::Start(_))
    ));
}

#[tokio::test]
async fn a_source_that_fails_is_told() {
    use tokio::io::AsyncReadExt as _;
    let broken = failing();
    let error = decoders("decode", Limits::default())
        .probe(broken.take(1 << 20))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Read(_)), "{error:?}");
}

/// Gives nothing but an error.
fn failing() -> impl tokio::io::AsyncRead + Send + Unpin {
    struct Broken;
    impl tokio::io::AsyncRead for Broken {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Err(std::io::Error::other("as asked")))
        }
    }
    Broken
}
