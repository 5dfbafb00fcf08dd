//! `rhizome-contract coverage DIR PAGE [--check]`: makes PAGE of what test binaries left in DIR, or with `--check`
//! only compares. Fails when an operation is there that no test uses, and when a deviation isn't needed any more.

use std::{path::Path, process::ExitCode};

use rhizome_contract::coverage::{Coverage, agree};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["coverage", dir, page] => coverage(dir.as_ref(), page.as_ref(), false),
        ["coverage", dir, page, "--check"] => coverage(dir.as_ref(), page.as_ref(), true),
        _ => Err("usage: rhizome-contract coverage DIR PAGE [--check]".into()),
    };
    match done {
        Ok(complaints) if complaints.is_empty() => ExitCode::SUCCESS,
        Ok(complaints) => {
            eprintln!("{}", complaints.join("\n"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn coverage(
    dir: &Path,
    page: &Path,
    check: bool,
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let coverage = Coverage::read(dir)?;
    let mut complaints = coverage.complaints();
    let text = coverage.page();
    if !check {
        std::fs::write(page, text)?;
    } else if !agree(&text, &std::fs::read_to_string(page)?) {
        complaints.push(format!(
            "{} isn't what the server has: run scripts/coverage",
            page.display()
        ));
    }
    Ok(complaints)
}
