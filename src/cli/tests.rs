//! What can be written on the command line.

use clap::CommandFactory as _;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn commands_parse() {
    let parse = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap();
    assert!(parse("rhizome").command.is_none());
    let cli = parse("rhizome serve --config a.toml");
    assert_eq!(cli.config, Some(PathBuf::from("a.toml")));
    assert!(matches!(cli.command, Some(Command::Serve)));
    let cli = parse("rhizome decode");
    assert!(matches!(cli.command, Some(Command::Decode)));
    assert!(matches!(
        parse("rhizome keys").command,
        Some(Command::Keys { command: None })
    ));
    let Some(Command::User(user::UserCommand::Create(args))) =
        parse("rhizome user create alice --password-stdin").command
    else {
        panic!("not user create");
    };
    assert_eq!(args.name.as_deref(), Some("alice"));
}

/// What can be written, and what can't.
const COMMANDS: &[(&str, bool)] = &[
    (
        "rhizome room inspect !a:b --graphviz --auth --event $x",
        true,
    ),
    ("rhizome room inspect #a:b --recompute --json", true),
    ("rhizome room inspect !a:b --auth", false),
    ("rhizome room inspect !a:b --graphviz --json", false),
    ("rhizome room inspect !a:b --around 1001", false),
    ("rhizome room inspect", false),
    ("rhizome room policies #a:b @c:d --json", true),
    ("rhizome room policies", false),
    ("rhizome media move local large", true),
    ("rhizome media delete mxc://a/b mxc://a/c", true),
    ("rhizome media delete --user @a:b --older-than 30d", true),
    ("rhizome media delete", false),
    ("rhizome media delete --unused-for long", false),
    ("rhizome media quarantine --room !a:b --undo", true),
    ("rhizome user list --admins --locked", true),
    ("rhizome user show alice", true),
    ("rhizome user password alice --password-stdin", true),
    ("rhizome user password --password-stdin", false),
    ("rhizome user admin @alice:here --remove", true),
    ("rhizome user lock alice", true),
    ("rhizome user shadow-ban alice --reason spam", true),
    ("rhizome user shadow-ban alice --undo", true),
    ("rhizome user deactivate alice --erase --erase-media", true),
    ("rhizome user logout alice PHONE LAPTOP", true),
    ("rhizome user logout", false),
    ("rhizome block room !a:b --reason spam", true),
    ("rhizome block server a.example --way in", true),
    ("rhizome block server a.example --way up", false),
    ("rhizome block name root", true),
    ("rhizome unblock name root", true),
    ("rhizome blocks", true),
    ("rhizome keys rotate --overlap 0s", true),
    ("rhizome keys rotate --overlap 31d", false),
    ("rhizome keys old", true),
    ("rhizome keys forget ed25519:a_b", true),
    ("rhizome keys forget", false),
    ("rhizome appservice list --json", true),
    ("rhizome appservice show", false),
    ("rhizome appservice test", true),
    ("rhizome appservice pause irc", true),
    ("rhizome appservice resume", false),
    ("rhizome appservice reload", true),
    ("rhizome task list --limit 5", true),
    ("rhizome task cancel", false),
    ("rhizome report list", true),
    ("rhizome report take 1 2 --by eve", true),
    ("rhizome report done --by eve", false),
    ("rhizome report list --all", true),
    ("rhizome report dismiss 1 2", true),
    ("rhizome report dismiss", false),
    ("rhizome token create", true),
    ("rhizome token create abc --uses 1 --expires-in 7d", true),
    ("rhizome token create abc --length 20", false),
    ("rhizome token create a/b", false),
    ("rhizome token create --uses 0", false),
    ("rhizome token list", true),
    ("rhizome token delete", false),
    ("rhizome database check", true),
    ("rhizome database check --thorough", true),
    ("rhizome database vacuum", true),
    ("rhizome database", false),
    ("rhizome user waiting", true),
    ("rhizome user approve @a:b c", true),
    ("rhizome user approve", false),
];

#[test]
fn commands_are_told_from_mistakes() {
    for (line, fine) in COMMANDS {
        assert_eq!(
            Cli::try_parse_from(line.split(' ')).is_ok(),
            *fine,
            "{line}"
        );
    }
    assert!(
        Cli::try_parse_from([
            "rhizome",
            "user",
            "create",
            "--password-stdin",
            "--password-file",
            "x"
        ])
        .is_err()
    );
}

#[test]
fn causes_are_told_once() {
    let error = anyhow::anyhow!("inner")
        .context("outer: inner")
        .context("top");
    assert_eq!(explain(&error), "top\n  because: outer: inner");
}
