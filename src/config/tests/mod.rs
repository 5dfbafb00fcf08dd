//! Every mistake gets its line and a remedy; the example says what the structs say.

mod mistakes;
mod mistakes_federation;
mod mistakes_registration;
mod mistakes_sessions;
mod told;

use super::*;
use mistakes::MISTAKES;

fn read(text: &str) -> Result<Config, ConfigError> {
    Config::from_parts(Some(("rhizome.toml", text)), BTreeMap::new())
}

fn read_env(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    Config::from_parts(Some(("rhizome.toml", text)), variables)
}

#[test]
fn nothing_set_gives_the_defaults() {
    assert_eq!(
        Config::from_parts(None, BTreeMap::new()).unwrap(),
        Config::default()
    );
    assert_eq!(read("").unwrap(), Config::default());
    assert_eq!(Config::default().server.default_room_version.as_str(), "12");
}

#[test]
fn each_mistake_is_refused_with_its_line_and_a_remedy() {
    let mistakes = MISTAKES.iter().chain(mistakes_registration::MISTAKES);
    let mistakes = mistakes.chain(mistakes_sessions::MISTAKES);
    let mistakes = mistakes.chain(mistakes_federation::MISTAKES);
    for (text, place, what, remedy) in mistakes.chain(told::TOLD) {
        let error = read(text).expect_err(text);
        let problem = &error.0[0];
        assert!(problem.place.starts_with(place), "{text}\n{problem:?}");
        assert!(problem.what.contains(what), "{text}\n{problem:?}");
        assert!(problem.remedy.contains(remedy), "{text}\n{problem:?}");
        assert_eq!(error.0.len(), 1, "{text}\n{error}");
    }
}

#[test]
fn who_is_found_is_one_of_two_words() {
    let config = read("[user_directory]\nvisible = \"all_local\"\n").unwrap();
    assert_eq!(config.user_directory.visible, VisibleUsers::AllLocal);
    let error = read("[user_directory]\nvisible = \"all\"\n").unwrap_err();
    let problem = &error.0[0];
    let place = "rhizome.toml:2: user_directory.visible";
    assert!(problem.place.starts_with(place), "{problem:?}");
    assert!(
        problem.what.contains("unknown variant `all`"),
        "{problem:?}"
    );
}

#[test]
fn all_mistakes_of_meaning_are_told_at_once() {
    let error =
        read("[registration]\nmode = \"open\"\n[database]\nmax_connections = 0\n").unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("rhizome.toml:2: registration.mode: "),
        "{text}"
    );
    assert!(
        text.contains("rhizome.toml:4: database.max_connections: "),
        "{text}"
    );
    assert!(text.contains("\n  to fix it: "), "{text}");
}

#[test]
fn the_environment_wins_and_takes_every_type() {
    let config = read_env(
        "[server]\nname = \"a.org\"\n[rate_limits]\nmessage = { per_second = 3, burst = 4 }\n",
        &[
            ("RHIZOME__SERVER__NAME", "b.org"),
            ("RHIZOME__SERVER__DATA_DIR", "12"),
            ("RHIZOME__RATE_LIMITS__ENABLED", "false"),
            ("RHIZOME__RATE_LIMITS__MESSAGE__BURST", "9"),
            ("RHIZOME__DATABASE__MAX_CONNECTIONS", "7"),
            ("RHIZOME__HTTP__MAX_REQUEST_SIZE", "1 MiB"),
            (
                "RHIZOME__FEDERATION__ALLOWED_RANGES",
                "[\"10.0.0.0/8\", \"::1/128\"]",
            ),
            ("RHIZOME__FEDERATION__TRUSTED_KEY_SERVERS", "[]"),
            (
                "RHIZOME__LISTENERS",
                r#"[{"address": "127.0.0.1:0", "apis": ["client"]}, {"address": "[::1]:1"}]"#,
            ),
            ("RHIZOME__REGISTRATION__SHARED_SECRET", "12345678"),
            ("RHIZOME__TESTING__CRASH_POINT", "before-commit:3"),
        ],
    )
    .unwrap();
    assert_eq!(config.server.name, "b.org");
    assert_eq!(config.server.data_dir, PathBuf::from("12"));
    assert!(!config.rate_limits.enabled);
    assert_eq!(
        config.rate_limits.message,
        Rate {
            per_second: 3.0,
            burst: 9
        }
    );
    assert_eq!(config.database.max_connections, 7);
    assert_eq!(config.http.max_request_size, Size::mib(1));
    assert_eq!(config.federation.allowed_ranges.len(), 2);
    assert!(config.federation.trusted_key_servers.is_empty());
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.listeners[0].apis, [Api::Client]);
    assert_eq!(
        config.registration.shared_secret.unwrap().expose(),
        "12345678"
    );
    assert_eq!(config.crash_point, "before-commit:3".parse().ok());

    let toml_list = "[{ address = \"127.0.0.1:0\", apis = [\"federation\"] }]";
    let config = read_env("", &[("RHIZOME__LISTENERS", toml_list)]).unwrap();
    assert_eq!(config.listeners[0].apis, [Api::Federation]);
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    for (variable, value, what) in [
        ("RHIZOME__SERVER__NMAE", "a.org", "unknown field `nmae`"),
        (
            "RHIZOME__SERVER__NAME",
            "https://a.org",
            "not a Matrix server name",
        ),
        ("RHIZOME__DATABASE__MAX_CONNECTIONS", "many", "invalid type"),
        ("RHIZOME__DATABASE__MAX_CONNECTIONS", "0", "at least one"),
        ("RHIZOME__REGISTRATION__MODE", "open", "spammers"),
        (
            "RHIZOME__LISTENERS",
            "[{\"address\": \"x\"}]",
            "not an address",
        ),
        ("RHIZOME__HTTP__DRAIN_TIMEOUT", "soon", "not a span of time"),
        ("RHIZOME__SERVER__NAME__X", "1", "invalid type"),
        (
            "RHIZOME__TESTING__CRASH_POINT",
            "nowhere",
            "none of before-commit",
        ),
    ] {
        let error = read_env("[server]\nname = \"a.org\"\n", &[(variable, value)]).unwrap_err();
        assert_eq!(
            error.0[0].place,
            format!("environment variable {variable}"),
            "{error}"
        );
        assert!(error.0[0].what.contains(what), "{variable}: {error}");
    }
}

#[test]
fn secrets_come_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let url = dir.path().join("url");
    std::fs::write(
        &url,
        "postgres://me:hunter2@db:5432/matrix?sslmode=require\n",
    )
    .unwrap();
    let config = read(&format!("[database]\nurl_file = {url:?}\n")).unwrap();
    assert_eq!(
        config.database.url(Path::new("d")),
        "postgres://me:hunter2@db:5432/matrix?sslmode=require"
    );
    assert_eq!(
        config.database.url_for_display(Path::new("d")),
        "postgres://db:5432/matrix"
    );
    assert!(!format!("{config:?}").contains("hunter2"));

    let secret = dir.path().join("secret");
    std::fs::write(&secret, "hunter3\n").unwrap();
    let store =
        "name = \"cloud\"\nkind = \"s3\"\nendpoint = \"https://s3.example\"\nbucket = \"files\"";
    let text =
        format!("[[media.stores]]\n{store}\naccess_key = \"us\"\nsecret_key_file = {secret:?}\n");
    let config = read(&text).unwrap();
    let store = &config.media.stores[0];
    assert_eq!(store.secret_key.as_ref().unwrap().expose(), "hunter3");
    assert!(!format!("{config:?}").contains("hunter3"));

    std::fs::write(&url, " \n").unwrap();
    let error = read(&format!("[database]\nurl_file = {url:?}\n")).unwrap_err();
    assert!(error.0[0].what.contains("is empty"), "{error}");
}

/// Settings that have no default: the example shows a value that is not theirs.
const WITHOUT_DEFAULT: &[&str] = &[
    "server.expire_devices_after",
    "server.signing_key_path",
    "well_known.client",
    "well_known.server",
    "well_known.client_extra",
    "well_known.contacts",
    "well_known.support_page",
    "well_known.policy_server_key",
    "turn.shared_secret",
    "turn.shared_secret_file",
    "turn.user",
    "turn.password",
    "turn.password_file",
    "welcome.title",
    "welcome.text",
    "database.url",
    "database.url_file",
    "registration.terms",
    "registration.captcha",
    "registration.shared_secret",
    "registration.shared_secret_file",
    "sessions.refresh_token_lifetime",
    "sessions.lasting_token_lifetime",
    "jwt.algorithm",
    "jwt.secret",
    "jwt.secret_file",
    "jwt.public_key_file",
    "jwt.issuer",
    "federation.old_verify_keys",
    "media.path",
    "media.stores",
    "media.key_file",
    "media.quota",
    "media.frozen_since",
    "media.quota_info_uri",
    "media.forbidden_hashes",
    "media.scanner",
    "media.video_still",
    "push.quiet_while_active",
    "push.web",
    "push.apns",
    "push.fcm",
    "mail.host",
    "mail.port",
    "mail.ca_file",
    "mail.user",
    "mail.password",
    "mail.password_file",
    "mail.from",
    "mail.from_name",
    "mail.templates_path",
    "mail.key_path",
    "identity.sms",
    "identity.next_link_hosts",
    "identity.servers",
    "rooms.private_chat",
    "rooms.trusted_private_chat",
    "rooms.public_chat",
    "server_notices.localpart",
    "server_notices.display_name",
    "server_notices.avatar_url",
    "appservices.files",
    "metrics.listen",
    "listeners.tls",
];

/// The example with its settings switched on: a single `#` without a space hides each.
fn example_switched_on() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '[') => {
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(|l| line(l) + "\n").collect()
}

#[test]
fn the_example_is_the_defaults() {
    assert_eq!(read(EXAMPLE).unwrap(), Config::default());
    let mut table: toml::Table = toml::from_str(&example_switched_on()).unwrap();
    for path in WITHOUT_DEFAULT {
        let (section, key) = path.split_once('.').unwrap();
        let section = match &mut table[section] {
            toml::Value::Array(items) => &mut items[0],
            section => section,
        };
        assert!(
            section.as_table_mut().unwrap().remove(key).is_some(),
            "{path} is not in the example"
        );
    }
    let config = read(&toml::to_string(&table).unwrap()).unwrap();
    assert_eq!(config, Config::default());
}

/// The keys that a section accepts, as its own deserialiser names them.
fn known_keys(prefix: &str) -> Vec<String> {
    let error = toml::from_str::<Config>(&format!("{prefix}zzz = 1\n")).unwrap_err();
    let names = error
        .message()
        .split("expected ")
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    names
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_example_and_the_handbook_name_every_setting() {
    let handbook = include_str!("../../../docs/configuration.md");
    let example: toml::Table = toml::from_str(&example_switched_on()).unwrap();
    let sections = known_keys("");
    assert_eq!(sections.len(), 27, "{sections:?}");
    for section in sections {
        let (prefix, table) = match &example[&section] {
            toml::Value::Array(items) => (format!("[[{section}]]\n"), items[0].as_table().unwrap()),
            value => (format!("[{section}]\n"), value.as_table().unwrap()),
        };
        let keys = known_keys(&prefix);
        assert!(!keys.is_empty());
        for key in keys {
            assert!(
                table.contains_key(&key),
                "the example lacks {section}.{key}"
            );
            assert!(
                handbook.contains(&format!("`{key}`")),
                "docs/configuration.md lacks {section}.{key}"
            );
        }
    }
}

/// Each limit's default is what the handbook says.
#[test]
fn the_handbook_says_which_limits_hold() {
    let handbook = include_str!("../../../docs/configuration.md");
    let (_, section) = handbook.split_once("## `[rate_limits]`").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` | `{ per_second")?;
        let (value, _) = rest.split_once('`')?;
        Some(format!("{name} = {{ per_second{value}\n"))
    });
    let rows: Vec<String> = rows.collect();
    assert!(rows.len() >= 19, "{rows:?}");
    let config = read(&format!("[rate_limits]\n{}", rows.concat())).unwrap();
    assert_eq!(config, Config::default());
}
