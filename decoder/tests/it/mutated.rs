//! Files with some bytes changed: no panic, whatever they are.

use proptest::prelude::*;
use rhizome_decoder::Limits;
use rhizome_decoder::picture::{Ask, Method, probe, thumbnails};
use rhizome_decoder::strip::strip;

use crate::make::{self, moving};
use crate::thumbnails::{WEBP, ask};

fn files() -> Vec<Vec<u8>> {
    let mut files: Vec<_> = make::talkative()
        .into_iter()
        .map(|(_, file)| file)
        .collect();
    files.extend([moving::gif(24, 16, 3), moving::plain_webp(9, 9)]);
    files
}

/// Small enough for many tries.
fn limits() -> Limits {
    Limits {
        pixels: 1 << 20,
        memory: 64 << 20,
        animated_pixels: 1 << 20,
        ..Limits::default()
    }
}

fn everything(file: &[u8]) {
    let asks = [
        Ask {
            animated: true,
            accepts: WEBP,
            ..ask(7, 5, Method::Crop)
        },
        Ask {
            animated: true,
            ..ask(3, 3, Method::Scale)
        },
    ];
    let _ = thumbnails(file, &asks, true, &limits());
    let mut once = Vec::new();
    if strip(file, &mut once).is_ok() {
        let mut twice = Vec::new();
        strip(&*once, &mut twice).unwrap();
        assert_eq!(once, twice);
    }
    if let Ok(told) = probe(file, &limits()) {
        assert!(u64::from(told.width) * u64::from(told.height) <= limits().pixels);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn changed_bytes_are_no_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        near in prop::collection::vec((0_usize..120, any::<u8>()), 0..4),
        cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let mut file = which.get(&files()).clone();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        for (at, byte) in near {
            if let Some(at) = file.get_mut(at) {
                *at = byte;
            }
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        everything(&file);
    }

    #[test]
    fn any_bytes_are_no_panic(start in 0_usize..9, bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let files = files();
        let start = &files[start][..16];
        everything(&[start, &bytes].concat());
        everything(&bytes);
    }
}
