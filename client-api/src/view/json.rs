//! A small JSON writer: answers that carry many events are put together from bytes that exist
//! already, with no tree in between.

use std::fmt::Write as _;

/// Writes JSON into one growing string and keeps track of the commas.
///
/// The caller opens and closes objects and arrays in pairs; nothing checks that, because the few
/// callers are encoders whose output is parsed back by their tests.
#[derive(Default, Debug)]
pub struct Json {
    buf: String,
    /// Whether the next member or element needs a comma before it.
    comma: bool,
}

impl Json {
    /// An empty writer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Json {
        Json {
            buf: String::with_capacity(capacity),
            comma: false,
        }
    }

    /// What was written since the last time; more follows.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.buf)
    }

    /// What was written.
    pub fn finish(self) -> String {
        self.buf
    }

    fn separate(&mut self) {
        if self.comma {
            self.buf.push(',');
        }
        self.comma = true;
    }

    /// Opens an object as an element or after a key.
    pub fn open(&mut self) -> &mut Json {
        self.separate();
        self.buf.push('{');
        self.comma = false;
        self
    }

    /// Closes an object.
    pub fn close(&mut self) -> &mut Json {
        self.buf.push('}');
        self.comma = true;
        self
    }

    /// Opens an array.
    pub fn open_list(&mut self) -> &mut Json {
        self.separate();
        self.buf.push('[');
        self.comma = false;
        self
    }

    /// Closes an array.
    pub fn close_list(&mut self) -> &mut Json {
        self.buf.push(']');
        self.comma = true;
        self
    }

    /// A member's name; its value follows.
    pub fn key(&mut self, key: &str) -> &mut Json {
        self.separate();
        push_string(&mut self.buf, key);
        self.buf.push(':');
        self.comma = false;
        self
    }

    /// A string value.
    pub fn string(&mut self, value: &str) -> &mut Json {
        self.separate();
        push_string(&mut self.buf, value);
        self
    }

    /// A number.
    pub fn number(&mut self, value: i64) -> &mut Json {
        self.separate();
        // Writing into a String cannot fail.
        let _ = write!(self.buf, "{value}");
        self
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, value: bool) -> &mut Json {
        self.separate();
        self.buf.push_str(if value { "true" } else { "false" });
        self
    }

    /// `null`.
    pub fn null(&mut self) -> &mut Json {
        self.raw("null")
    }

    /// A value that is JSON already.
    pub fn raw(&mut self, json: &str) -> &mut Json {
        self.separate();
        self.buf.push_str(json);
        self
    }

    /// One value written by a function that appends its bytes.
    pub fn with(&mut self, append: impl FnOnce(&mut String)) -> &mut Json {
        self.separate();
        append(&mut self.buf);
        self
    }
}

/// Appends `value` as a JSON string.
pub fn push_string(out: &mut String, value: &str) {
    out.push('"');
    let mut clean = 0;
    for (at, byte) in value.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&value[clean..at]);
        clean = at + 1;
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&value[clean..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_fall_where_they_should() {
        let mut json = Json::default();
        json.open().key("a").number(1).key("b").open_list();
        json.string("x")
            .boolean(true)
            .raw("{}")
            .open()
            .close()
            .close_list();
        json.key("c")
            .open()
            .key("d")
            .open_list()
            .close_list()
            .close()
            .close();
        assert_eq!(
            json.finish(),
            r#"{"a":1,"b":["x",true,{},{}],"c":{"d":[]}}"#
        );
    }

    #[test]
    fn hostile_strings_survive_a_round_trip() {
        for hostile in [
            "",
            "\"",
            "\\",
            "a\u{0}b",
            "\n\r\t\u{8}\u{1f}\u{7f}",
            "π\"\u{1f600}\\",
        ] {
            let mut out = String::new();
            push_string(&mut out, hostile);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), hostile);
        }
    }
}
