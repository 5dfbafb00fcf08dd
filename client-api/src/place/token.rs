//! Sync tokens: `s<epoch><seal>_<position>_<ephemeral>[_<to-device>][_k<sticky>][_e<process>-<ephemeral>]*[_p<presence>]`,
//! opaque to clients.

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
    /// Where there was more presence than fits: up to where it is told of the positions of the process that gave the token.
    pub presence: Option<i64>,
    /// What shows that we gave it out; none in tokens from before there were seals.
    pub seal: Option<String>,
}

/// How long an epoch is where a seal follows it.
const EPOCH: usize = 12;

/// Of how many processes a token tells at most.
const MOST_PROCESSES: usize = 32;

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
                token.presence = Some(number(digits)?.min(ephemeral));
                continue;
            }
            if let Some(of) = part.strip_prefix('e') {
                let (process, position) = of.split_once('-').ok_or(NotAToken)?;
                processes.note(named(process)?, number(position)?);
                if processes.all().count() >= MOST_PROCESSES {
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

    /// What the client has been told of what isn't in the log, where `now` is what this process has to tell. A position
    /// from the future of a process that has no others is one of an earlier life, whose clock was ahead: everything counts
    /// as unseen.
    pub fn heard(&self, now: &Heard) -> Heard {
        if self.heard.of(ProcessId::ONLY) > now.of(ProcessId::ONLY) && !self.names_processes() {
            return Heard::default();
        }
        self.heard.clone()
    }

    /// Where to go on with presence, which has positions of the process that tells it; as [`Token::heard`].
    pub fn presence_after(&self, now: &Heard, process: ProcessId) -> i64 {
        let told = self.heard(now).of(process);
        match self.presence {
            // Of several, each goes on from its own position, which says the same.
            Some(presence) if process == ProcessId::ONLY => presence.min(told),
            _ => told,
        }
    }

    /// There was more presence than fits: it is told up to there.
    pub fn leave_presence(&mut self, process: ProcessId, upto: i64) {
        self.presence = Some(upto);
        if process != ProcessId::ONLY {
            self.heard.set(process, upto);
        }
    }

    fn names_processes(&self) -> bool {
        self.heard
            .all()
            .any(|(process, _)| process != ProcessId::ONLY)
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
        for (process, position) in several.take(MOST_PROCESSES - 1) {
            write!(f, "_e{:x}-{position}", process.0)?;
        }
        match self.presence {
            Some(told) => write!(f, "_p{told}"),
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
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_as_itself() {
        let seal = || Some("0f".to_owned());
        let all = Some(Pos(72_594));
        for (epoch, seal, to_device, sticky, presence) in [
            ("0af3", None, None, None, None),
            ("0123456789ab", None, Some(Pos(0)), None, Some(0)),
            ("0123456789ab", seal(), None, Some(Pos(5)), None),
            ("0123456789ab", seal(), None, None, Some(12)),
            ("0123456789ab", seal(), all, all, Some(3)),
        ] {
            let token = Token {
                epoch: epoch.into(),
                pos: Pos(72_594),
                heard: Heard::only(ProcessId::ONLY, 12),
                to_device,
                sticky,
                presence,
                seal,
            };
            assert_eq!(Token::parse(&token.to_string()).as_ref(), Ok(&token));
            let mut of_several = Heard::only(ProcessId(0xa1), 12);
            of_several.note(ProcessId(u32::MAX), 7);
            let token = Token {
                heard: of_several,
                ..token
            };
            assert_eq!(Token::parse(&token.to_string()), Ok(token));
        }
    }

    #[test]
    fn a_token_names_no_more_processes_than_can_be_read() {
        let mut heard = Heard::default();
        for n in 1..100 {
            heard.note(ProcessId(n), i64::from(n));
        }
        let token = Token {
            heard,
            ..Token::parse("s1_7_3").unwrap()
        };
        assert!(Token::parse(&token.to_string()).is_ok());
    }

    #[test]
    fn what_a_device_has_been_told_is_no_more_than_all() {
        let told = |text: &str| Token::parse(text).map(|token| token.told_to_device());
        // From before there were such messages, and where an answer had none.
        assert_eq!(told("s1_7_3"), Ok(Pos(7)));
        assert_eq!(told("s1_7_3_5"), Ok(Pos(5)));
        assert_eq!(told("s1_7_3_99"), Ok(Pos(7)));
        let sticky = |text: &str| Token::parse(text).map(|token| token.told_sticky());
        assert_eq!(sticky("s1_7_3_5"), Ok(Pos(7)));
        assert_eq!(sticky("s1_7_3_5_k6"), Ok(Pos(6)));
        assert_eq!(sticky("s1_7_3_k99"), Ok(Pos(7)));
    }

    #[test]
    fn what_is_not_a_token_is_told_apart() {
        for text in [
            "",
            "s",
            "s1",
            "s1_2",
            "s1_2_3_4_5",
            "s1_2_3_k",
            "s1_2_3_k4_5",
            "s1_2_3_k4_k5",
            "s1_2_k3",
            "s1_2_3_p",
            "s1_2_3_p4_5",
            "s1_2_3_p4_k5",
            "s1_2_3_p4_p5",
            "s1_2_p3",
            "s1_2_3_e",
            "s1_2_3_e1",
            "s1_2_3_e-5",
            "s1_2_3_e0-5",
            "s1_2_3_eg-5",
            "s1_2_3_eA-5",
            "s1_2_3_e1-",
            "s1_2_3_e1-5-6",
            "s1_2_3_e123456789-5",
            "s1_2_3_e1-5_4",
            "s1_2_3_p4_e1-5",
            "s1_2_3_",
            "s1_2_3_-4",
            "t1_2_3",
            "s_1_2",
            "s1__2",
            "s-1_2_3",
            "s1_+2_3",
            "sé_1_2",
            "s1_2_99999999999999999999",
            "s1_2_3\u{0}",
            " s1_2_3",
        ] {
            assert_eq!(Token::parse(text), Err(NotAToken), "{text:?}");
        }
    }

    #[test]
    fn an_ephemeral_position_from_the_future_is_forgotten() {
        let token = Token::parse("s1_7_9").unwrap();
        let now = |head| Heard::only(ProcessId::ONLY, head);
        assert_eq!(token.heard(&now(20)), now(9));
        assert_eq!(token.heard(&now(8)), Heard::default());
    }

    /// However many processes a client is answered by, none takes what another told for news, nor for its own.
    #[test]
    fn positions_of_other_processes_stay_theirs() {
        let token = Token::parse("s1_7_900_e1-900_e2-20").unwrap();
        let (one, two) = (ProcessId(1), ProcessId(2));
        let mut now = Heard::only(two, 25);
        now.note(one, 880);
        let heard = token.heard(&now);
        assert_eq!((heard.of(one), heard.of(two)), (900, 20));
        assert_eq!(token.presence_after(&now, two), 20);
        // From before there were several: all of it is told, once.
        let old = Token::parse("s1_7_900").unwrap();
        assert_eq!(old.heard(&now).of(two), 0);
    }

    #[test]
    fn presence_may_be_told_less_far_and_never_further() {
        let now = Heard::only(ProcessId::ONLY, 20);
        let told = |text: &str| {
            Token::parse(text).map(|token| token.presence_after(&now, ProcessId::ONLY))
        };
        assert_eq!(told("s1_7_9"), Ok(9));
        assert_eq!(told("s1_7_9_5_k6"), Ok(9));
        assert_eq!(told("s1_7_9_p4"), Ok(4));
        assert_eq!(told("s1_7_9_p99"), Ok(9));
        // The stream is another one by now.
        assert_eq!(told("s1_7_99_p4"), Ok(0));
        let mut token = Token::parse("s1_7_9_ea-9_e5-3").unwrap();
        token.leave_presence(ProcessId(10), 4);
        assert_eq!(token.to_string(), "s1_7_4_e5-3_ea-4_p4");
    }
}
