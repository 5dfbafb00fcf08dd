//! Tallies and counts as text: a tally as its row has it, counts as clients are told them.

use std::sync::Arc;

use rhizome_storage::Pos;
use serde::{Deserialize, Serialize};

use super::tally::{Count, Counts, Mark, Tally, Thread};
use crate::view::json::Json;

impl Counts {
    /// Writes `unread_notifications`, and with `by_thread` `unread_thread_notifications`: then the room's own counts are
    /// of its main timeline.
    pub fn write(&self, json: &mut Json, by_thread: bool) {
        json.key("unread_notifications");
        if !by_thread {
            return self.whole().write(json);
        }
        self.main.write(json);
        if self.threads.is_empty() {
            return;
        }
        json.key("unread_thread_notifications").open();
        for (root, of) in &self.threads {
            json.key(root);
            of.write(json);
        }
        json.close();
    }
}

impl Count {
    fn write(self, json: &mut Json) {
        json.open()
            .key("notification_count")
            .number(self.notifications.into())
            .key("highlight_count")
            .number(self.highlights.into())
            .close();
    }
}

/// How a tally is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    /// Threads, which the others name by their index.
    threads: Vec<Option<String>>,
    /// Thread, notifications, highlights.
    older: Vec<(usize, u32, u32)>,
    span: (i64, i64),
    /// Position, thread, whether it is highlighted.
    marks: Vec<(i64, usize, bool)>,
}

impl Tally {
    /// As text.
    pub fn written(&self) -> String {
        let mut threads: Vec<Thread> = Vec::new();
        let mut index = |thread: &Thread| {
            let known = threads.iter().position(|known| known == thread);
            known.unwrap_or_else(|| {
                threads.push(thread.clone());
                threads.len() - 1
            })
        };
        let older = self.older.iter();
        let older =
            older.map(|(thread, count)| (index(thread), count.notifications, count.highlights));
        let older = older.collect();
        let marks = self.marks.iter();
        let marks = marks.map(|mark| (mark.pos.0, index(&mark.thread), mark.highlight));
        let written = Written {
            marks: marks.collect(),
            older,
            span: (self.span.0.0, self.span.1.0),
            threads: threads
                .iter()
                .map(|thread| thread.as_deref().map(str::to_owned))
                .collect(),
        };
        // Numbers and strings always become JSON.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// From text, with nothing that is awaited; `None` if it is none.
    pub fn read_back(text: &str, (upto, since, rules): (Pos, Pos, Pos)) -> Option<Self> {
        let written: Written = serde_json::from_str(text).ok()?;
        let threads: Vec<Thread> = written
            .threads
            .iter()
            .map(|thread| thread.as_deref().map(Arc::from))
            .collect();
        let thread = |index: usize| threads.get(index).cloned();
        let older = written
            .older
            .iter()
            .map(|(index, notifications, highlights)| {
                let count = Count {
                    notifications: *notifications,
                    highlights: *highlights,
                };
                Some((thread(*index)?, count))
            });
        let older = older.collect::<Option<_>>()?;
        let marks = written.marks.iter().map(|(pos, index, highlight)| {
            Some(Mark {
                pos: Pos(*pos),
                thread: thread(*index)?,
                highlight: *highlight,
            })
        });
        Some(Self {
            upto,
            since,
            rules,
            marks: marks.collect::<Option<_>>()?,
            older,
            span: (Pos(written.span.0), Pos(written.span.1)),
            awaited: Vec::new(),
            stale: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tally::tests::tally, *};

    #[test]
    fn it_comes_back_as_it_was_written() {
        for events in [0, 1, 20, 64, 65, 300] {
            let mut tally = tally(events);
            tally.upto = Pos(events);
            let back = Tally::read_back(&tally.written(), (Pos(events), Pos(0), Pos(0)));
            assert_eq!(back, Some(tally));
        }
        for broken in [
            "",
            "{}",
            r#"{"threads":[],"older":[[1,2,3]],"span":[0,0],"marks":[]}"#,
        ] {
            assert_eq!(Tally::read_back(broken, (Pos(0), Pos(0), Pos(0))), None);
        }
    }
}
