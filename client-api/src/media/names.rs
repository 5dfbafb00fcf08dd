//! Files by their names: `mxc://server/id` (<https://spec.matrix.org/v1.19/client-server-api/#matrix-content-mxc-uris>).

use rhizome_edge::MatrixError;
use ruma::ServerName;

/// The longest id of a file.
const LONGEST: usize = 255;

/// An id of a file is of letters, digits, `_` and `-`; whatever else it holds might mean something to a file system or
/// in a path (<https://spec.matrix.org/v1.19/client-server-api/#content-repo-security-considerations>). `ruma` has seen
/// that a server's name has its form, but for dots. In capital letters, or with a dot at its end, it would be another
/// server to whatever compares names: those that are blocked, the files that are here. Ours is as the operator spells it.
pub(crate) fn check(
    ours: &ServerName,
    server: &ServerName,
    media_id: &str,
) -> Result<(), MatrixError> {
    let host = server.host();
    if host.starts_with('.') || host.ends_with('.') || host.contains("..") {
        return Err(MatrixError::invalid_param("This is no name of a server"));
    }
    let mut letters = server.as_str().bytes();
    if server != ours && letters.any(|byte| byte.is_ascii_uppercase()) {
        let message = "A server's name is in small letters";
        return Err(MatrixError::invalid_param(message));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !media_id.is_empty() && media_id.len() <= LONGEST && media_id.bytes().all(fits) {
        return Ok(());
    }
    let message = "A file's id is of letters, digits, _ and -";
    Err(MatrixError::invalid_param(message))
}

/// The address of a file.
pub(crate) fn uri(server: &ServerName, media_id: &str) -> String {
    format!("mxc://{server}/{media_id}")
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    fn check(server: &ServerName, media_id: &str) -> Result<(), MatrixError> {
        super::check(server_name!("Here.test"), server, media_id)
    }

    #[test]
    fn ids_are_of_few_characters() {
        let server = server_name!("elsewhere.test:8448");
        for id in ["a", "AZaz09_-", &"x".repeat(255)] {
            assert_eq!(check(server, id), Ok(()), "{id}");
        }
        for id in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\\b",
            "a.png",
            "a b",
            "a%2e",
            "ä",
            "a\0",
            "a\n",
            &"x".repeat(256),
        ] {
            assert_eq!(
                check(server, id).unwrap_err().errcode,
                "M_INVALID_PARAM",
                "{id:?}"
            );
        }
    }

    #[test]
    fn a_server_has_no_empty_parts() {
        for server in ["a.test", "a", "1.2.3.4:5", "[::1]:5"] {
            let server = ServerName::parse(server).unwrap();
            assert_eq!(check(&server, "a"), Ok(()), "{server}");
        }
        for server in ["..", ".a", "a..b", "a..:80", "a.test.", "a.test.:80"] {
            let server = ServerName::parse(server).unwrap();
            assert!(check(&server, "a").is_err(), "{server}");
        }
    }

    #[test]
    fn a_server_has_one_name() {
        assert_eq!(check(server_name!("Here.test"), "a"), Ok(()));
        for server in ["A.test", "a.Test:80", "[::F]:5", "HERE.test"] {
            let server = ServerName::parse(server).unwrap();
            let error = check(&server, "a").unwrap_err();
            assert_eq!(error.errcode, "M_INVALID_PARAM", "{server}");
        }
    }
}
