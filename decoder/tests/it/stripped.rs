//! Stripping: what stays, what goes.

use rhizome_decoder::picture::{Format, probe};
use rhizome_decoder::strip::{Stripped, strip};
use rhizome_decoder::{Fault, Limits};

use crate::make::{self, SECRET, has, jpeg, moving, png};

pub fn stripped(file: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let told = strip(file, &mut out).unwrap();
    assert_eq!(
        (told.read, told.written),
        (file.len() as u64, out.len() as u64)
    );
    out
}

#[test]
fn pixels_turns_and_profiles_stay_all_else_goes() {
    for (name, file) in make::talkative() {
        assert!(has(&file, SECRET), "{name}");
        let out = stripped(&file);
        assert!(!has(&out, SECRET), "{name}");
        assert!(out.len() < file.len(), "{name}");
        assert_eq!(make::pixels(&out), make::pixels(&file), "{name}");
        let limits = Limits::default();
        assert_eq!(
            probe(&out, &limits).unwrap(),
            probe(&file, &limits).unwrap(),
            "{name}"
        );
        assert_eq!(stripped(&out), out, "{name}: twice is once");
        // Nothing else was said of them.
        let (grows, names) = match Format::of(&out).unwrap() {
            Format::Jpeg => (&b"ICC_PROFILE"[..], ["Photoshop", "MPF", "http", "JFXX"]),
            Format::Png => (&b"iCCPicc"[..], ["tEXt", "zTXt", "iTXt", "tIME"]),
            _ => (&b"ICCP"[..], ["XMP ", "JUNK", "UNKN", "http"]),
        };
        assert!(has(&out, grows), "{name}: the profile");
        assert!(names.iter().all(|tag| !has(&out, tag.as_bytes())), "{name}");
    }
}

#[test]
fn what_has_nothing_to_hide_stays_as_it_is() {
    let plain = [
        jpeg::jpeg(40, 30, true),
        png::png(9, 9, 3),
        moving::plain_webp(8, 8),
        moving::apng(8, 8, 3),
    ];
    for file in plain {
        assert_eq!(stripped(&file), file);
    }
}

#[test]
fn a_drawing_may_name_its_program_and_nothing_else() {
    let drawing = png::png(9, 9, 3);
    let with = |text: &[u8]| png::with(&drawing, &[png::chunk(*b"tEXt", text)]);
    for name in [
        &b"Adobe ImageReady"[..],
        b"GIMP 2.10.34",
        b"Adobe Photoshop 25.1 (Windows)",
        b"Matplotlib version3.8.2, https://matplotlib.org/",
    ] {
        let named = with(&[b"Software\0", name].concat());
        let told = if name.contains(&b':') {
            &drawing
        } else {
            &named
        };
        assert_eq!(stripped(&named), *told);
    }
    for telling in [
        &b"Comment\0Software"[..],
        b"Author\0Ada",
        b"Software\0Camera of ada@here.example",
        // Phones and cameras call themselves so.
        b"Software\0Google Pixel 9 Pro",
        b"Software\0HDR+ 1.0.540104767zd",
        b"Software\0GIMP\0and more",
        &[&b"Software\0GIMP"[..], &[b'a'; 25]].concat(),
    ] {
        assert_eq!(stripped(&with(telling)), drawing);
    }
    let twice = png::chunk(*b"tEXt", b"Software\0Krita");
    let twice = png::with(&drawing, &[twice.clone(), twice]);
    assert_eq!(stripped(&twice), with(b"Software\0Krita"));
}

#[test]
fn what_is_no_such_picture_passes_unchanged() {
    let svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>";
    let large = vec![42; 300_000];
    for file in [
        &b""[..],
        b"GIF89a",
        b"\xff",
        svg,
        &moving::gif(8, 8, 2),
        &large,
    ] {
        let mut out = Vec::new();
        let told = strip(file, &mut out).unwrap();
        let length = file.len() as u64;
        assert_eq!(
            told,
            Stripped {
                format: None,
                read: length,
                written: length
            }
        );
        assert_eq!(out, file);
    }
}

#[test]
fn what_is_broken_is_an_error() {
    let broken = |file: &[u8]| {
        let error = strip(file, std::io::sink()).unwrap_err();
        assert!(
            matches!(
                error,
                rhizome_decoder::strip::Error::Fault(Fault::Broken(_))
            ),
            "{error}"
        );
    };
    for (name, file) in make::talkative() {
        let whole = stripped(&file);
        let pixels: &[u8] = match Format::of(&whole).unwrap() {
            Format::Jpeg => b"\xff\xda",
            Format::Png => b"IDAT",
            _ => b"VP8L",
        };
        let pixels = whole.windows(pixels.len()).position(|at| at == pixels);
        for end in 12..pixels.unwrap() - 24 {
            let cut = strip(&whole[..end], std::io::sink());
            assert!(cut.is_err(), "{name} at {end} of {}", whole.len());
        }
    }
    broken(b"\xff\xd8\xff\xd9");
    broken(&png::header(1, 1, 0));
    broken(&png::with(
        &png::png(4, 4, 3),
        &[png::chunk(*b"PLTE", &[7; 769])],
    ));
    broken(&moving::riff(&[moving::canvas(1, 1, 0)]));
}

#[test]
fn profiles_that_are_none_go() {
    let fine = make::profile(3000);
    let mut no_profile = fine.clone();
    no_profile[36] = b'x';
    let long = make::profile(2 << 20);
    let photo = jpeg::jpeg(16, 16, false);
    let parts = |profile: &[u8], count| jpeg::icc_segments(profile, count);
    let mut missing = parts(&fine, 3);
    missing.remove(1);
    for (segments, kept) in [
        (parts(&fine, 3), true),
        (parts(&no_profile, 1), false),
        (parts(&long, 40), false),
        (missing, false),
        (parts(&fine[..2000], 1), false),
    ] {
        assert_eq!(
            has(&stripped(&jpeg::with(&photo, &segments)), b"ICC_PROFILE"),
            kept
        );
    }
    let drawing = png::png(4, 4, 3);
    for (profile, kept) in [(&fine, true), (&no_profile, false), (&long, false)] {
        let out = stripped(&png::with(&drawing, &[png::iccp(profile)]));
        assert_eq!(has(&out, b"iCCP"), kept);
    }
}

#[test]
fn the_first_block_that_says_a_turn_counts_before_and_after() {
    let photo = jpeg::jpeg(30, 20, false);
    let block = |orientation| jpeg::exif_segment(&make::exif(orientation));
    for (blocks, turn) in [
        (vec![block(1), block(6)], 1),
        (vec![block(0), block(6), block(3)], 6),
        (vec![block(200)], 1),
    ] {
        let file = jpeg::with(&photo, &blocks);
        let told = |file: &[u8]| probe(file, &Limits::default()).unwrap().orientation;
        assert_eq!((told(&file), told(&stripped(&file))), (turn, turn));
    }
}
