//! One request, answered.

use std::io::{self, Read, Write};

use crate::page;
use crate::picture::{self, Made, Thumbnails};
use crate::strip::{self, strip};
use crate::wire::{Answer, Frames, Head, Request, Task};
use crate::{Excess, Fault, Limits};

/// Reads the file and answers the request. An error is one of reading or writing; what is wrong with the file is an
/// answer.
pub(crate) fn answer(request: &Request, input: impl Read, output: impl Write) -> io::Result<()> {
    let mut frames = Frames(output);
    let limits = &request.limits;
    let answer = match &request.task {
        Task::Probe => match whole(input, limits)? {
            Ok(file) => picture::probe(&file, limits).map_or_else(Answer::Fault, Answer::Probe),
            Err(fault) => Answer::Fault(fault),
        },
        Task::Thumbnails { asks, blurhash } => match whole(input, limits)? {
            Ok(file) => {
                let made = picture::thumbnails(&file, asks, *blurhash, limits);
                drop(file);
                match made {
                    Ok(made) => write_thumbnails(&made, &mut frames)?,
                    Err(fault) => Answer::Fault(fault),
                }
            }
            Err(fault) => Answer::Fault(fault),
        },
        Task::Strip => match strip(input, &mut frames) {
            Ok(stripped) => Answer::Stripped(stripped),
            Err(strip::Error::Fault(fault)) => Answer::Fault(fault),
            Err(strip::Error::Io(error)) => return Err(error),
        },
        Task::Page { content_type } => match whole(input, limits)? {
            Ok(file) => Answer::Page(Box::new(page::read(&file, content_type.as_deref()))),
            Err(fault) => Answer::Fault(fault),
        },
    };
    frames.answer(&answer)
}

/// The whole file, if it is no larger than allowed.
fn whole(input: impl Read, limits: &Limits) -> io::Result<Result<Vec<u8>, Fault>> {
    let mut file = Vec::new();
    input
        .take(limits.input.saturating_add(1))
        .read_to_end(&mut file)?;
    if file.len() as u64 > limits.input {
        return Ok(Err(Fault::TooLarge(Excess::Bytes)));
    }
    Ok(Ok(file))
}

fn write_thumbnails(
    thumbnails: &Thumbnails,
    frames: &mut Frames<impl Write>,
) -> io::Result<Answer> {
    let mut heads = Vec::new();
    for made in &thumbnails.made {
        let Made::Thumbnail(made) = made else {
            heads.push(None);
            continue;
        };
        frames.write_all(&made.bytes)?;
        heads.push(Some(Head {
            format: made.format,
            width: made.width,
            height: made.height,
            animated: made.animated,
            length: u32::try_from(made.bytes.len()).map_err(io::Error::other)?,
        }));
    }
    Ok(Answer::Thumbnails {
        source: thumbnails.source.clone(),
        made: heads,
        blurhash: thumbnails.blurhash.clone(),
    })
}
