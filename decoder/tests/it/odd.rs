//! What is wrong with a file that viewers show: it is stripped all the same.

use rhizome_decoder::picture::probe;
use rhizome_decoder::strip::strip;
use rhizome_decoder::{Decoders, Limits};

use crate::make::{self, SECRET, has, jpeg, moving, png};
use crate::stripped::stripped;

/// Bytes before the first of these.
fn before<'a>(file: &'a [u8], what: &[u8]) -> &'a [u8] {
    &file[..file.windows(what.len()).position(|at| at == what).unwrap()]
}

#[test]
fn a_photo_that_is_cut_off_ends_where_it_ends() {
    for progressive in [false, true] {
        let whole = jpeg::jpeg(64, 48, progressive);
        let exif = [jpeg::exif_segment(&make::exif(6))];
        let scan = before(&whole, b"\xff\xda").len() + 14;
        for end in (scan..whole.len()).step_by(5) {
            let file = jpeg::with(&whole[..end], &exif);
            let out = stripped(&file);
            assert!(!has(&out, SECRET));
            assert!(out.ends_with(b"\xff\xd9"));
            assert_eq!(stripped(&out), out, "{end}");
            assert_eq!(probe(&out, &Limits::default()).unwrap().orientation, 6);
        }
        // Without its end alone, and with what isn't one.
        let end = whole.len() - 2;
        let second = [&whole[..end], &jpeg::with(&whole, &exif)].concat();
        let nonsense = [&whole[..end], b"\xff\xe1\0\x01", SECRET].concat();
        for file in [&whole[..end], &whole[..=end], &second, &nonsense] {
            assert_eq!(stripped(file), whole);
        }
    }
}

#[test]
fn stray_bytes_between_segments_go() {
    let photo = jpeg::jpeg(30, 20, false);
    let strays = [
        SECRET.to_vec(),
        b"\xff\0\xff\x01\xff\xd0".to_vec(),
        vec![0xff; 5000],
        jpeg::segment(0xfe, SECRET),
        SECRET.to_vec(),
    ];
    // The first byte of the first segment tells the format.
    let strays = [vec![jpeg::exif_segment(&make::exif(1))], strays.to_vec()].concat();
    assert_eq!(stripped(&jpeg::with(&photo, &strays)), photo);
}

#[tokio::test]
async fn many_segments_that_say_the_same_dont_grow() {
    let small = jpeg::segment(0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01");
    let photo = jpeg::jpeg(30, 20, false);
    let photo = jpeg::with(&photo, &vec![small; 100]);
    // Under a shorter name than it gets.
    let named = png::iccp(&make::profile(200));
    let content = &named[8 + SECRET.len()..named.len() - 4];
    let name = png::chunk(*b"iCCP", &[b"x", content].concat());
    let drawing = png::with(&png::png(4, 4, 3), &vec![name; 100]);
    for file in [photo, drawing] {
        let out = stripped(&file);
        let mut same = Vec::new();
        let decoders = Decoders::in_process();
        decoders.strip(&*file, &mut same).await.unwrap();
        assert_eq!(same, out);
        assert_eq!(make::pixels(&out), make::pixels(&file));
    }
}

#[test]
fn a_wrong_checksum_costs_its_chunk_unless_pixels_need_it() {
    let drawing = png::png(9, 7, 3);
    let mut gamma = png::chunk(*b"gAMA", &45_455_u32.to_be_bytes());
    gamma[11] ^= 1;
    let mut exif = png::chunk(*b"eXIf", &make::exif(6));
    exif[20] ^= 1;
    let mut profile = png::iccp(&make::profile(300));
    profile[30] ^= 1;
    let long = png::chunk(*b"gAMA", SECRET);
    let file = png::with(&drawing, &[gamma, exif, profile, long]);
    assert_eq!(stripped(&file), drawing);
    for sum in [29, drawing.len() - 14] {
        let mut wrong = drawing.clone();
        wrong[sum] ^= 1;
        let file = png::with(&wrong, &[png::chunk(*b"tEXt", SECRET)]);
        assert_eq!(stripped(&file), wrong);
    }
    // Its last chunk says nothing.
    let end = drawing.len() - 12;
    let last = png::chunk(*b"IEND", SECRET);
    assert_eq!(stripped(&[&drawing[..end], &last].concat()), drawing);
}

#[test]
fn chunks_that_pixels_may_need_stay_and_all_else_goes_beside_them() {
    let drawing = png::png(9, 7, 3);
    let unknown = png::chunk(*b"UNKN", b"codes");
    let apple = png::chunk(*b"CgBI", &[0x50, 0, 0x20, 6]);
    let talks = [
        png::chunk(*b"eXIf", &make::exif(1)),
        png::chunk(*b"tEXt", SECRET),
        png::chunk(*b"prVt", b""),
    ];
    for kept in [vec![unknown.clone()], vec![]] {
        let whole = png::with(&drawing, &kept);
        let file = png::with(&whole, &talks);
        assert_eq!(stripped(&file), whole);
        let [whole, file] = [whole, file].map(|file| [png::SIGNATURE, &apple, &file[8..]].concat());
        assert_eq!(stripped(&file), whole);
    }
}

#[test]
fn a_drawing_that_is_cut_off_goes_as_far_as_it_is_there() {
    let drawing = png::png(19, 31, 4);
    let start = before(&drawing, b"IDAT").len();
    let end = drawing.len() - 12;
    for cut in [start + 4, start + 20, end - 1] {
        let file = png::with(&drawing[..cut], &[png::chunk(*b"tEXt", SECRET)]);
        assert_eq!(stripped(&file), &drawing[..cut]);
    }
    for nonsense in [&b""[..], b"\0\0", b"\0\0\0\x14tEXt52.5N", SECRET] {
        assert_eq!(stripped(&[&drawing[..end], nonsense].concat()), drawing);
    }
}

#[test]
fn nothing_hides_behind_a_profile() {
    for length in [132, 3000, 100_000, 900_000] {
        let drawing = png::with(&png::png(4, 4, 3), &[png::iccp(&make::profile(length))]);
        let clean = stripped(&drawing);
        let chunk = png::iccp(&make::profile(length));
        let content = [&chunk[8..chunk.len() - 4], SECRET].concat();
        let file = png::with(&png::png(4, 4, 3), &[png::chunk(*b"iCCP", &content)]);
        assert!(has(&clean, b"iCCP"));
        assert_eq!(stripped(&file), clean);
    }
}

#[test]
fn a_webp_is_as_long_as_it_is() {
    let files = [
        moving::still_webp(21, 13),
        moving::plain_webp(9, 9),
        moving::webp(16, 12, 3),
    ];
    for file in files {
        let clean = stripped(&file);
        for says in [0, 0x7fff_fff0_u32, u32::MAX] {
            let mut file = [&*file, &moving::chunk(*b"EXIF", &make::exif(1))].concat();
            file[4..8].copy_from_slice(&says.to_le_bytes());
            let out = stripped(&file);
            assert_eq!(out, clean);
            assert_eq!(make::pixels(&out), make::pixels(&clean));
        }
        // A chunk's header that is cut off, and one that has less than it says.
        for rest in [&b"EX"[..], b"EXIF\xff\0\0\0II*\0"] {
            let mut file = [&*file, rest].concat();
            file[4..8].copy_from_slice(&[0; 4]);
            assert_eq!(stripped(&file), clean);
        }
        for end in file.len() - 20..file.len() {
            let out = stripped(&file[..end]);
            assert_eq!(
                out[4..8],
                (u32::try_from(out.len()).unwrap() - 8).to_le_bytes()
            );
            assert_eq!(stripped(&out), out);
        }
    }
}

#[test]
fn a_webp_that_may_have_no_profile_has_none() {
    let plain = moving::plain_webp(9, 9);
    let profile = moving::chunk(*b"ICCP", &make::profile(300));
    for file in [
        moving::riff(&[profile.clone(), plain[12..].to_vec()]),
        moving::riff(&[plain[12..].to_vec(), profile]),
    ] {
        assert_eq!(stripped(&file), plain);
    }
}

#[test]
fn a_webp_of_too_much_is_refused() {
    let file = moving::riff(&[moving::chunk(*b"VP8 ", &vec![1; (64 << 20) + 2])]);
    assert!(strip(&*file, std::io::sink()).is_err());
}
