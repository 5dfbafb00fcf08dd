//! Whether an answer can be true. The worker may have become a stranger's.

use bytes::Bytes;

use super::Error;
use crate::Limits;
use crate::picture::{Ask, Format, Made, Probe, Thumbnail, Thumbnails};
use crate::wire::{Answer, Head};

pub(super) fn nonsense() -> Error {
    Error::Crashed("it answered what can't be")
}

pub(super) fn probe(probe: Probe, limits: &Limits) -> Result<Probe, Error> {
    let size = limits.check_size(probe.width, probe.height);
    if size.is_err() || probe.frames == 0 || !(1..=8).contains(&probe.orientation) {
        return Err(nonsense());
    }
    Ok(probe)
}

/// The answer with its bytes.
pub(super) fn thumbnails(
    answer: Answer,
    bytes: Bytes,
    asks: &[Ask],
    blurred: bool,
    limits: &Limits,
) -> Result<Thumbnails, Error> {
    let Answer::Thumbnails {
        source,
        made: heads,
        blurhash,
    } = answer
    else {
        return Err(nonsense());
    };
    let source = probe(source, limits)?;
    if heads.len() != asks.len()
        || blurhash.is_some() != blurred
        || !blurhash.as_deref().is_none_or(is_blurhash)
    {
        return Err(nonsense());
    }
    let mut rest = bytes;
    let mut made = Vec::with_capacity(asks.len());
    for (head, ask) in heads.into_iter().zip(asks) {
        let Some(head) = head else {
            made.push(Made::Original);
            continue;
        };
        if !may_be(&head, &source, ask, limits) || head.length as usize > rest.len() {
            return Err(nonsense());
        }
        let bytes = rest.split_to(head.length as usize);
        if Format::of(&bytes) != Some(head.format) {
            return Err(nonsense());
        }
        let Head {
            format,
            width,
            height,
            animated,
            ..
        } = head;
        made.push(Made::Thumbnail(Thumbnail {
            format,
            width,
            height,
            animated,
            bytes,
        }));
    }
    if !rest.is_empty() {
        return Err(nonsense());
    }
    Ok(Thumbnails {
        source,
        made,
        blurhash,
    })
}

fn may_be(head: &Head, source: &Probe, ask: &Ask, limits: &Limits) -> bool {
    let within = |side: u32, source: u32| (1..=source).contains(&side);
    within(head.width, source.width)
        && within(head.height, source.height)
        && head.length <= limits.output
        && head.format.may_be_made(ask, head.animated)
}

fn is_blurhash(text: &str) -> bool {
    let letter = |c: u8| c.is_ascii_alphanumeric() || b"#$%*+,-.:;=?@[]^_{|}~".contains(&c);
    (6..=200).contains(&text.len()) && text.bytes().all(letter)
}
