//! Rows of facts.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::group::Uses;
use super::rows::{Maker, Planned, values};
use crate::accounts::account_data::GLOBAL;
use crate::engine::dialect::escaped;
use crate::{Fact, Result, RoomNo, UserNo};

impl Maker<'_> {
    pub(super) fn facts(&mut self) -> Result<()> {
        let facts = self.planned(|planned| match planned {
            Planned::Fact { job, fact } => {
                let job = self.job(*job)?;
                Some((
                    job.set.facts.get(*fact)?,
                    *job.gathered.fact_rooms.get(*fact)?,
                ))
            }
            _ => None,
        });
        let mut rows = FactRows::default();
        for (offset, (fact, room)) in facts {
            rows.add(offset, fact, room);
        }
        self.moved_facts(&rows)?;
        self.invites(&rows)?;
        let (mut aliases, mut forgotten, mut inbound) = (Vec::new(), Vec::new(), Vec::new());
        for fact in self.accepted.iter().flat_map(|(_, job)| &job.set.facts) {
            match fact {
                Fact::Alias {
                    alias,
                    room,
                    creator,
                } => {
                    aliases.push((escaped(alias.as_str()), room, creator));
                }
                Fact::Forget { user, room } => forgotten.push((user, room)),
                Fact::InboundTxn {
                    origin,
                    txn_id,
                    response,
                    received_ts,
                } => {
                    let txn_id = escaped(txn_id);
                    inbound.push((origin.as_str(), txn_id, escaped(response), received_ts));
                }
                _ => {}
            }
        }
        self.before(
            "INSERT INTO room_alias (alias, room, creator) \
             SELECT value ->> 0, CAST(value ->> 1 AS BIGINT), CAST(value ->> 2 AS BIGINT) \
             FROM EACH($1)",
            &aliases,
            Uses::Rows,
        )?;
        self.before(
            "INSERT INTO inbound_txn (origin, txn_id, response, received_ts) \
             SELECT value ->> 0, value ->> 1, value ->> 2, CAST(value ->> 3 AS BIGINT) \
             FROM EACH($1) WHERE true ON CONFLICT (origin, txn_id) DO NOTHING",
            &inbound,
            Uses::Rows,
        )?;
        self.after(
            "UPDATE membership SET forgotten = 1 WHERE membership IN (3, 4) AND (user_no, room) IN (\
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT) FROM EACH($1))",
            &forgotten,
            Uses::Rows,
        )
    }

    fn moved_facts(&mut self, rows: &FactRows<'_>) -> Result<()> {
        self.after(
            "INSERT INTO receipt (room, user_no, kind, thread, event_id, ts, pos) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), value ->> 2, \
             value ->> 3, value ->> 4, CAST(value ->> 5 AS BIGINT), \
             CAST(value ->> 6 AS BIGINT) + $2 FROM EACH($1) WHERE true \
             ON CONFLICT (room, user_no, kind, thread) DO UPDATE SET \
             event_id = excluded.event_id, ts = excluded.ts, pos = excluded.pos",
            &values(
                &rows.receipts,
                |(room, user, kind, thread), (id, ts, offset)| {
                    (
                        *room,
                        *user,
                        kind.clone(),
                        thread.clone(),
                        id.clone(),
                        *ts,
                        *offset,
                    )
                },
            ),
            Uses::Base,
        )?;
        self.threads(rows)?;
        self.after(
            "INSERT INTO account_data (user_no, room, kind, content, pos) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), value ->> 2, \
             value ->> 3, CAST(value ->> 4 AS BIGINT) + $2 FROM EACH($1) WHERE true \
             ON CONFLICT (user_no, room, kind) \
             DO UPDATE SET content = excluded.content, pos = excluded.pos",
            &values(&rows.data, |(user, room, kind), (content, offset)| {
                (*user, *room, kind.clone(), content.clone(), *offset)
            }),
            Uses::Base,
        )?;
        self.after(
            "INSERT INTO device_list (user_no, pos) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT) + $2 FROM EACH($1) \
             WHERE true ON CONFLICT (user_no) DO UPDATE SET pos = excluded.pos",
            &values(&rows.device_lists, |user, offset| (*user, *offset)),
            Uses::Base,
        )?;
        self.after(
            "INSERT INTO revocation (pos, user_no, device) \
             SELECT CAST(value ->> 0 AS BIGINT) + $2, CAST(value ->> 1 AS BIGINT), value ->> 2 \
             FROM EACH($1)",
            &rows.revocations,
            Uses::Base,
        )
    }

    /// Of the threads that somebody has read, those that they have read last are remembered.
    fn threads(&mut self, rows: &FactRows<'_>) -> Result<()> {
        let in_threads = (rows.receipts.keys())
            .filter(|(_, _, _, thread)| !thread.is_empty() && thread != "main");
        let whose: BTreeSet<_> = in_threads
            .map(|(room, user, kind, _)| (*room, *user, kind.clone(), KEPT_THREADS))
            .collect();
        let whose: Vec<_> = whose.into_iter().collect();
        self.after(
            "DELETE FROM receipt WHERE pos IN (SELECT pos FROM (\
             SELECT r.pos AS pos, CAST(value ->> 3 AS BIGINT) AS kept, \
             ROW_NUMBER() OVER (PARTITION BY r.room, r.user_no, r.kind ORDER BY r.pos DESC) AS n \
             FROM EACH($1) JOIN receipt r ON r.room = CAST(value ->> 0 AS BIGINT) \
             AND r.user_no = CAST(value ->> 1 AS BIGINT) AND r.kind = value ->> 2 \
             AND r.thread NOT IN ('', 'main')) AS ranked WHERE n > kept)",
            &whose,
            Uses::Rows,
        )
    }

    fn invites(&mut self, rows: &FactRows<'_>) -> Result<()> {
        self.after(
            "INSERT INTO invite (user_no, room, sender, version, event, stripped_state, gone, pos) \
             SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), \
             CAST(value ->> 2 AS BIGINT), value ->> 3, value ->> 4, value ->> 5, \
             CAST(value ->> 6 AS BIGINT), CAST(value ->> 7 AS BIGINT) + $2 FROM EACH($1) \
             WHERE true ON CONFLICT (user_no, room) DO UPDATE SET sender = excluded.sender, \
             version = excluded.version, event = excluded.event, \
             stripped_state = excluded.stripped_state, gone = excluded.gone, pos = excluded.pos",
            &values(&rows.invites, |(user, room), invite| {
                let InviteRow {
                    sender,
                    version,
                    event,
                    state,
                    gone,
                    offset,
                } = invite;
                let (event, state) = (event.clone(), state.clone());
                (
                    *user,
                    *room,
                    *sender,
                    *version,
                    event,
                    state,
                    i64::from(*gone),
                    *offset,
                )
            }),
            Uses::Base,
        )?;
        self.after(
            "UPDATE invite SET gone = 1, event = x.event, stripped_state = '[]', pos = x.pos FROM (\
             SELECT CAST(value ->> 0 AS BIGINT) AS user_no, CAST(value ->> 1 AS BIGINT) AS room, \
             value ->> 2 AS event, CAST(value ->> 3 AS BIGINT) + $2 AS pos FROM EACH($1)) AS x \
             WHERE invite.user_no = x.user_no AND invite.room = x.room",
            &values(&rows.gone, |(user, room), (event, offset)| {
                (*user, *room, event.clone(), *offset)
            }),
            Uses::Base,
        )
    }
}

/// How many threads of a room a user has receipts in, by kind.
const KEPT_THREADS: i64 = 100;

/// Room, user, kind, thread.
type ReceiptKey<'a> = (RoomNo, UserNo, Cow<'a, str>, Cow<'a, str>);
/// User, room, kind.
type DataKey<'a> = (UserNo, i64, Cow<'a, str>);

/// Rows of facts by key: a later fact of the same group takes the place of an earlier one.
#[derive(Default)]
struct FactRows<'a> {
    receipts: BTreeMap<ReceiptKey<'a>, (Cow<'a, str>, i64, i64)>,
    data: BTreeMap<DataKey<'a>, (Cow<'a, str>, i64)>,
    device_lists: BTreeMap<UserNo, i64>,
    revocations: Vec<(i64, UserNo, Option<Cow<'a, str>>)>,
    invites: BTreeMap<(UserNo, RoomNo), InviteRow<'a>>,
    /// Invites from earlier groups that are gone, with what ended them.
    gone: BTreeMap<(UserNo, RoomNo), (Cow<'a, str>, i64)>,
}

struct InviteRow<'a> {
    sender: UserNo,
    version: &'a str,
    event: Cow<'a, str>,
    state: Cow<'a, str>,
    gone: bool,
    offset: i64,
}

impl<'a> FactRows<'a> {
    fn add(&mut self, offset: i64, fact: &'a Fact, room_of_invite: Option<RoomNo>) {
        match fact {
            Fact::Receipt {
                room,
                user,
                kind,
                thread,
                event_id,
                ts,
            } => {
                let thread = thread.as_deref().unwrap_or("");
                let key = (*room, *user, escaped(kind), escaped(thread));
                let row = (escaped(event_id.as_str()), *ts, offset);
                self.receipts.insert(key, row);
            }
            Fact::AccountData {
                user,
                room,
                kind,
                content,
                ..
            } => {
                let room = room.map_or(GLOBAL, |room| room.0);
                let key = (*user, room, escaped(kind));
                self.data.insert(key, (escaped(content), offset));
            }
            Fact::DeviceListChanged { user } => drop(self.device_lists.insert(*user, offset)),
            Fact::TokenRevoked { user, device } => {
                let device = device.as_ref().map(|device| escaped(device.as_str()));
                self.revocations.push((offset, *user, device));
            }
            Fact::RemoteInvite {
                user,
                sender,
                rules,
                event,
                stripped_state,
                ..
            } => {
                let invite = InviteRow {
                    sender: *sender,
                    version: rules.id(),
                    event: escaped(event),
                    state: escaped(stripped_state),
                    gone: false,
                    offset,
                };
                let key = (*user, room_of_invite.unwrap_or_default());
                self.gone.remove(&key);
                self.invites.insert(key, invite);
            }
            Fact::RemoteInviteGone { user, event, .. } => {
                let key = (*user, room_of_invite.unwrap_or_default());
                let event = escaped(event);
                match self.invites.get_mut(&key) {
                    Some(invite) => {
                        (invite.gone, invite.event, invite.offset) = (true, event, offset);
                        // Nobody is shown any more what the room is.
                        invite.state = Cow::Borrowed("[]");
                    }
                    None => drop(self.gone.insert(key, (event, offset))),
                }
            }
            Fact::Forget { .. }
            | Fact::Alias { .. }
            | Fact::Directory { .. }
            | Fact::InboundTxn { .. } => {}
        }
    }
}
