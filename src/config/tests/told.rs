//! What may be written wrong about what the server tells of itself.

/// As [`super::mistakes::MISTAKES`].
pub(super) const TOLD: &[(&str, &str, &str, &str)] = &[
    (
        "[well_known]\nclient_extra = { \"m.homeserver\" = {} }\n",
        "rhizome.toml:2: well_known.client_extra",
        "`client` says",
        "well_known.client",
    ),
    (
        "[well_known]\ncontacts = [{ role = \"m.role.admin\" }]\n",
        "rhizome.toml:2: well_known.contacts",
        "neither matrix_id nor email_address",
        "m.role.security",
    ),
    (
        "[well_known]\ncontacts = [{ role = \"boss\", email_address = \"a@b\" }]\n",
        "rhizome.toml:2: well_known.contacts",
        "the role is none",
        "m.role.admin",
    ),
    (
        "[well_known]\nsupport_page = \"help\"\n",
        "rhizome.toml:2: well_known.support_page",
        "no address of a page",
        "https://example.org/help",
    ),
    (
        "[well_known]\npolicy_server_key = \"abc\"\n",
        "rhizome.toml:2: well_known.policy_server_key",
        "no public ed25519 key",
        "43 characters",
    ),
    (
        "[turn]\nuris = [\"turn.example.org\"]\nshared_secret = \"s\"\n",
        "rhizome.toml:2: turn.uris",
        "no address of a TURN server",
        "turn:turn.example.org:3478",
    ),
    (
        "[turn]\nuris = [\"turn:a.org\"]\nuser = \"u\"\n",
        "rhizome.toml:2: turn.uris",
        "who they are",
        "static-auth-secret",
    ),
    (
        "[turn]\nttl = \"1s\"\n",
        "rhizome.toml:2: turn.ttl",
        "break off",
        "a day is usual",
    ),
    (
        "[welcome]\nclients = [{ name = \"x\", url = \"javascript:x\" }]\n",
        "rhizome.toml:2: welcome.clients",
        "no address of a page",
        "https://app.example.org",
    ),
    (
        "[rate_limits]\nexempt = [\"bot\"]\n",
        "rhizome.toml:2: rate_limits.exempt",
        "a user's id",
        "config example",
    ),
    (
        "[rate_limits]\noverrides = [{ user = \"@a:b.org\", rates = { other = { per_second = 0, burst = 1 } } }]\n",
        "rhizome.toml:2: rate_limits.overrides",
        "above 0",
        "@bot:example.org",
    ),
    (
        "[metrics]\nlisten = \"everywhere\"\n",
        "rhizome.toml:2: metrics.listen",
        "not an address to listen on",
        "127.0.0.1:8008",
    ),
    (
        "[metrics]\nlisten = \"127.0.0.1:8008\"\n",
        "rhizome.toml:2: metrics.listen",
        "that of a listener",
        "an address of their own",
    ),
];
