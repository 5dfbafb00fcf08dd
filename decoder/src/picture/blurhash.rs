//! A picture's blur as text (MSC2448, <https://blurha.sh>): a few cosines of its colours.

use std::f32::consts::PI;

use super::frame::Pixels;

const DIGITS: &[u8; 83] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~";

/// The blur of a small picture without transparency.
pub(super) fn encode(picture: &Pixels) -> String {
    // More components along the longer side.
    let (across, down) = if picture.width >= picture.height {
        (4, 3)
    } else {
        (3, 4)
    };
    let mut factors = Vec::with_capacity(12);
    for y in 0..down {
        for x in 0..across {
            factors.push(factor(picture, x, y));
        }
    }
    let mut text = String::with_capacity(4 + 2 + 2 * factors.len());
    digits(&mut text, (across - 1) + (down - 1) * 9, 1);
    let rest = &factors[1..];
    let largest = rest
        .iter()
        .flatten()
        .fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let step = whole((largest * 166.0 - 0.5).floor().clamp(0.0, 82.0));
    digits(&mut text, step, 1);
    let [red, green, blue] = factors[0].map(to_srgb);
    digits(&mut text, red << 16 | green << 8 | blue, 4);
    #[allow(clippy::cast_precision_loss, reason = "at most 83")]
    let largest = (step + 1) as f32 / 166.0;
    for colour in rest {
        let [red, green, blue] = colour.map(|value| {
            let value = value / largest;
            whole(
                (value.abs().sqrt().copysign(value) * 9.0 + 9.5)
                    .floor()
                    .clamp(0.0, 18.0),
            )
        });
        digits(&mut text, (red * 19 + green) * 19 + blue, 2);
    }
    text
}

/// How much of one pair of cosines is in each colour.
#[allow(clippy::cast_precision_loss, reason = "sides are small")]
fn factor(picture: &Pixels, x: u32, y: u32) -> [f32; 3] {
    let (width, height) = (picture.width as f32, picture.height as f32);
    let mut sums = [0.0; 3];
    for (row, line) in picture
        .data
        .chunks_exact(picture.width as usize * picture.channels)
        .enumerate()
    {
        let vertical = (PI * y as f32 * row as f32 / height).cos();
        for (column, pixel) in line.chunks_exact(picture.channels).enumerate() {
            let basis = vertical * (PI * x as f32 * column as f32 / width).cos();
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += basis * to_linear(*value);
            }
        }
    }
    let normal = if x == 0 && y == 0 { 1.0 } else { 2.0 };
    sums.map(|sum| sum * normal / (width * height))
}

fn to_linear(value: u8) -> f32 {
    let value = f32::from(value) / 255.0;
    if value <= 0.04045 {
        value / 12.92
    } else {
        ((value + 0.055) / 1.055).powf(2.4)
    }
}

fn to_srgb(value: f32) -> u32 {
    let value = value.clamp(0.0, 1.0);
    let value = if value <= 0.003_130_8 {
        value * 12.92
    } else {
        1.055 * value.powf(1.0 / 2.4) - 0.055
    };
    whole((value * 255.0 + 0.5).floor())
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "each was brought into its small range"
)]
fn whole(value: f32) -> u32 {
    value as u32
}

fn digits(text: &mut String, value: u32, length: u32) {
    for place in (0..length).rev() {
        let digit = value / 83_u32.pow(place) % 83;
        text.push(char::from(DIGITS[digit as usize]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_colour_has_no_waves() {
        let picture = Pixels {
            width: 4,
            height: 4,
            channels: 3,
            data: [255, 0, 0].repeat(16),
        };
        let text = encode(&picture);
        assert_eq!(text.len(), 28);
        // 4 by 3, no waves, red (0xff0000 in base 83), then nearly nothing eleven times.
        assert!(text.starts_with("L"), "{text}");
        assert_eq!(&text[2..6], "TI:j");
    }
}
