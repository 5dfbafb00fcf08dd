//! Mistakes about who may register: the file, the place, what is said to be wrong, and what to do.

pub(super) const MISTAKES: &[(&str, &str, &str, &str)] = &[
    (
        "[registration]\n# anyone\nmode = \"open\"\n",
        "rhizome.toml:3: registration.mode",
        "spammers",
        "strangers_may_register_and_i_accept_the_abuse = true",
    ),
    (
        "[registration]\nterms = [{ id = \"a b\", version = \"1\", languages = { en = { name = \"A\", url = \"https://a\" } } }]\n",
        "rhizome.toml:2: registration.terms",
        "can't be the id",
        "a-z",
    ),
    (
        "[registration]\nterms = [{ id = \"a\", version = \"1\", languages = {} }]\n",
        "rhizome.toml:2: registration.terms",
        "in no language",
        "languages =",
    ),
    (
        "[registration]\nterms = [{ id = \"a\", version = \"1\", languages = { en = { name = \"A\", url = \"javascript:x\" } } }]\n",
        "rhizome.toml:2: registration.terms",
        "no address",
        "https://",
    ),
    (
        "[registration]\ncaptcha = { site_key = \"x\" }\n",
        "rhizome.toml:2: registration.captcha",
        "both keys",
        "secret_file",
    ),
    (
        "[registration]\nmode = \"opne\"\n",
        "rhizome.toml:2: registration.mode",
        "unknown variant `opne`",
        "did you mean `open`?",
    ),
    (
        "[registration]\nemail = \"required\"\n",
        "rhizome.toml:2: registration.email",
        "nobody can be sent a mail",
        "[mail]",
    ),
    (
        "[registration]\nphone = \"required\"\n",
        "rhizome.toml:2: registration.phone",
        "nobody can be sent a message",
        "identity.sms",
    ),
    (
        "[registration]\nshared_secret = \"abc\"\n",
        "rhizome.toml:2: registration.shared_secret",
        "shorter than 8",
        "openssl rand",
    ),
];
