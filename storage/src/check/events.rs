//! Events: what they say is what their ids say, and what they refer to is there.

use std::sync::Arc;

use rhizome_protocol::hash::{to_base64, to_url_base64};
use rhizome_protocol::rules::EventIdFormat;
use rhizome_protocol::{Pdu, RoomRules};
use ruma::OwnedEventId;
use serde_json::Value;

use super::CheckProgress;
use super::ask::{self, Question};
use super::finding::{Fault, Findings, LEFT_OVER, RESTORE, Tally};
use super::moment::Moment;
use crate::engine::sql::{Columns as _, ReadRow};
use crate::{EventNo, Placement, Result, Status};

/// Events that are read together.
const PIECE: usize = 250;
/// So many of the newest are looked at, if not all.
const NEWEST: u64 = 10_000;

const DAMAGED: Fault = Fault {
    what: "the text of events is damaged",
    means: "They can't be read, or aren't what their ids say; other servers refuse them.",
    next: RESTORE,
};

const MISPLACED: Fault = Fault {
    what: "events have no place in the history and should, or have one and shouldn't",
    means: "Clients don't get them, or get what they must not.",
    next: RESTORE,
};

const UNTIED: Fault = Fault {
    what: "events refer to states or events that aren't there",
    means: "What was decided by them can't be decided again; who asks for the room's history may get an error.",
    next: RESTORE,
};

static QUESTIONS: &[Question] = &[
    Question {
        fault: Fault {
            what: "events are taken for missing that are there",
            means: "Other servers are asked for them in vain.",
            next: LEFT_OVER,
        },
        sql: "SELECT p.missing AS example, COUNT(*) OVER () AS total FROM missing_prev p \
              JOIN event e ON e.event_id = p.missing AND e.room = p.room AND e.placement <> 2 \
              ORDER BY p.missing, p.event LIMIT $1",
    },
    Question {
        fault: Fault {
            what: "what events lack is written down of events that aren't there",
            means: "Other servers are asked for what nobody needs.",
            next: LEFT_OVER,
        },
        sql: "SELECT p.missing AS example, COUNT(*) OVER () AS total FROM missing_prev p \
              LEFT JOIN event e ON e.no = p.event AND e.room = p.room \
              WHERE e.no IS NULL ORDER BY p.missing, p.event LIMIT $1",
    },
];

const COUNT: &str = "SELECT COUNT(*) AS count FROM event";
const EVENTS: &str = "SELECT e.no, e.event_id, e.ord, e.status, e.placement, e.json, r.room_id, r.version, \
    CASE WHEN e.state_before IS NOT NULL AND b.no IS NULL THEN 1 ELSE 0 END AS no_before, \
    CASE WHEN e.state_after IS NOT NULL AND a.no IS NULL THEN 1 ELSE 0 END AS no_after, \
    CASE WHEN e.redacted_by IS NOT NULL AND d.no IS NULL THEN 1 ELSE 0 END AS no_redaction \
    FROM event e LEFT JOIN room r ON r.no = e.room \
    LEFT JOIN state_snapshot b ON b.no = e.state_before LEFT JOIN state_snapshot a ON a.no = e.state_after \
    LEFT JOIN event d ON d.no = e.redacted_by WHERE e.no < $1 ORDER BY e.no DESC LIMIT $2";
const AUTH: &str = "SELECT e.event_id FROM event_auth t JOIN event e ON e.no = t.event \
    LEFT JOIN event a ON a.no = t.auth WHERE t.event IN NUMBERS($1) AND a.no IS NULL ORDER BY t.event";

/// An event as its row has it.
#[derive(Debug, Clone)]
struct Row {
    event_id: OwnedEventId,
    order: Option<i64>,
    status: Status,
    placement: Placement,
    json: Arc<str>,
    room_id: Option<String>,
    rules: Option<&'static RoomRules>,
    /// What it refers to and isn't there.
    lacks: Option<&'static str>,
}

pub(super) async fn check(
    moment: &mut Moment,
    thorough: bool,
    progress: &CheckProgress,
) -> Result<Findings> {
    let found = ask::all(moment, QUESTIONS, progress).await?;
    let count: u64 = moment.one(moment.sql(COUNT), "count").await?;
    let mut left = if thorough { count } else { count.min(NEWEST) };
    progress.begin(left);
    let (mut damaged, mut misplaced, mut untied) =
        (DAMAGED.tally(), MISPLACED.tally(), UNTIED.tally());
    let mut before = EventNo(i64::MAX);
    while left > 0 {
        let query = moment.sql(EVENTS).bind(before).bind(PIECE);
        let rows = moment.rows(query).await?;
        let mut nos: Vec<EventNo> = Vec::with_capacity(rows.len());
        for row in &rows {
            nos.push(row.get("no")?);
            judge(&read(row)?, &mut damaged, &mut misplaced, &mut untied);
        }
        let Some(last) = nos.last() else { break };
        before = *last;
        left = left.saturating_sub(nos.len() as u64);
        let query = moment.sql(AUTH).numbers(nos.iter().copied());
        for row in moment.rows(query).await? {
            let event_id: OwnedEventId = row.get("event_id")?;
            untied.add(|| format!("{event_id} (auth event)"));
        }
        progress.add(nos.len());
    }
    let mut found = found.and(Findings::of([damaged, misplaced, untied]));
    if !thorough && count > NEWEST {
        found.notes.push(format!(
            "the newest {NEWEST} of {count} events were looked at; --thorough looks at all"
        ));
    }
    Ok(found)
}

fn read(row: &ReadRow) -> Result<Row> {
    let lacks = [
        (row.get::<bool>("no_before")?, "state before it"),
        (row.get("no_after")?, "state after it"),
        (row.get("no_redaction")?, "redaction"),
    ];
    let mut lacks = lacks.into_iter().filter(|(lacks, _)| *lacks);
    Ok(Row {
        event_id: row.get("event_id")?,
        order: row.get("ord")?,
        status: row.get("status")?,
        placement: row.get("placement")?,
        json: row.get("json")?,
        room_id: row.get("room_id")?,
        rules: row.get("version")?,
        lacks: lacks.next().map(|(_, what)| what),
    })
}

fn judge(row: &Row, damaged: &mut Tally, misplaced: &mut Tally, untied: &mut Tally) {
    let id = &row.event_id;
    match (&row.room_id, row.rules) {
        (Some(room_id), Some(rules)) => {
            if let Some(why) = fault_of_text(row, room_id, rules) {
                damaged.add(|| format!("{id} in {room_id}: {why}"));
            }
        }
        (Some(room_id), None) => {
            untied.add(|| format!("{id} (room {room_id}, of which no version is known)"));
        }
        (None, _) => untied.add(|| format!("{id} (room)")),
    }
    if !is_placed_right(row) {
        let (status, placement, order) = (row.status, row.placement, row.order);
        misplaced.add(|| format!("{id}: {status:?}, {placement:?}, order {order:?}"));
    }
    if let Some(what) = row.lacks {
        untied.add(|| format!("{id} ({what})"));
    }
}

/// What is accepted and no outlier has a place: what happened while we were there its position, what is from before a
/// number below zero.
fn is_placed_right(row: &Row) -> bool {
    match (row.status, row.placement) {
        (Status::Accepted, Placement::Live) => row.order.is_some_and(|order| order > 0),
        (Status::Accepted, Placement::Backfilled) => row.order.is_some_and(|order| order < 0),
        _ => row.order.is_none(),
    }
}

/// Why a text can't be that of the event with this id in this room.
fn fault_of_text(row: &Row, room_id: &str, rules: &'static RoomRules) -> Option<String> {
    // What is otherwise read when somebody asks for it, too.
    let pdu = match Pdu::from_stored_in_full(rules, row.event_id.clone(), row.json.clone()) {
        Ok(pdu) => pdu,
        Err(error) => return Some(error.to_string()),
    };
    if pdu.room_id().as_str() != room_id {
        return Some(format!("it is of the room {}", pdu.room_id()));
    }
    let Some(hash) = pdu.reference_hash() else {
        return Some("its hash can't be told".to_owned());
    };
    let id = match rules.format.event_id {
        EventIdFormat::Explicit => explicit_id(&row.json),
        EventIdFormat::Hash => Some(format!("${}", to_base64(&hash))),
        EventIdFormat::UrlSafeHash => Some(format!("${}", to_url_base64(&hash))),
    };
    if id.as_deref() != Some(row.event_id.as_str()) {
        return Some(format!(
            "by its text it is {}",
            id.as_deref().unwrap_or("nothing")
        ));
    }
    // What came with another content than its hash says is kept redacted.
    let is_whole = pdu.is_whole() || pdu.redacted().json() == pdu.json();
    (!is_whole).then(|| "its content isn't what its hash says".to_owned())
}

fn explicit_id(json: &str) -> Option<String> {
    let event: Value = serde_json::from_str(json).ok()?;
    event.get("event_id")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use rhizome_protocol::draft::{Draft, Place, build};
    use rhizome_protocol::sign::KeyPair;
    use ruma::{owned_room_id, owned_user_id, server_name};
    use serde_json::json;

    use super::*;

    const ROOM: &str = "!r:here.example";

    fn event(version: &str) -> Row {
        let rules = RoomRules::named(version).unwrap();
        let Value::Object(content) = json!({ "body": "hello", "msgtype": "m.text" }) else {
            panic!("not an object")
        };
        let draft = Draft {
            room_id: Some(owned_room_id!("!r:here.example")),
            sender: owned_user_id!("@a:here.example"),
            kind: "m.room.message".to_owned(),
            state_key: None,
            content,
            redacts: None,
        };
        let place = Place {
            depth: 3,
            origin_server_ts: 1_000,
            ..Place::default()
        };
        let key = KeyPair::from_seed("test", &[7; 32]).unwrap();
        let pdu = build(rules, &draft, &place, server_name!("here.example"), &key).unwrap();
        Row {
            event_id: pdu.event_id().to_owned(),
            order: Some(7),
            status: Status::Accepted,
            placement: Placement::Live,
            json: pdu.json().clone(),
            room_id: Some(ROOM.to_owned()),
            rules: Some(rules),
            lacks: None,
        }
    }

    fn fault(row: &Row) -> Option<String> {
        fault_of_text(row, ROOM, row.rules.unwrap())
    }

    #[test]
    fn a_text_is_that_of_its_id() {
        for version in ["1", "3", "11"] {
            let whole = event(version);
            assert_eq!(fault(&whole), None, "{version}");
            let with = |json: String| Row {
                json: json.into(),
                ..whole.clone()
            };
            // What the hash of the content covers, and what the id does.
            let content = fault(&with(whole.json.replace("hello", "hallo")));
            assert!(content.unwrap().contains("its content"), "{version}");
            let half = fault(&with(whole.json.replace("hello", "\\ud800")));
            assert!(half.unwrap().contains("damaged"), "{version}");
            if version != "1" {
                let depth = with(whole.json.replace("\"depth\":3", "\"depth\":4"));
                assert!(fault(&depth).unwrap().contains("by its text"), "{version}");
            }
            assert!(fault(&with(whole.json[1..].to_owned())).is_some());
            let other = fault_of_text(&whole, "!s:here.example", whole.rules.unwrap());
            assert!(other.unwrap().contains("it is of the room"), "{version}");
            // What came without its content is stored redacted.
            let pdu = Pdu::from_stored(
                whole.rules.unwrap(),
                whole.event_id.clone(),
                whole.json.clone(),
            );
            let redacted = pdu.unwrap().redacted().json().to_string();
            assert_eq!(fault(&with(redacted)), None, "{version}");
        }
        let other = Row {
            event_id: event("1").event_id,
            ..event("11")
        };
        assert!(fault(&other).unwrap().contains("by its text"));
    }

    #[test]
    fn places_follow_from_what_became_of_events() {
        use Placement::{Backfilled, Live, Outlier};
        use Status::{Accepted, Rejected, SoftFailed};
        for (status, placement, order, right) in [
            (Accepted, Live, Some(1), true),
            (Accepted, Live, Some(-1), false),
            (Accepted, Live, None, false),
            (Accepted, Backfilled, Some(-1), true),
            (Accepted, Backfilled, Some(1), false),
            (Accepted, Outlier, None, true),
            (Accepted, Outlier, Some(1), false),
            (Rejected, Live, None, true),
            (SoftFailed, Live, Some(1), false),
        ] {
            let row = Row {
                order,
                status,
                placement,
                ..event("11")
            };
            assert_eq!(
                is_placed_right(&row),
                right,
                "{status:?} {placement:?} {order:?}"
            );
        }
    }
}
