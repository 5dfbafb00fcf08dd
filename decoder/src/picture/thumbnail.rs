//! Several smaller pictures from one decoding.

use super::encode::{self, Animation};
use super::frame::{Frame, Pixels};
use super::plan::Plan;
use super::resize::resized;
use super::{Ask, Format, Made, Method, Probe, Thumbnails, blurhash, decode, probe};
use crate::{Excess, Fault, Limits};

/// How many sizes one request may ask for.
pub const ASKS: usize = 16;

/// The blur is made of this much.
const BLUR: u32 = 32;

/// Makes the thumbnails that are asked for, and the blur if it is, from one decoding.
pub fn thumbnails(
    file: &[u8],
    asks: &[Ask],
    blur: bool,
    limits: &Limits,
) -> Result<Thumbnails, Fault> {
    if asks.len() > ASKS {
        return Err(Fault::TooLarge(Excess::Answer));
    }
    let source = probe(file, limits)?;
    let (width, height) = if source.orientation > 4 {
        (source.height, source.width)
    } else {
        (source.width, source.height)
    };
    let moves = source.frames > 1 && limits.may_move(width, height, source.frames);
    let moving = moves
        && asks.iter().any(|ask| {
            ask.animated && Plan::of_turned(width, height, source.orientation, ask).is_some()
        });
    let mut maker = Maker::new(&source, (width, height), asks, limits);

    let mut frames = decode::open(file, &source, moving, limits)?;
    let Some(shown) = frames.advance()? else {
        return Err(Fault::broken("it has no picture"));
    };
    maker.profile = frames.profile().and_then(encode::sane_profile);
    let blur = blur.then(|| maker.blur(frames.picture())).transpose()?;
    maker.stills(frames.picture())?;
    if moving {
        maker.start_moving(frames.plays())?;
        maker.frame(frames.picture(), shown)?;
        // Where an animation breaks off, it ends.
        while let Ok(Some(shown)) = frames.advance() {
            maker.frame(frames.picture(), shown)?;
        }
    }
    let made = maker.finish();
    Ok(Thumbnails {
        source,
        made,
        blurhash: blur,
    })
}

/// What is being made.
struct Maker<'a> {
    source: &'a Probe,
    limits: &'a Limits,
    profile: Option<Vec<u8>>,
    works: Vec<Work<'a>>,
}

struct Work<'a> {
    ask: &'a Ask,
    /// `None`: the source is its own thumbnail.
    plan: Option<Plan>,
    made: Option<Made>,
    moving: Option<Animation>,
}

impl<'a> Maker<'a> {
    fn new(
        source: &'a Probe,
        (width, height): (u32, u32),
        asks: &'a [Ask],
        limits: &'a Limits,
    ) -> Self {
        let works = asks.iter().map(|ask| {
            let mut plan = Plan::of_turned(width, height, source.orientation, ask);
            // Who wants it still gets it still, though it isn't smaller.
            if source.frames > 1 && !ask.animated {
                plan = plan.or(Some(Plan::whole(width, height)));
            }
            let made = plan.is_none().then_some(Made::Original);
            Work {
                ask,
                plan,
                made,
                moving: None,
            }
        });
        Self {
            source,
            limits,
            profile: None,
            works: works.collect(),
        }
    }

    /// Makes all that were asked for, of the (first) picture. Large ones are made first, and small ones of them.
    fn stills(&mut self, picture: &Pixels) -> Result<(), Fault> {
        let whole = (picture.width, picture.height);
        let mut order: Vec<usize> = (0..self.works.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(self.works[*at].plan.map(|plan| plan.width)));
        let mut larger: Vec<Pixels> = Vec::new();
        for at in order {
            let Some(plan) = self.works[at].plan else {
                continue;
            };
            let from = larger
                .iter()
                .rev()
                .find(|larger| fits(larger, plan, whole))
                .unwrap_or(picture);
            let small = resized(from, &plan.within(whole, (from.width, from.height)))?;
            let turned = small.clone().turned(self.source.orientation);
            let work = &mut self.works[at];
            let made = encode::still(
                turned,
                work.ask.accepts,
                self.source.format,
                self.profile.as_deref(),
                self.limits,
            )?;
            work.made = Some(Made::Thumbnail(made));
            if work.ask.method == Method::Scale {
                larger.push(small);
            }
        }
        Ok(())
    }

    fn blur(&self, picture: &Pixels) -> Result<String, Fault> {
        let whole = Plan::whole(picture.width, picture.height);
        let plan = Plan {
            width: picture.width.min(BLUR),
            height: picture.height.min(BLUR),
            ..whole
        };
        Ok(blurhash::encode(
            &resized(picture, &plan)?
                .flat()
                .turned(self.source.orientation),
        ))
    }

    /// From here on pictures of an animation come.
    fn start_moving(&mut self, plays: u16) -> Result<(), Fault> {
        for work in &mut self.works {
            let Some(plan) = work.plan.filter(|_| work.ask.animated) else {
                continue;
            };
            let turned = self.source.orientation > 4;
            let (width, height) = if turned {
                (plan.height, plan.width)
            } else {
                (plan.width, plan.height)
            };
            work.moving = Animation::new(width, height, plays, work.ask.accepts, self.limits)?;
        }
        Ok(())
    }

    /// The next picture of the animation. One that gets too long stays still.
    fn frame(&mut self, picture: &Pixels, shown: u32) -> Result<(), Fault> {
        for work in &mut self.works {
            let (Some(plan), Some(moving)) = (work.plan, &mut work.moving) else {
                continue;
            };
            let pixels = resized(picture, &plan)?
                .turned(self.source.orientation)
                .with_alpha();
            match moving.add(Frame { pixels, shown }) {
                Err(Fault::TooLarge(_)) => work.moving = None,
                other => other?,
            }
        }
        Ok(())
    }

    fn finish(self) -> Vec<Made> {
        let works = self.works.into_iter();
        works
            .map(|work| {
                let moving = work.moving.and_then(|moving| moving.finish().ok());
                moving
                    .map(Made::Thumbnail)
                    .or(work.made)
                    .unwrap_or(Made::Original)
            })
            .collect()
    }
}

/// Whether a picture made before is large enough to make this one of it, and nobody sees that.
fn fits(larger: &Pixels, plan: Plan, whole: (u32, u32)) -> bool {
    let [_, _, width, height] = plan.within(whole, (larger.width, larger.height)).part;
    width >= 2.0 * f64::from(plan.width) && height >= 2.0 * f64::from(plan.height)
}

impl Format {
    /// Whether what is made may have this format.
    pub(crate) fn may_be_made(self, ask: &Ask, animated: bool) -> bool {
        match self {
            Self::Gif => animated && ask.animated && ask.accepts.gif,
            Self::Webp => ask.accepts.webp && (!animated || ask.animated),
            Self::Png | Self::Jpeg => !animated,
        }
    }
}
