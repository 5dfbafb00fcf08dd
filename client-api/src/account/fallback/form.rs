//! What a browser sends of a form, and in a query.

use percent_encoding::percent_decode;

/// The most fields that are looked at.
const MOST: usize = 64;

/// Names and values.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// `application/x-www-form-urlencoded`. What isn't text is read as far as it is.
    pub fn read(bytes: &[u8]) -> Self {
        let fields = bytes.split(|byte| *byte == b'&').take(MOST);
        let fields = fields.map(|field| {
            let at = field.iter().position(|byte| *byte == b'=');
            let (name, value) = at.map_or((field, &b""[..]), |at| (&field[..at], &field[at + 1..]));
            (text(name), text(value))
        });
        Self(fields.collect())
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(its, _)| its == name);
        found.map(|(_, value)| value.as_str())
    }
}

fn text(bytes: &[u8]) -> String {
    let spaced: Vec<u8> = bytes
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    percent_decode(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read() {
        let form = Form::read("a=1&b=x+y%26%3D%2B%C3%A9&c&a=2&=3&d=%zz%ff".as_bytes());
        assert_eq!(form.get("a"), Some("1"));
        assert_eq!(form.get("b"), Some("x y&=+é"));
        assert_eq!(form.get("c"), Some(""));
        assert_eq!(form.get("d"), Some("%zz\u{fffd}"));
        assert_eq!(form.get("e"), None);
        let many = "x=1&".repeat(1_000) + "y=2";
        assert_eq!(Form::read(many.as_bytes()).get("y"), None);
    }
}
