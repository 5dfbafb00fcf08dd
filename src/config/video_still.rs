//! `media.video_still`: the command that takes stills of films.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rhizome_media::StillConfig;

use super::Problems;

const KEY: &str = "media.video_still";

/// Whether there is such a program, and whether it is told which film.
pub(super) fn check(command: &[String], problems: &mut Problems) {
    let Some((program, arguments)) = command.split_first() else {
        return;
    };
    if !is_there(program) {
        problems.add(
            KEY,
            format!("there is no program `{program}` that can be run"),
            "name one that is on PATH, or write its absolute path; each argument is a text of its own",
        );
    }
    let file = StillConfig::FILE;
    if !arguments.iter().any(|argument| argument.contains(file)) {
        problems.add(
            KEY,
            format!("no argument says which film: none has {file}"),
            format!("write \"{file}\" where the film's path belongs"),
        );
    }
}

/// Whether it can be run from anywhere.
fn is_there(program: &str) -> bool {
    if program.contains('/') {
        return program.starts_with('/') && can_be_run(Path::new(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    !program.is_empty() && std::env::split_paths(&path).any(|dir| can_be_run(&dir.join(program)))
}

fn can_be_run(path: &Path) -> bool {
    let known = path.metadata();
    known.is_ok_and(|known| known.is_file() && known.permissions().mode() & 0o111 != 0)
}
