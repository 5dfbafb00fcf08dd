//! The `Authorization` header.

use base64::Engine as _;
use rhizome_protocol::sign;
use ruma::{OwnedServerName, ServerName};

use super::{BASE64, Signed};

/// The longest `Authorization` header that is read.
const MAX_HEADER: usize = 4096;
/// One `Authorization: X-Matrix …` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XMatrix {
    /// Who says to have made the request.
    pub origin: OwnedServerName,
    /// Whom it is meant for; very old servers leave it out.
    pub destination: Option<OwnedServerName>,
    /// `ed25519:…`
    pub key_id: String,
    /// The signature.
    pub signature: [u8; 64],
}

impl XMatrix {
    /// Parses the value of an `Authorization` header. `Ok(None)`: of another scheme.
    ///
    /// # Errors
    /// What is wrong with the header.
    pub fn parse(header: &str) -> Result<Option<Self>, &'static str> {
        if header.len() > MAX_HEADER {
            return Err("the header is too long");
        }
        let Some((scheme, rest)) = header.split_once(' ') else {
            return Ok(None);
        };
        if !scheme.eq_ignore_ascii_case("X-Matrix") {
            return Ok(None);
        }
        let (mut origin, mut destination, mut key, mut sig) = (None, None, None, None);
        for (name, value) in parameters(rest)? {
            let slot = match name.to_ascii_lowercase().as_str() {
                "origin" => &mut origin,
                "destination" => &mut destination,
                "key" => &mut key,
                "sig" => &mut sig,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err("a parameter is given twice");
            }
        }
        let server =
            |name: String| OwnedServerName::try_from(name).map_err(|_| "a server name isn't valid");
        let key_id = key.ok_or("`key` is missing")?;
        if !is_key_id(&key_id) {
            return Err("`key` is no ed25519 key id");
        }
        let signature = BASE64
            .decode(sig.ok_or("`sig` is missing")?)
            .map_err(|_| "`sig` is no base64")?;
        let signature =
            <[u8; 64]>::try_from(signature).map_err(|_| "`sig` is no ed25519 signature")?;
        Ok(Some(Self {
            origin: server(origin.ok_or("`origin` is missing")?)?,
            destination: destination.map(server).transpose()?,
            key_id,
            signature,
        }))
    }

    /// Whether this signs the request. `our_name` stands in for an absent destination.
    pub fn verifies(&self, public: &[u8; 32], our_name: &ServerName, request: &Signed<'_>) -> bool {
        let destination = self.destination.as_deref().unwrap_or(our_name);
        let text = request.text(&self.origin, destination);
        sign::verify_bytes(public, text.as_bytes(), &self.signature)
    }
}

/// Whether this is the id of an ed25519 key, of bounded length.
pub fn is_key_id(id: &str) -> bool {
    id.strip_prefix("ed25519:").is_some_and(|version| {
        !version.is_empty() && version.len() <= 200 && version.bytes().all(|b| b.is_ascii_graphic())
    })
}

/// `name=value` pairs (RFC 9110 §11.4), with colons and slashes allowed in unquoted values.
fn parameters(text: &str) -> Result<Vec<(&str, String)>, &'static str> {
    let mut found = Vec::new();
    let mut rest = text.trim_matches([' ', '\t']);
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or("a parameter has no value")?;
        let name = name.trim_matches([' ', '\t']);
        if name.is_empty()
            || !name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        {
            return Err("a parameter's name isn't valid");
        }
        let after = after.trim_start_matches([' ', '\t']);
        let (value, after) = if let Some(quoted) = after.strip_prefix('"') {
            unquote(quoted)?
        } else {
            let end = after.find(',').unwrap_or(after.len());
            let value = after[..end].trim_end_matches([' ', '\t']);
            if value.is_empty() || value.contains(|c: char| c.is_whitespace() || c == '"') {
                return Err("a parameter's value isn't valid");
            }
            (value.to_owned(), &after[end..])
        };
        found.push((name, value));
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() {
            // Empty list elements are allowed by RFC 9110.
            let trimmed = rest.trim_start_matches([' ', '\t', ',']);
            if trimmed.len() == rest.len() {
                return Err("parameters aren't separated by commas");
            }
            rest = trimmed;
        }
    }
    Ok(found)
}

/// The value of a quoted string whose opening quote is gone, and what follows its closing quote.
fn unquote(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(chars.next().ok_or("a quoted value doesn't end")?.1),
            c => value.push(c),
        }
    }
    Err("a quoted value doesn't end")
}
