//! The command line about registration: what it takes, tokens, and accounts that wait for approval.

use crate::cli::{rhizome, texts};

/// Tokens that let people register: made, listed, deleted.
#[test]
fn registration_tokens_are_managed() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = rhizome(dir.path()).args(args).output().unwrap();
        let (out, error) = texts(&output);
        (output.status.code(), out, error)
    };
    let (code, out, error) = run(&[
        "token",
        "create",
        "spring",
        "--uses",
        "2",
        "--expires-in",
        "7d",
    ]);
    assert_eq!((code, out.trim()), (Some(0), "spring"), "{error}");
    let (code, _, error) = run(&["token", "create", "spring"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("already"), "{error}");
    let (_, random, _) = run(&["token", "create", "--length", "20"]);
    assert_eq!(random.trim().len(), 20);
    let (_, out, _) = run(&["token", "list"]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    let spring = lines
        .iter()
        .find(|line| line.starts_with("spring  "))
        .unwrap();
    assert!(spring.contains("0 accounts of 2, 0 under way"), "{out}");
    let (code, _, error) = run(&["token", "delete", "spring"]);
    assert_eq!(code, Some(0), "{error}");
    let (code, _, error) = run(&["token", "delete", "spring"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("no token `spring`"), "{error}");
    let (_, out, _) = run(&["token", "list"]);
    assert_eq!(out.lines().count(), 1, "{out}");
    let (code, out, error) = run(&["user", "waiting"]);
    assert_eq!((code, &*out), (Some(0), ""), "{error}");
    let (code, _, error) = run(&["user", "approve", "nobody"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("no account @nobody:localhost"), "{error}");
}

#[test]
fn a_check_says_what_it_takes_to_register() {
    let dir = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        std::fs::write(dir.path().join("r.toml"), text).unwrap();
        let mut command = rhizome(dir.path());
        let output = command.args(["config", "check", "-c", "r.toml"]).output();
        texts(&output.unwrap()).0
    };
    assert!(check("").contains("registration closed (`rhizome user create`)\n"));
    let told = check(
        "[registration]\nmode = \"token\"\nemail = \"required\"\nrequire_approval = true\n\
         terms = [{ id = \"a\", version = \"1\", languages = { en = { name = \"A\", url = \"https://a\" } } }]\n\
         [mail]\nhost = \"mail.here\"\nfrom = \"a@b.org\"\n",
    );
    let registration = "registration with a token (`rhizome token create`), an e-mail address, consent to policies, \
                        your approval (`rhizome user approve`)\n";
    assert!(told.contains(registration), "{told}");
    assert!(told.contains("mail         by mail.here\n"), "{told}");
}
