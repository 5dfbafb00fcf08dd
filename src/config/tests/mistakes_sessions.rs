//! Mistakes about how long sessions and their tokens are good.

pub(super) const MISTAKES: &[(&str, &str, &str, &str)] = &[
    (
        "[sessions]\naccess_token_lifetime = \"1s\"\n",
        "rhizome.toml:2: sessions.access_token_lifetime",
        "refresh their tokens in time",
        "30s",
    ),
    (
        "[sessions]\nlogin_token_lifetime = \"2h\"\n",
        "rhizome.toml:2: sessions.login_token_lifetime",
        "for too long",
        "1h",
    ),
    (
        "[sessions]\naccess_token_lifetime = \"1h\"\nrefresh_token_lifetime = \"1h\"\n",
        "rhizome.toml:3: sessions.refresh_token_lifetime",
        "would end before",
        "access_token_lifetime",
    ),
    (
        "[sessions]\nrefresh_token_lifetime = \"0s\"\n",
        "rhizome.toml:2: sessions.refresh_token_lifetime",
        "would end before",
        "leave it out",
    ),
    (
        "[sessions]\nlasting_token_lifetime = \"59m\"\n",
        "rhizome.toml:2: sessions.lasting_token_lifetime",
        "more often",
        "leave it out",
    ),
    (
        "[sessions]\nreauthentication_window = \"61m\"\n",
        "rhizome.toml:2: sessions.reauthentication_window",
        "unattended",
        "1h at most",
    ),
];
