//! Files that aren't what they say, or two things at once.

use crate::make::{self, jpeg, moving, png};
use crate::{End, Evil, evil};

pub fn all() -> Vec<Evil> {
    let mut all = documents();
    all.extend(polyglots());
    all.extend(loops());
    all.extend(cut());
    all
}

fn documents() -> Vec<Evil> {
    let none = |name, file: &[u8]| evil(name, file.to_vec(), End::NotAPicture);
    vec![
        none("an SVG with a script", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>alert(1)</script></svg>"),
        none("an SVG of entities", b"<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY a 'aaaaaaaa'><!ENTITY b '&a;&a;'>]><svg>&b;</svg>"),
        none("HTML", b"<html><script>alert(1)</script></html>"),
        none("nothing", b""),
        none("a BMP", b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0"),
        none("a TIFF that is a loop", b"II*\0\x08\0\0\0\x01\0\0\0"),
        none("an AVIF", b"\0\0\0\x20ftypavif\0\0\0\0"),
        none("PostScript for ImageMagick", b"%!PS\n(/etc/passwd) run"),
        none("a program for ImageMagick", b"push graphic-context\nfill 'url(https://127.0.0.1/)'"),
        none("one byte of a PNG", b"\x89"),
        none("a RIFF that is a WAV", b"RIFF\x24\0\0\0WAVEfmt "),
    ]
}

fn polyglots() -> Vec<Evil> {
    let photo = jpeg::jpeg(64, 64, false);
    let drawing = png::png(64, 64, 3);
    let script = b"<script>alert(1)</script>";
    let comment = jpeg::segment(0xfe, &[b"*/=alert(1);/*", &script[..]].concat());
    vec![
        evil(
            "a JPEG and a ZIP",
            [&photo, &b"PK\x03\x04\x14\0\0\0evil.jar"[..]].concat(),
            End::Picture,
        ),
        evil(
            "a PNG and HTML",
            [&drawing, &b"<html>"[..], script].concat(),
            End::Picture,
        ),
        evil(
            "a JPEG that is a script",
            jpeg::with(&photo, &[comment]),
            End::Picture,
        ),
        evil(
            "a PNG that is a page",
            png::with(&drawing, &[png::chunk(b"tEXt", script)]),
            End::Picture,
        ),
        evil(
            "a GIF that is a script",
            [&b"GIF89a=1;/*"[..], &[0; 40], b"*/alert(1)"].concat(),
            End::Broken,
        ),
        evil(
            "a WebP and HTML",
            [&moving::plain_webp(64, 64), &script[..]].concat(),
            End::Picture,
        ),
    ]
}

fn loops() -> Vec<Evil> {
    let photo = jpeg::jpeg(64, 64, false);
    let exif = |block: &[u8]| jpeg::with(&photo, &[jpeg::exif_segment(block)]);
    let mut many = make::exif(6);
    many[8..10].copy_from_slice(&[0xff, 0xff]);
    many[10] = 0x13;
    vec![
        evil(
            "EXIF that begins at its beginning",
            exif(b"II*\0\0\0\0\0"),
            End::Picture,
        ),
        evil(
            "EXIF that begins at itself",
            exif(b"MM\0*\0\0\0\x04\0\x01\0\x08\0\0\0\0"),
            End::Picture,
        ),
        evil(
            "EXIF beyond its end",
            exif(b"II*\0\xff\xff\xff\xff"),
            End::Picture,
        ),
        evil("EXIF of 65,535 entries", exif(&many), End::Picture),
        evil("EXIF in EXIF", exif(&exif(b"II*\0")), End::Picture),
        evil(
            "EXIF that turns by 200",
            exif(&make::exif(200)),
            End::Picture,
        ),
        evil("EXIF of nothing", exif(b""), End::Picture),
    ]
}

fn cut() -> Vec<Evil> {
    let mut all = Vec::new();
    let broken = |name, file: &[u8], end| evil(name, file.to_vec(), end);
    let photo = jpeg::jpeg(64, 64, false);
    all.push(broken(
        "a JPEG's first half",
        &photo[..photo.len() / 2],
        End::BrokenOrPicture,
    ));
    all.push(broken("a JPEG's first marker", &photo[..4], End::Broken));
    let mut no_tables = photo.clone();
    for at in 0..no_tables.len() - 1 {
        // Tables become comments.
        if no_tables[at] == 0xff && matches!(no_tables[at + 1], 0xc4 | 0xdb) {
            no_tables[at + 1] = 0xfe;
        }
    }
    all.push(broken("a JPEG without tables", &no_tables, End::Broken));
    let drawing = png::png(64, 64, 3);
    all.push(broken(
        "a PNG's first half",
        &drawing[..drawing.len() / 2],
        End::Broken,
    ));
    all.push(broken("a PNG's header", &drawing[..33], End::Broken));
    let palette = [
        png::header(8, 8, 3),
        png::chunk(b"IDAT", &[0; 4]),
        png::chunk(b"IEND", &[]),
    ]
    .concat();
    all.push(broken("a PNG without its palette", &palette, End::Broken));
    let gif = moving::gif(64, 64, 2);
    all.push(broken("a GIF's header", &gif[..13], End::Broken));
    all.push(broken(
        "a GIF's first pixels",
        &gif[..gif.len() / 4],
        End::BrokenOrPicture,
    ));
    let webp = moving::plain_webp(64, 64);
    all.push(broken(
        "a WebP's first half",
        &webp[..webp.len() / 2],
        End::Broken,
    ));
    all.push(broken("a WebP's header", &webp[..30], End::Broken));
    all.push(broken("a WebP of nothing", &moving::riff(&[]), End::Broken));
    all
}
