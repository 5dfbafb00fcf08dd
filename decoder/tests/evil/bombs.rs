//! Small files that want to become large.

use miniz_oxide::deflate::compress_to_vec_zlib;
use rhizome_decoder::Excess;

use crate::make::{jpeg, moving, png, profile};
use crate::{End, Evil, evil};

pub fn all() -> Vec<Evil> {
    let mut all = pngs();
    all.extend(animations());
    all.extend(jpegs());
    all
}

fn zeros(length: usize) -> Vec<u8> {
    compress_to_vec_zlib(&vec![0; length], 9)
}

fn drawn(width: u32, height: u32, data: &[u8]) -> Vec<u8> {
    [
        png::header(width, height, 0),
        png::chunk(b"IDAT", data),
        png::chunk(b"IEND", &[]),
    ]
    .concat()
}

fn pngs() -> Vec<Evil> {
    let small = png::png(64, 64, 3);
    let mut no_sum = drawn(65_535, 1, &zeros(65_536));
    no_sum.truncate(60);
    vec![
        evil(
            "a hundred million pixels of zlib",
            drawn(10_000, 10_000, &zeros(100_010_000)),
            End::TooLarge(Excess::Pixels),
        ),
        evil(
            "more data than pixels",
            drawn(40, 40, &zeros(50_000_000)),
            End::BrokenOrPicture,
        ),
        evil(
            "65,535 by 65,535",
            drawn(65_535, 65_535, &zeros(100)),
            End::TooLarge(Excess::Pixels),
        ),
        evil(
            "two thousand million by one",
            drawn(0x7fff_ffff, 1, &zeros(100)),
            End::TooLarge(Excess::Side),
        ),
        evil("no pixels", drawn(0, 10, &zeros(10)), End::Broken),
        evil(
            "1 by 65,535",
            drawn(1, 65_535, &zeros(2 * 65_535)),
            End::Picture,
        ),
        evil(
            "65,535 by 1",
            drawn(65_535, 1, &zeros(65_536)),
            End::Picture,
        ),
        evil("65,535 by 1, cut short", no_sum, End::Broken),
        evil(
            "a colour profile of zlib",
            png::with(&small, &[png::iccp(&vec![0; 200_000_000])]),
            End::BrokenOrPicture,
        ),
        evil(
            "text of zlib",
            png::with(
                &small,
                &[png::chunk(
                    b"zTXt",
                    &[&b"a\0\0"[..], &zeros(100_000_000)].concat(),
                )],
            ),
            End::Picture,
        ),
        evil(
            "a chunk of two gigabytes",
            png::with(&small, &[b"\x7f\xff\xff\xfftEXt".to_vec()]),
            End::Broken,
        ),
    ]
}

fn gif_header(width: u16, height: u16) -> Vec<u8> {
    [
        b"GIF89a",
        &width.to_le_bytes()[..],
        &height.to_le_bytes(),
        &[0x80, 0, 0, 0, 0, 0, 255, 255, 255],
    ]
    .concat()
}

fn gif_frame(width: u16, height: u16) -> Vec<u8> {
    // Clear, one pixel, end.
    [
        &[0x2c, 0, 0, 0, 0][..],
        &width.to_le_bytes(),
        &height.to_le_bytes(),
        &[0, 2, 2, 0x44, 0x01, 0],
    ]
    .concat()
}

fn animations() -> Vec<Evil> {
    let gif = |width, height, frames: &[u8]| [&gif_header(width, height), frames, b";"].concat();
    let many = gif_frame(1, 1).repeat(200_000);
    let large = moving::gif(1000, 1000, 2);
    let frames = &large[gif_header(1, 1).len()..];
    let mut vp8l = vec![0x2f];
    vp8l.extend_from_slice(&(0x3fff_u32 | 0x3fff << 14).to_le_bytes());
    let promised = |count: u32| {
        let mut apng = moving::apng(8, 8, 2);
        let at = apng.windows(4).position(|kind| kind == b"acTL").unwrap();
        let control = png::chunk(b"acTL", &[count.to_be_bytes(), [0; 4]].concat());
        apng.splice(at - 4..at + 16, control);
        apng
    };
    let frame = [0_u8; 16];
    let empty = moving::chunk(
        b"ANMF",
        &[&frame[..], &moving::chunk(b"VP8L", &[0x2f, 0, 0, 0, 0])].concat(),
    );
    let mut webp_frames = vec![moving::canvas(64, 64, 2), moving::chunk(b"ANIM", &[0; 6])];
    webp_frames.extend(vec![empty; 50_000]);
    let mut canvas = moving::webp(8, 8, 2);
    canvas[24..30].copy_from_slice(&[0xff, 0xff, 0, 0xff, 0xff, 0]);
    vec![
        evil(
            "a GIF of 65,535 by 65,535",
            gif(65_535, 65_535, &gif_frame(1, 1)),
            End::TooLarge(Excess::Pixels),
        ),
        evil(
            "a GIF's frame of 65,535 by 65,535",
            gif(1, 1, &gif_frame(65_535, 65_535)),
            End::TooLarge(Excess::Memory),
        ),
        evil("a GIF of 200,000 frames", gif(64, 64, &many), End::Picture),
        evil(
            "a GIF within a GIF",
            [&large[..], frames].concat(),
            End::Picture,
        ),
        evil(
            "an APNG of four thousand million frames",
            promised(u32::MAX),
            End::Picture,
        ),
        evil("an APNG of no frames", promised(0), End::BrokenOrPicture),
        evil(
            "a WebP of 16,384 by 16,384",
            moving::riff(&[moving::chunk(b"VP8L", &vp8l)]),
            End::TooLarge(Excess::Pixels),
        ),
        evil(
            "a WebP canvas of 65,536 by 65,536",
            canvas,
            End::TooLarge(Excess::Side),
        ),
        evil(
            "a WebP of 50,000 frames",
            moving::riff(&webp_frames),
            End::Broken,
        ),
    ]
}

fn jpegs() -> Vec<Evil> {
    let small = jpeg::jpeg(64, 64, false);
    let progressive = jpeg::jpeg(64, 64, true);
    let scan = progressive
        .windows(2)
        .rposition(|marker| marker == [0xff, 0xda])
        .unwrap();
    let scans = progressive[scan..progressive.len() - 2].repeat(300);
    let many = [&progressive[..scan], &scans, &[0xff, 0xd9]].concat();
    let long = profile(4_000_000);
    vec![
        evil(
            "a JPEG of 65,535 by 65,535",
            jpeg::promise(65_535, 65_535),
            End::TooLarge(Excess::Pixels),
        ),
        evil(
            "a JPEG of 1 by 65,535",
            jpeg::promise(1, 65_535),
            End::BrokenOrPicture,
        ),
        evil(
            "a JPEG of 7000 by 7000 of nothing",
            jpeg::promise(7000, 7000),
            End::BrokenOrPicture,
        ),
        evil("a JPEG without lines", jpeg::promise(16, 0), End::Broken),
        evil("three hundred scans", many, End::Broken),
        evil(
            "a colour profile of four megabytes",
            jpeg::with(&small, &jpeg::icc_segments(&long, 80)),
            End::Picture,
        ),
        evil(
            "a million markers",
            jpeg::with(&small, &vec![jpeg::segment(0xfe, b""); 1_000_000]),
            End::Picture,
        ),
        evil(
            "nothing but fill",
            [&b"\xff\xd8"[..], &[0xff; 1_000_000]].concat(),
            End::Broken,
        ),
    ]
}
