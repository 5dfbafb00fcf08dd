//! Sync tokens, opaque to clients:
//! `s<epoch><seal>_<position>_<ephemeral>[_<to-device>][_k<sticky>][_e<process>-<ephemeral>]*[_p[<process>-]<presence>]`.

use std::{fmt, sync::Arc};

use rhizome_storage::{Heard, Pos, ProcessId, Store};
use subtle::ConstantTimeEq as _;

use crate::MatrixError;

/// A point in the log and in the ephemeral stream up to which a client has been told everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Which life of the database the position belongs to (renewed by a restore).
    pub epoch: Arc<str>,
    /// The last log position that the client has seen.
    pub pos: Pos,
    /// Up to where it has been told what isn't in the log (typing, presence), by processes: each has positions of its own,
    /// and what one has told, another doesn't tell again, nor takes for news of its own.
    pub heard: Heard,
    /// Where the answer had messages for its device: up to where these are told, and acknowledged when the token
    /// comes back. Without it the device had been told, and had acknowledged, all up to `pos`.
    pub to_device: Option<Pos>,
    /// Where there were more sticky events than fit: up to where these are told.
    pub sticky: Option<Pos>,
    /// Where there was more presence than fits: by which process it is told, and up to where of its positions.
    pub presence: Option<(ProcessId, i64)>,
    /// What shows that we gave it out; none in tokens from before there were seals.
    pub seal: Option<String>,
}

/// How long an epoch is where a seal follows it.
const EPOCH: usize = 12;

/// What a client sent as a token is not one.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAToken;

impl Token {
    /// Reads a token; fails when the text was never one of ours.
    pub fn parse(text: &str) -> Result<Token, NotAToken> {
        let mut parts = text.strip_prefix('s').ok_or(NotAToken)?.split('_');
        let epoch = parts.next().ok_or(NotAToken)?;
        if epoch.is_empty() || epoch.len() > 64 || !epoch.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            return Err(NotAToken);
        }
        let (epoch, seal) = match epoch.split_at_checked(EPOCH) {
            Some((epoch, seal)) if !seal.is_empty() => (epoch, Some(seal.to_owned())),
            _ => (epoch, None),
        };
        let mut next = || parts.next().map(number);
        let pos = Pos(next().ok_or(NotAToken)??);
        let ephemeral = next().ok_or(NotAToken)??;
        let mut processes = Heard::default();
        let mut token = Token {
            epoch: epoch.into(),
            pos,
            heard: Heard::only(ProcessId::ONLY, ephemeral),
            to_device: None,
            sticky: None,
            presence: None,
            seal,
        };
        // Nothing beyond the position has been told.
        for part in parts {
            if token.presence.is_some() {
                return Err(NotAToken);
            }
            if let Some(digits) = part.strip_prefix('p') {
                let (process, digits) = match digits.split_once('-') {
                    Some((process, digits)) => (named(process)?, digits),
                    None => (ProcessId::ONLY, digits),
                };
                token.presence = Some((process, number(digits)?.min(ephemeral)));
                continue;
            }
            if let Some(of) = part.strip_prefix('e') {
                let (process, position) = of.split_once('-').ok_or(NotAToken)?;
                processes.note(named(process)?, number(position)?);
                if processes.len() > Heard::MOST {
                    return Err(NotAToken);
                }
                continue;
            }
            if !processes.is_empty() {
                return Err(NotAToken);
            }
            let (told, digits) = match part.strip_prefix('k') {
                Some(digits) => (&mut token.sticky, digits),
                None if token.sticky.is_none() => (&mut token.to_device, part),
                None => return Err(NotAToken),
            };
            if told.replace(Pos(number(digits)?).min(pos)).is_some() {
                return Err(NotAToken);
            }
        }
        if !processes.is_empty() {
            token.heard = processes;
        }
        Ok(token)
    }

    /// A token for this point, sealed.
    pub fn new(store: &Store, pos: Pos, heard: Heard) -> Token {
        let epoch = store.epoch();
        let seal = Some(store.seal(&epoch, pos));
        Token {
            epoch,
            pos,
            heard,
            to_device: None,
            sticky: None,
            presence: None,
            seal,
        }
    }

    /// Up to where the device has been told the messages for it.
    pub fn told_to_device(&self) -> Pos {
        self.to_device.unwrap_or(self.pos)
    }

    /// Whether messages for the device are left that are to be told at once.
    pub fn is_behind_to_device(&self) -> bool {
        self.told_to_device() < self.pos
    }

    /// Up to where the client has been told of sticky events.
    pub fn told_sticky(&self) -> Pos {
        self.sticky.unwrap_or(self.pos)
    }

    /// Whether something is left that is to be told at once.
    pub fn is_behind(&self) -> bool {
        self.is_behind_to_device() || self.told_sticky() < self.pos || self.presence.is_some()
    }

    /// Whether we gave it out: nobody else can seal a position.
    pub fn is_genuine(&self, store: &Store) -> bool {
        let seal = store.seal(&self.epoch, self.pos);
        let given = self.seal.as_deref().unwrap_or_default();
        given.as_bytes().ct_eq(seal.as_bytes()).into()
    }

    /// What the client has been told of what isn't in the log, where `now` is what this `process` has to tell. Of one that has
    /// no others nothing else counts, and a position from the future is one of an earlier life, whose clock was ahead:
    /// everything counts as unseen. One of several has no earlier life, and nobody was told more than it has said.
    pub fn heard(&self, now: &Heard, process: ProcessId) -> Heard {
        let (told, most) = (self.heard.of(process), now.of(process));
        if process == ProcessId::ONLY {
            return if told > most {
                Heard::default()
            } else {
                Heard::only(process, told)
            };
        }
        let mut heard = self.heard.clone();
        if told > most {
            heard.set(process, most);
        }
        heard
    }

    /// Where to go on with presence, which has positions of the process that tells it; as [`Token::heard`].
    pub fn presence_after(&self, now: &Heard, process: ProcessId) -> i64 {
        let told = self.heard(now, process).of(process);
        match self.presence {
            Some((by, presence)) if by == process => presence.min(told),
            _ => told,
        }
    }

    /// There was more presence than fits: it is told up to there.
    pub fn leave_presence(&mut self, process: ProcessId, upto: i64) {
        self.presence = Some((process, upto));
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seal = self.seal.as_deref().unwrap_or_default();
        let ephemeral = self.heard.highest();
        write!(f, "s{}{seal}_{}_{ephemeral}", self.epoch, self.pos.0)?;
        if let Some(told) = self.to_device {
            write!(f, "_{}", told.0)?;
        }
        if let Some(told) = self.sticky {
            write!(f, "_k{}", told.0)?;
        }
        let several = self
            .heard
            .all()
            .filter(|(process, _)| *process != ProcessId::ONLY);
        for (process, position) in several {
            write!(f, "_e{:x}-{position}", process.0)?;
        }
        match self.presence {
            Some((ProcessId::ONLY, told)) => write!(f, "_p{told}"),
            Some((process, told)) => write!(f, "_p{:x}-{told}", process.0),
            None => Ok(()),
        }
    }
}

/// The process with this name.
fn named(name: &str) -> Result<ProcessId, NotAToken> {
    let plain = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if name.is_empty() || name.starts_with('0') || !name.bytes().all(plain) {
        return Err(NotAToken);
    }
    let number = u32::from_str_radix(name, 16).map_err(|_| NotAToken)?;
    Ok(ProcessId(number))
}

fn number(part: &str) -> Result<i64, NotAToken> {
    let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if plain {
        part.parse().map_err(|_| NotAToken)
    } else {
        Err(NotAToken)
    }
}

/// Where a client's token points to. `None`, as though the client had sent none, for a token of
/// another epoch or from the future: it knows things that this database doesn't. One that we gave out
/// shows that others like it are about, which must not be believed later, when the log has passed them.
pub async fn position(store: &Store, text: &str) -> Result<Option<Token>, MatrixError> {
    let token = Token::parse(text)
        .map_err(|_| MatrixError::invalid_param("`since` is not a token of this server"))?;
    if token.epoch != store.epoch() {
        return Ok(None);
    }
    let known = token.pos <= store.log().head() || token.pos <= store.log().refresh().await?;
    if !known && token.is_genuine(store) {
        store.log_went_back(token.pos).await?;
    }
    Ok(known.then_some(token))
}

#[cfg(test)]
mod tests;
