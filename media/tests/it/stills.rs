//! Stills of films, by a program of the operator's: shell scripts here.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use rhizome_media::{
    Content, Fetched, MediaConfig, MediaError, Method, NewFile, SealKey, StillConfig,
};
use rhizome_storage::testing::{eventually, soon};

use crate::pictures::{PNG, Painter, wanted};
use crate::world::{ALICE, World, body, each_with, read, taken, there};

/// Before the picture in a film of ours.
const HEAD: &[u8] = b"film\n";
/// Writes the picture in it.
const PICTURE: &str = "tail -n +2 \"$1\"";
/// Until it is killed.
const FOREVER: &str = "exec sleep 1000";

/// What scripts write down, one line each.
struct Notes(tempfile::NamedTempFile);

impl Notes {
    fn new() -> Self {
        Self(tempfile::NamedTempFile::new().unwrap())
    }

    /// A command that notes that it runs, and does this.
    fn command(&self, script: &str) -> StillConfig {
        let notes = self.0.path().display();
        let script = format!("note() {{ echo \"$*\" >> {notes}; }}; note ran; {script}");
        let command = ["/bin/sh", "-c", script.as_str(), "still", StillConfig::FILE];
        StillConfig::new(command.map(str::to_owned).to_vec())
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.0.path()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn runs(&self) -> usize {
        self.lines().iter().filter(|line| *line == "ran").count()
    }

    fn forget(&self) {
        std::fs::write(self.0.path(), "").unwrap();
    }

    /// The number of the process that was noted as this.
    fn process(&self, name: &str) -> Option<u32> {
        let lines = self.lines();
        let mut numbers = lines.iter().filter_map(|line| line.strip_prefix(name));
        numbers.find_map(|number| number.trim().parse().ok())
    }
}

/// Whether it has ended, though nobody may have asked how.
fn is_gone(process: u32) -> bool {
    let told = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"));
    told.map_or(true, |told| told.contains(") Z "))
}

async fn each_of(
    settings: impl Fn(&mut MediaConfig),
    still: &StillConfig,
    test: impl AsyncFn(&World, &Painter),
) {
    let painter = Arc::new(Painter::default());
    let with = |config: &mut MediaConfig| {
        config.still = Some(still.clone());
        settings(config);
    };
    each_with(with, painter.clone(), async |world| {
        test(world, &painter).await;
        // Whatever became of them: no copy of a film is left.
        assert_eq!(world.files().await[1], []);
    })
    .await;
}

async fn film_of(world: &World, content_type: &str, bytes: &[u8]) -> Content {
    let file = NewFile {
        content_type: Some(content_type),
        ..NewFile::default()
    };
    let uploaded = world.media.upload(Some(ALICE), file, body(bytes)).await;
    world.find(&uploaded.unwrap().media_id).await.unwrap()
}

/// One whose still would say where it was taken.
async fn film(world: &World) -> Content {
    film_of(world, "video/mp4", &[HEAD, PNG, b" GPS"].concat()).await
}

async fn picture(world: &World, film: &Content, width: u32) -> Result<Content, MediaError> {
    let made = world
        .media
        .thumbnail(film, wanted(width, 40, Method::Scale));
    soon("the program ends", made).await
}

#[tokio::test]
async fn a_film_has_one_still_for_all_its_pictures() {
    let notes = Notes::new();
    let still = notes.command(PICTURE);
    each_of(
        |_| {},
        &still,
        async |world, painter| {
            notes.forget();
            painter.made.store(0, Ordering::SeqCst);
            let film = film(world).await;
            let (one, same, other) = tokio::join!(
                picture(world, &film, 50),
                picture(world, &film, 50),
                picture(world, &film, 60)
            );
            for (made, expected) in [(one, "50x40"), (same, "50x40"), (other, "60x40")] {
                let made = made.unwrap();
                assert_eq!(read(&made).await, format!("{expected} Scale").as_bytes());
                assert_eq!(made.info.content_type.as_deref(), Some("image/jpeg"));
            }
            assert_eq!(notes.runs(), 1);
            // The still was tried, and then two were made of it.
            assert_eq!(painter.made.swap(0, Ordering::SeqCst), 3);
            // One that isn't larger than what is wanted is its own picture, and not the film.
            for _ in 0..2 {
                let own = picture(world, &film, 2_000).await.unwrap();
                assert_eq!(read(&own).await, PNG);
            }
            // The same film under another name.
            let again = crate::stills::film(world).await;
            picture(world, &again, 70).await.unwrap();
            assert_eq!(notes.runs(), 1);
            // With the film goes all that was made of it.
            let query = rhizome_storage::MediaQuery::default();
            assert_eq!(world.media.delete_all(&query).await.unwrap(), 2);
            world.clock.advance(Duration::from_hours(2));
            world.media.sweep().await.unwrap().unwrap();
            assert_eq!(world.files().await, [[], []]);
        },
    )
    .await;
}

#[tokio::test]
async fn other_servers_films_have_stills() {
    let notes = Notes::new();
    let still = notes.command(PICTURE);
    let sealed = |config: &mut MediaConfig| {
        let (id, key) = ("a".to_owned(), [7; 32]);
        config.keys = vec![SealKey { id, key }];
    };
    // Encrypted where they lie, the still too.
    each_of(sealed, &still, async |world, _| {
        notes.forget();
        let fetched = Fetched {
            content_type: Some(" VIDEO/webm; codecs=vp9".to_owned()),
            name: None,
            length: None,
            body: body(&[HEAD, PNG].concat())
                .map(|piece| piece.map_err(|never| match never {}))
                .boxed(),
        };
        let fetch = async move || Ok(fetched);
        let film = world
            .media
            .remote(there(), "film", Duration::from_mins(1), fetch)
            .await
            .unwrap();
        let made = picture(world, &film, 50).await.unwrap();
        assert_eq!(read(&made).await, b"50x40 Scale");
        assert_eq!(
            (made.info.origin.as_str(), notes.runs()),
            ("there.example", 1)
        );
        for file in &world.files().await[0] {
            let bytes = taken(world.place(), &file.key).await;
            assert!(!bytes.windows(4).any(|window| window == b"\x89PNG"));
        }
    })
    .await;
}

#[tokio::test]
async fn the_program_gets_a_film_and_nothing_else() {
    let notes = Notes::new();
    // By builtins and what is found along PATH.
    let script = format!(
        "note $(stat -c %a \"$1\"); note $(readlink /proc/$$/fd/0); note $PWD; \
         note $(tr '\\0' '\\n' < /proc/$$/environ | cut -d= -f1); {PICTURE}"
    );
    let still = notes.command(&script);
    each_of(
        |_| {},
        &still,
        async |world, _| {
            notes.forget();
            let film = film(world).await;
            picture(world, &film, 50).await.unwrap();
            let told = ["ran", "600", "/dev/null", "/", "PATH"];
            assert_eq!(notes.lines(), told);
        },
    )
    .await;
}

#[tokio::test]
async fn what_the_program_leaves_behind_ends_with_it() {
    let notes = Notes::new();
    // It would hold the pipe open.
    let script = format!("sleep 1000 & note left $!; {PICTURE}");
    let still = notes.command(&script);
    each_of(
        |_| {},
        &still,
        async |world, _| {
            notes.forget();
            let film = film(world).await;
            picture(world, &film, 50).await.unwrap();
            let left = notes.process("left").unwrap();
            eventually("it has ended", async || is_gone(left)).await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_film_without_a_still_is_left_alone_for_a_while() {
    let notes = Notes::new();
    let again_after = Duration::from_mins(5);
    for script in [
        // It fails, whatever it wrote.
        format!("{PICTURE}; echo broken >&2; exit 3"),
        "kill -9 $$".to_owned(),
        // Without end, to either side.
        "cat /dev/zero".to_owned(),
        format!("head -c 1000000 /dev/zero >&2; {PICTURE}; exit 1"),
        // What is no picture, or none that is decoded, or nothing.
        "echo text".to_owned(),
        "printf '\\377\\330\\377 text'".to_owned(),
        String::new(),
    ] {
        let still = StillConfig {
            again_after,
            ..notes.command(&script)
        };
        each_of(
            |_| {},
            &still,
            async |world, _| {
                notes.forget();
                let film = film(world).await;
                for width in [50, 50, 60] {
                    let refused = picture(world, &film, width).await.unwrap_err();
                    assert!(matches!(refused, MediaError::NoThumbnail), "{script}");
                }
                assert_eq!(notes.runs(), 1, "{script}");
                world.clock.advance(again_after);
                picture(world, &film, 50).await.unwrap_err();
                assert_eq!(notes.runs(), 2, "{script}");
            },
        )
        .await;
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_all_it_started() {
    let notes = Notes::new();
    let script = format!("sleep 1000 & note child $!; note itself $$; {PICTURE}; {FOREVER}");
    let still = StillConfig {
        within: Duration::from_secs(2),
        ..notes.command(&script)
    };
    each_of(
        |_| {},
        &still,
        async |world, _| {
            notes.forget();
            let film = film(world).await;
            let refused = picture(world, &film, 50).await.unwrap_err();
            assert!(matches!(refused, MediaError::NoThumbnail));
            for name in ["itself", "child"] {
                let process = notes.process(name).unwrap();
                eventually("it is killed", async || is_gone(process)).await;
            }
            picture(world, &film, 50).await.unwrap_err();
            assert_eq!(notes.runs(), 1);
        },
    )
    .await;
}

#[tokio::test]
async fn a_program_that_isnt_there_is_no_still() {
    let still = StillConfig::new(vec!["/nowhere/at/all".to_owned()]);
    each_of(
        |_| {},
        &still,
        async |world, _| {
            let film = film(world).await;
            let refused = picture(world, &film, 50).await.unwrap_err();
            assert!(matches!(refused, MediaError::NoThumbnail));
        },
    )
    .await;
}

#[tokio::test]
async fn few_run_at_once() {
    let notes = Notes::new();
    let script = format!("{PICTURE}; note ended");
    let still = StillConfig {
        at_once: 1,
        ..notes.command(&script)
    };
    each_of(
        |_| {},
        &still,
        async |world, _| {
            notes.forget();
            let mut films = Vec::new();
            for n in 0..5_u8 {
                let bytes = [b"film ", &[b'0' + n][..], b"\n", PNG].concat();
                films.push(film_of(world, "video/mp4", &bytes).await);
            }
            let all = films.iter().map(|film| picture(world, film, 50));
            for made in futures_util::future::join_all(all).await {
                made.unwrap();
            }
            assert_eq!(notes.lines(), ["ran", "ended"].repeat(5));
        },
    )
    .await;
}

#[tokio::test]
async fn only_films_and_only_by_a_program() {
    let notes = Notes::new();
    let still = notes.command(PICTURE);
    each_of(
        |_| {},
        &still,
        async |world, _| {
            notes.forget();
            for content_type in ["image/png", "audio/ogg", "videos/mp4", "video"] {
                let bytes = [HEAD, content_type.as_bytes()].concat();
                let other = film_of(world, content_type, &bytes).await;
                let refused = picture(world, &other, 50).await.unwrap_err();
                assert!(matches!(refused, MediaError::NoThumbnail), "{content_type}");
            }
            assert_eq!(notes.runs(), 0);
        },
    )
    .await;
    let without = |config: &mut MediaConfig| config.still = None;
    each_of(without, &still, async |world, painter| {
        let film = film(world).await;
        let refused = picture(world, &film, 50).await.unwrap_err();
        assert!(matches!(refused, MediaError::NoThumbnail));
        assert_eq!(painter.made.swap(0, Ordering::SeqCst), 1);
    })
    .await;
    assert_eq!(notes.runs(), 0);
}
