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
        vec![how.into()],
    );
    Decoders::new(Settings {
        program,
        at_once: 2,
        waiting: 2,
        limits,
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
                assert_eq!(*name, "text")
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
    let comment = jpeg::segment(0xfe, &[7; 60_000]);
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
async fn a_child_can_open_nothing() {
    let error = fails("looks", Limits::default()).await;
    let Error::Fault(Fault::Broken(found)) = error else {
        panic!("{error:?}");
    };
    assert_eq!(found, "looked");
}

#[tokio::test]
async fn who_comes_too_late_is_told() {
    let wall = Duration::from_millis(300);
    let limits = Limits {
        wall,
        ..Limits::default()
    };
    let decoders = decoders("sleeps", limits);
    let one = || decoders.probe(&b"x"[..]);
    // Two at once, two wait, and no more.
    let (a, b, c, d, e) = tokio::join!(one(), one(), one(), one(), one());
    assert!(
        [a, b, c, d]
            .iter()
            .all(|outcome| matches!(outcome, Err(Error::TimedOut)))
    );
    assert!(matches!(e, Err(Error::Busy)));
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
