//! The one thing of EXIF that matters for showing a picture: how it is to be turned.

/// The orientation (1 to 8) that an EXIF block says, from its TIFF header on. Looks at the first directory
/// alone and follows nothing else, so a block that points at itself is no trap.
pub(crate) fn orientation(tiff: &[u8]) -> Option<u8> {
    // Some writers leave the JPEG segment's name before it, also in WebP.
    let tiff = tiff.strip_prefix(b"Exif\0\0").unwrap_or(tiff);
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = [*tiff.get(at)?, *tiff.get(at + 1)?];
        Some(if little {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        })
    };
    let bytes = tiff.get(4..8)?.try_into().ok()?;
    let first = if little {
        u32::from_le_bytes(bytes)
    } else {
        u32::from_be_bytes(bytes)
    };
    let first = usize::try_from(first).ok().filter(|at| *at < tiff.len())?;
    for entry in 0..usize::from(short(first)?) {
        let at = first + 2 + 12 * entry;
        // Tag 0x0112, one SHORT.
        if short(at)? == 0x0112 && short(at + 2)? == 3 {
            let value = short(at + 8)?;
            return u8::try_from(value)
                .ok()
                .filter(|value| (1..=8).contains(value));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strip::orientation_block;

    #[test]
    fn both_byte_orders() {
        assert_eq!(orientation(&orientation_block(6)), Some(6));
        let little = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x08\0\0\0\0\0\0\0";
        assert_eq!(orientation(little), Some(8));
    }

    #[test]
    fn what_is_broken_says_nothing() {
        let whole = orientation_block(6);
        for end in 0..whole.len() - 6 {
            assert_eq!(orientation(&whole[..end]), None);
        }
        // The directory is at the end of memory; has 65,535 entries; the value is none.
        assert_eq!(orientation(b"MM\0*\xff\xff\xff\xff"), None);
        assert_eq!(orientation(b"MM\0*\0\0\0\x08\xff\xff\0\0"), None);
        assert_eq!(orientation(&orientation_block(9)), None);
    }
}
