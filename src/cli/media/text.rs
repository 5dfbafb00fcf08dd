//! What is read of operators, and told to them.

use anyhow::Context as _;
use rhizome_storage::MediaRow;
use ruma::MxcUri;

use super::super::say;

pub(super) fn line(row: &MediaRow) {
    // Strangers say what it is: a terminal must not do what that says.
    let kind = row.content_type.as_deref().unwrap_or("unknown");
    let kind = kind.escape_debug();
    let marks = [
        (row.pending.is_some(), " pending"),
        (row.quarantined, " quarantined"),
        (row.protected, " protected"),
    ];
    let marks = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark);
    let marks: String = marks.collect();
    let (server, id) = (&row.origin, row.media_id.escape_debug());
    say(format_args!(
        "mxc://{server}/{id}  {kind}  {}{marks}",
        size(row.size)
    ));
}

pub(super) fn parts(file: &str) -> anyhow::Result<(String, String)> {
    let parts = <&MxcUri>::from(file).parts();
    let (server, id) = parts.with_context(|| format!("{file:?} is no mxc://server/id"))?;
    Ok((server.to_string(), id.to_owned()))
}

pub(in crate::cli) fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.iter().find(|(shift, _)| bytes >> shift > 0);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(shift, unit)| {
            let rest = bytes & ((1 << shift) - 1);
            format!("{}.{} {unit}", bytes >> shift, (rest * 10) >> shift)
        },
    )
}
