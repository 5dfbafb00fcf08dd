//! What the specified thumbnails of a photo cost: of a file that is named, or of twelve megapixels of noise.
//!
//! `cargo run --release -p rhizome-decoder --example cost [FILE]`

#![allow(clippy::unwrap_used)]

use rhizome_decoder::Limits;
use rhizome_decoder::picture::{Accepts, Ask, Made, Method, thumbnails};

const TIMES: u32 = 5;

fn main() {
    let file = std::env::args()
        .nth(1)
        .map_or_else(|| photo(false), |path| std::fs::read(path).unwrap());
    let ask = |width, height, method| Ask {
        width,
        height,
        method,
        animated: false,
        accepts: Accepts::default(),
    };
    let one = [ask(800, 600, Method::Scale)];
    let five = [
        ask(32, 32, Method::Crop),
        ask(96, 96, Method::Crop),
        ask(320, 240, Method::Scale),
        ask(640, 480, Method::Scale),
        one[0],
    ];
    measure("one of 800x600", &file, &one, false);
    measure("the specified five and a blur", &file, &five, true);
    if std::env::args().len() < 2 {
        measure("the same, progressive", &photo(true), &five, true);
    }
}

fn measure(what: &str, file: &[u8], asks: &[Ask], blur: bool) {
    let before = cpu_milliseconds();
    let mut bytes = Vec::new();
    for _ in 0..TIMES {
        let all = thumbnails(file, asks, blur, &Limits::default()).unwrap();
        bytes = all
            .made
            .iter()
            .map(|made| {
                if let Made::Thumbnail(made) = made {
                    made.bytes.len()
                } else {
                    0
                }
            })
            .collect();
    }
    let each = (cpu_milliseconds() - before) / f64::from(TIMES);
    println!(
        "{what}: {each:.1} ms of CPU from {} bytes, {bytes:?} bytes made",
        file.len()
    );
}

/// What this thread has run for (Linux).
fn cpu_milliseconds() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    told.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6
}

/// 4000 by 3000, with as much noise as a phone's pictures have.
fn photo(progressive: bool) -> Vec<u8> {
    let mut noise = 1_u32;
    let mut data = Vec::new();
    for y in 0..3000_u32 {
        for x in 0..4000_u32 {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let grain = noise >> 28;
            for value in [x / 19 + y / 31, x / 23 + 40, y / 13 + (x % 97) / 2] {
                data.push((value + grain).to_le_bytes()[0]);
            }
        }
    }
    let mut file = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut file, 90);
    encoder.set_progressive(progressive);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
    encoder
        .encode(&data, 4000, 3000, jpeg_encoder::ColorType::Rgb)
        .unwrap();
    file
}
