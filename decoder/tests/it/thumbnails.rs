//! Thumbnails: sizes, formats, turning, moving.

use rhizome_decoder::Limits;
use rhizome_decoder::picture::{
    Accepts, Ask, Format, Made, Method, Thumbnail, blurhash, probe, thumbnail, thumbnails,
};

use crate::make::{self, jpeg, moving, png};

pub const WEBP: Accepts = Accepts {
    webp: true,
    jpeg: true,
    png: true,
    gif: true,
};

pub fn ask(width: u32, height: u32, method: Method) -> Ask {
    Ask {
        width,
        height,
        method,
        animated: false,
        accepts: Accepts::default(),
    }
}

pub fn specified() -> Vec<Ask> {
    use Method::{Crop, Scale};
    vec![
        ask(32, 32, Crop),
        ask(96, 96, Crop),
        ask(320, 240, Scale),
        ask(640, 480, Scale),
        ask(800, 600, Scale),
    ]
}

fn made(file: &[u8], ask: &Ask) -> Thumbnail {
    match thumbnail(file, ask, &Limits::default()).unwrap() {
        Made::Thumbnail(made) => made,
        Made::Original => panic!("the original"),
    }
}

#[test]
fn the_specified_sizes_come_of_one_decoding() {
    let photo = jpeg::jpeg(1000, 1400, false);
    let all = thumbnails(&photo, &specified(), true, &Limits::default()).unwrap();
    let sizes: Vec<_> = all
        .made
        .iter()
        .map(|made| match made {
            Made::Thumbnail(made) => {
                assert_eq!(made.format, Format::Jpeg);
                let told = probe(&made.bytes, &Limits::default()).unwrap();
                assert_eq!((told.width, told.height), (made.width, made.height));
                (made.width, made.height)
            }
            Made::Original => (0, 0),
        })
        .collect();
    assert_eq!(
        sizes,
        [(32, 32), (96, 96), (320, 448), (640, 896), (800, 1120)]
    );
    let blur = all.blurhash.unwrap();
    assert_eq!(blur, blurhash(&photo, &Limits::default()).unwrap());
    assert_eq!(blur.len(), 28);
}

#[test]
fn a_small_source_is_its_own_thumbnail() {
    let small = png::png(30, 30, 3);
    let made = thumbnail(&small, &ask(32, 32, Method::Scale), &Limits::default()).unwrap();
    assert_eq!(made, Made::Original);
}

#[test]
fn a_picture_is_turned_as_its_camera_was() {
    // Left black, right white.
    let data: Vec<u8> = (0..200 * 100)
        .flat_map(|at| if at % 200 < 100 { [0; 3] } else { [255; 3] })
        .collect();
    let mut photo = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut photo, 95);
    encoder
        .encode(&data, 200, 100, jpeg_encoder::ColorType::Rgb)
        .unwrap();
    // Turned to the right, what was left is above.
    let photo = jpeg::with(&photo, &[jpeg::exif_segment(&make::exif(6))]);
    let told = probe(&photo, &Limits::default()).unwrap();
    assert_eq!((told.width, told.height, told.orientation), (100, 200, 6));
    let made = made(&photo, &ask(50, 100, Method::Scale));
    assert_eq!((made.width, made.height), (50, 100));
    let pixels = jpeg::pixels(&made.bytes);
    assert!(pixels[..50 * 3 * 40].iter().all(|value| *value < 40));
    assert!(pixels[50 * 3 * 60..].iter().all(|value| *value > 215));
    assert!(!make::has(&made.bytes, b"Exif"));
}

#[test]
fn formats_follow_what_is_shown_and_what_is_accepted() {
    let (photo, clear) = (png::png(300, 200, 3), png::png(300, 200, 4));
    let only = |webp, jpeg, png| Accepts {
        webp,
        jpeg,
        png,
        gif: false,
    };
    let format = |file: &[u8], accepts| {
        made(
            file,
            &Ask {
                accepts,
                ..ask(100, 100, Method::Scale)
            },
        )
        .format
    };
    assert_eq!(format(&photo, only(true, true, false)), Format::Jpeg);
    assert_eq!(format(&photo, only(true, false, true)), Format::Png);
    assert_eq!(format(&photo, only(true, false, false)), Format::Webp);
    assert_eq!(format(&clear, only(true, true, true)), Format::Webp);
    assert_eq!(format(&clear, only(false, true, true)), Format::Png);
    assert_eq!(format(&clear, only(false, true, false)), Format::Jpeg);
    assert_eq!(format(&clear, only(false, false, false)), Format::Png);
    // A drawing stays without loss.
    let flat = png::of_data(300, 200, 3, &[80; 300 * 200 * 3]);
    assert_eq!(format(&flat, Accepts::default()), Format::Png);
}

#[test]
fn a_small_colour_profile_is_kept() {
    let with = |profile: &[u8]| {
        jpeg::with(
            &jpeg::jpeg(300, 200, false),
            &jpeg::icc_segments(profile, 1),
        )
    };
    let small = made(&with(&make::profile(600)), &ask(100, 100, Method::Crop));
    assert!(make::has(&small.bytes, &make::profile(600)));
    let large = made(&with(&make::profile(60_000)), &ask(100, 100, Method::Crop));
    assert!(!make::has(&large.bytes, b"ICC_PROFILE"));
}

#[test]
fn animations_move_when_asked() {
    let moving = |animated, accepts| Ask {
        animated,
        accepts,
        ..ask(30, 20, Method::Scale)
    };
    let files = [
        moving::gif(60, 40, 5),
        moving::apng(60, 40, 5),
        moving::webp(60, 40, 5),
    ];
    for file in files {
        assert_eq!(probe(&file, &Limits::default()).unwrap().frames, 5);
        let webp = made(&file, &moving(true, WEBP));
        assert_eq!(
            (webp.format, webp.animated, webp.width, webp.height),
            (Format::Webp, true, 30, 20)
        );
        assert_eq!(moving::webp_pixels(&webp.bytes).len(), 5);
        let gif = made(&file, &moving(true, Accepts::default()));
        assert_eq!((gif.format, gif.animated), (Format::Gif, true));
        assert_eq!(probe(&gif.bytes, &Limits::default()).unwrap().frames, 5);
        for still in [
            moving(false, WEBP),
            moving(
                true,
                Accepts {
                    gif: false,
                    ..Accepts::default()
                },
            ),
        ] {
            assert!(!made(&file, &still).animated);
        }
        // As large as the source: what moves is the source itself, what doesn't is made.
        let large = |animated| Ask {
            animated,
            ..ask(60, 40, Method::Scale)
        };
        assert_eq!(
            thumbnail(&file, &large(true), &Limits::default()).unwrap(),
            Made::Original
        );
        let still = made(&file, &large(false));
        assert_eq!((still.width, still.height, still.animated), (60, 40, false));
    }
}

#[test]
fn both_moving_formats_show_the_same() {
    // Something goes through a transparent picture.
    let frame = |at: usize| -> Vec<u8> {
        (0..80 * 40)
            .flat_map(|pixel| {
                if pixel % 80 / 20 == at {
                    [255, 0, 0, 255]
                } else {
                    [0; 4]
                }
            })
            .collect()
    };
    let mut encoder = gif::Encoder::new(Vec::new(), 80, 40, &[]).unwrap();
    for at in 0..4 {
        let mut frame = gif::Frame::from_rgba(80, 40, &mut frame(at));
        frame.dispose = gif::DisposalMethod::Background;
        encoder.write_frame(&frame).unwrap();
    }
    let source = encoder.into_inner().unwrap();
    let ask = |accepts| Ask {
        animated: true,
        accepts,
        ..ask(40, 20, Method::Scale)
    };
    let as_gif = made(&source, &ask(Accepts::default()));
    // What a GIF shows, by way of a second thumbnail that only copies it.
    let again = made(
        &as_gif.bytes,
        &Ask {
            width: 39,
            height: 1,
            ..ask(WEBP)
        },
    );
    let direct = made(
        &source,
        &Ask {
            width: 39,
            height: 1,
            ..ask(WEBP)
        },
    );
    let red = |file: &[u8]| -> Vec<Vec<bool>> {
        let frames = moving::webp_pixels(file);
        frames
            .iter()
            .map(|frame| frame.chunks_exact(4).map(|pixel| pixel[3] > 200).collect())
            .collect()
    };
    let (again, direct) = (red(&again.bytes), red(&direct.bytes));
    assert_eq!(again.len(), 4);
    for (again, direct) in again.iter().zip(&direct) {
        let differ = again
            .iter()
            .zip(direct)
            .filter(|(one, other)| one != other)
            .count();
        assert!(differ * 10 < again.len(), "{differ} of {}", again.len());
    }
}
