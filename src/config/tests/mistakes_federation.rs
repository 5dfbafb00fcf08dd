//! Mistakes about other servers, and about the keys that this server signed with in the past.

pub(super) const MISTAKES: &[(&str, &str, &str, &str)] = &[
    (
        "[federation]\nold_verify_keys = [\n  { key_id = \"a_old\", key = \"Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw\", expired_ts = 1576767829750 },\n]\n",
        "rhizome.toml:3: federation.old_verify_keys.0.key_id",
        "`a_old` is no key id",
        "ed25519:a_xxxx",
    ),
    (
        "[federation]\nold_verify_keys = [{ key_id = \"ed25519:a\", key = \"abc\", expired_ts = 1576767829750 }]\n",
        "rhizome.toml:2: federation.old_verify_keys.0.key",
        "no public ed25519 key",
        "43 characters",
    ),
    (
        "[federation]\nold_verify_keys = [{ key_id = \"ed25519:a\", key = \"Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw\", expired_ts = 1576767829 }]\n",
        "rhizome.toml:2: federation.old_verify_keys.0.expired_ts",
        "before there was Matrix",
        "milliseconds since 1970",
    ),
    (
        "[federation]\nold_verify_keys = [{ key_id = \"ed25519:a\", key = \"Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw\", expired_ts = 1576767829750000000 }]\n",
        "rhizome.toml:2: federation.old_verify_keys.0.expired_ts",
        "after the year 9999",
        "13 digits",
    ),
    (
        "[[federation.old_verify_keys]]\nkey_id = \"ed25519:a\"\nkey = \"Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw\"\nexpired_ts = 1576767829750\n\
         [[federation.old_verify_keys]]\nkey_id = \"ed25519:a\"\nkey = \"Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw=\"\nexpired_ts = 1576767829751\n",
        "rhizome.toml:6: federation.old_verify_keys.1.key_id",
        "there twice",
        "later expired_ts",
    ),
    (
        "[federation]\nold_verify_keys = [{ key_id = \"ed25519:a\", key = \"Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw\" }]\n",
        "rhizome.toml:2: federation.old_verify_keys",
        "missing field `expired_ts`",
        "add the line `expired_ts` =",
    ),
    (
        "[federation]\nold_verify_keys = [{ key_id = \"ed25519:a\", key = \"Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw\", expired = 1576767829750 }]\n",
        "rhizome.toml:2: federation.old_verify_keys",
        "unknown field `expired`",
        "did you mean `expired_ts`?",
    ),
    (
        "[federation]\ndenied_servers = [\n  \"fine.example\",\n  \"evil.example:8448\",\n]\n",
        "rhizome.toml:4: federation.denied_servers.1",
        "ports don't count",
        "leave the port out",
    ),
    (
        "[federation]\nallowed_servers = [\"https://a.example\"]\n",
        "rhizome.toml:2: federation.allowed_servers.0",
        "no server name",
        "*.example.org",
    ),
    (
        "[federation]\noutbound = { denied_servers = [\"\"] }\n",
        "rhizome.toml:2: federation.outbound.denied_servers.0",
        "no server name",
        "*.example.org",
    ),
    (
        "[federation]\ninbound = { denied_server = [] }\n",
        "rhizome.toml:2: federation.inbound",
        "unknown field `denied_server`",
        "did you mean `denied_servers`?",
    ),
];
