//! Encryption at rest: a file is sealed in pieces, so that any part of it can be read alone.
//!
//! Each file has a key of its own, derived from one of the operator's and a salt that its row holds. A piece is
//! sealed with its number and with whether it is the last one (the STREAM construction), so that none can be
//! exchanged, moved, left out or cut off without its being seen. As the salt stands in the row, neither can a whole file be
//! put in another's place.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rhizome_storage::{Seal, random};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::{hkdf, hmac};

use super::hex::{hex, unhex};
use super::{PIECE, Pieces};
use crate::config::SealKey;

/// What a piece has more when it is sealed.
const TAG: u64 = 16;
const PLAIN: u64 = PIECE as u64;
const SEALED: u64 = PLAIN + TAG;

/// The operator's keys; the first one seals what is new.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys(Vec<SealKey>);

/// The key of one file.
pub(crate) struct Cipher(LessSafeKey);

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher")
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a sealed file is damaged")
}

impl Keys {
    pub(crate) fn new(keys: Vec<SealKey>) -> Self {
        Self(keys)
    }

    /// How a new file is sealed, if it is.
    pub(crate) fn begin(&self) -> io::Result<Option<(Seal, Arc<Cipher>)>> {
        let Some(key) = self.0.first() else {
            return Ok(None);
        };
        let salt = random::bytes::<32>().map_err(io::Error::other)?;
        let seal = Seal {
            key_id: key.id.clone(),
            salt: hex(&salt),
        };
        Ok(Some((seal, Arc::new(cipher(key, &salt)?))))
    }

    /// The key of a file.
    pub(crate) fn cipher(&self, seal: &Seal) -> io::Result<Arc<Cipher>> {
        let salt = unhex(&seal.salt).ok_or_else(broken)?;
        Ok(Arc::new(cipher(self.key(seal)?, &salt)?))
    }

    /// What a file with this content is called in a store, where names tell nothing of it.
    pub(crate) fn name(&self, seal: &Seal, sha256: &str) -> io::Result<String> {
        let names = derived(self.key(seal)?, b"", b"rhizome media names")?;
        let names = hmac::Key::new(hmac::HMAC_SHA256, &names);
        Ok(hex(hmac::sign(&names, sha256.as_bytes()).as_ref()))
    }

    fn key(&self, seal: &Seal) -> io::Result<&SealKey> {
        let key = self.0.iter().find(|key| key.id == seal.key_id);
        key.ok_or_else(|| {
            io::Error::other(format!(
                "there is no key {:?}, by which files are sealed",
                seal.key_id
            ))
        })
    }
}

fn derived(key: &SealKey, salt: &[u8], purpose: &[u8]) -> io::Result<[u8; 32]> {
    let base = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&key.key);
    let purpose = [purpose];
    let mut out = [0; 32];
    let derived = base.expand(&purpose, hkdf::HKDF_SHA256);
    let filled = derived.and_then(|derived| derived.fill(&mut out));
    filled.map_err(|_| broken())?;
    Ok(out)
}

fn cipher(key: &SealKey, salt: &[u8]) -> io::Result<Cipher> {
    let key = derived(key, salt, b"rhizome media file")?;
    let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| broken())?;
    Ok(Cipher(LessSafeKey::new(key)))
}

/// What makes a piece what it is: its number, and whether it is the last. A file's key seals nothing else.
fn nonce(number: u64, last: bool) -> io::Result<Nonce> {
    let number = u32::try_from(number).map_err(io::Error::other)?;
    let mut nonce = [0; 12];
    nonce[7..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(last);
    Ok(Nonce::assume_unique_for_key(nonce))
}

impl Cipher {
    /// Seals a piece where it stands.
    pub(super) fn seal(&self, number: u64, last: bool, piece: &mut Vec<u8>) -> io::Result<()> {
        let sealed = self
            .0
            .seal_in_place_append_tag(nonce(number, last)?, Aad::empty(), piece);
        sealed.map_err(|_| broken())
    }

    fn open(&self, number: u64, last: bool, mut piece: BytesMut) -> io::Result<Bytes> {
        let opened = self
            .0
            .open_in_place(nonce(number, last)?, Aad::empty(), &mut piece);
        let length = opened.map_err(|_| broken())?.len();
        piece.truncate(length);
        Ok(piece.freeze())
    }
}

/// How many bytes a file of so many takes when it is sealed.
pub(crate) fn sealed_size(size: u64) -> u64 {
    size + size.div_ceil(PLAIN).max(1) * TAG
}

/// Which bytes of a sealed file hold this part of it. What of the last piece there isn't is left out by `size`.
pub(crate) fn sealed_part(part: &Range<u64>, size: u64) -> Range<u64> {
    if part.is_empty() {
        return 0..0;
    }
    let end = part.end.div_ceil(PLAIN) * SEALED;
    part.start / PLAIN * SEALED..end.min(sealed_size(size))
}

/// What comes sealed, what of it is held, the key, the part that is left.
type Opening = (Pieces, BytesMut, Arc<Cipher>, Range<u64>);

/// A part of a file of this size, from the bytes of [`sealed_part`].
pub(crate) fn opened(sealed: Pieces, cipher: Arc<Cipher>, part: Range<u64>, size: u64) -> Pieces {
    let last = size.saturating_sub(1) / PLAIN;
    let begin = (sealed, BytesMut::new(), cipher, part);
    let opening = stream::try_unfold(
        begin,
        move |(mut sealed, mut held, cipher, part): Opening| async move {
            if part.is_empty() {
                return Ok(None);
            }
            let number = part.start / PLAIN;
            let from = number * PLAIN;
            let wanted = PLAIN.min(size - from) + TAG;
            let wanted = usize::try_from(wanted).map_err(io::Error::other)?;
            while held.len() < wanted {
                let piece = sealed.try_next().await?.ok_or_else(broken)?;
                held.extend_from_slice(&piece);
            }
            let piece = cipher.open(number, number == last, held.split_to(wanted))?;
            let end = part.end.min(from + piece.len() as u64);
            let bounds = [part.start - from, end - from].map(usize::try_from);
            let [Ok(start), Ok(until)] = bounds else {
                return Err(broken());
            };
            let piece = piece.slice(start..until);
            Ok(Some((piece, (sealed, held, cipher, end..part.end))))
        },
    );
    opening.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let key = |id: &str, byte| SealKey {
            id: id.to_owned(),
            key: [byte; 32],
        };
        Keys::new(vec![key("new", 1), key("old", 2)])
    }

    fn pieces(bytes: &[u8]) -> Pieces {
        let pieces: Vec<Bytes> = bytes.chunks(10_007).map(Bytes::copy_from_slice).collect();
        stream::iter(pieces).map(Ok).boxed()
    }

    fn sealed(cipher: &Cipher, plain: &[u8]) -> Vec<u8> {
        let all: Vec<&[u8]> = if plain.is_empty() {
            vec![plain]
        } else {
            plain.chunks(PIECE).collect()
        };
        let mut out = Vec::new();
        for (number, piece) in all.iter().enumerate() {
            let mut piece = piece.to_vec();
            let last = number + 1 == all.len();
            cipher.seal(number as u64, last, &mut piece).unwrap();
            out.extend(piece);
        }
        out
    }

    async fn open(
        cipher: &Arc<Cipher>,
        sealed: &[u8],
        part: Range<u64>,
        size: u64,
    ) -> io::Result<Vec<u8>> {
        let of = sealed_part(&part, size);
        let of = usize::try_from(of.start).unwrap()..usize::try_from(of.end).unwrap();
        let raw = pieces(sealed.get(of).unwrap_or_default());
        let all: Vec<Bytes> = opened(raw, cipher.clone(), part, size)
            .try_collect()
            .await?;
        Ok(all.concat())
    }

    #[tokio::test]
    async fn any_part_can_be_read() {
        let (_, cipher) = keys().begin().unwrap().unwrap();
        for size in [0_u64, 1, PLAIN - 1, PLAIN, PLAIN + 1, 3 * PLAIN] {
            let plain: Vec<u8> = (0..size).map(|at| at.to_le_bytes()[0] ^ 0x5a).collect();
            let sealed = sealed(&cipher, &plain);
            assert_eq!(sealed.len() as u64, sealed_size(size));
            for part in [
                0..size,
                0..1,
                5..6,
                PLAIN - 1..PLAIN + 1,
                2 * PLAIN..3 * PLAIN,
            ] {
                let part = part.start.min(size)..part.end.min(size);
                let of = usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap();
                let read = open(&cipher, &sealed, part, size).await.unwrap();
                assert_eq!(read, plain[of]);
            }
        }
    }

    #[tokio::test]
    async fn nothing_can_be_changed_moved_or_cut_off() {
        let (_, cipher) = keys().begin().unwrap().unwrap();
        let size = 3 * PLAIN;
        let plain = vec![7; usize::try_from(size).unwrap()];
        let whole = sealed(&cipher, &plain);
        let piece = usize::try_from(SEALED).unwrap();
        let mut changed = whole.clone();
        changed[piece + 5] ^= 1;
        assert!(open(&cipher, &changed, 0..size, size).await.is_err());
        assert!(open(&cipher, &changed, 0..PLAIN, size).await.is_ok());
        let mut moved = whole.clone();
        moved[..2 * piece].rotate_left(piece);
        assert!(open(&cipher, &moved, 0..size, size).await.is_err());
        // Cut off at a piece's end, also by who makes the row say so.
        assert!(
            open(&cipher, &whole[..2 * piece], 0..size, size)
                .await
                .is_err()
        );
        assert!(
            open(&cipher, &whole[..2 * piece], 0..2 * PLAIN, 2 * PLAIN)
                .await
                .is_err()
        );
        // Another file's, by the same operator's key.
        let (_, other) = keys().begin().unwrap().unwrap();
        assert!(open(&other, &whole, 0..size, size).await.is_err());
    }

    #[test]
    fn keys_are_found_by_their_names() {
        let (seal, _) = keys().begin().unwrap().unwrap();
        assert_eq!(seal.key_id, "new");
        let old = Seal {
            key_id: "old".to_owned(),
            ..seal.clone()
        };
        assert!(keys().cipher(&old).is_ok());
        let none = Seal {
            key_id: "gone".to_owned(),
            ..seal.clone()
        };
        assert!(keys().cipher(&none).is_err());
        let names = [&seal, &old].map(|seal| keys().name(seal, "aa").unwrap());
        assert_ne!(names[0], names[1]);
        assert_eq!(names[0].len(), 64);
        assert!(Keys::default().begin().unwrap().is_none());
        assert!(!format!("{:?}", keys()).contains("[1, 1"));
    }
}
