//! Server access control lists: may this server take part in that room?
//!
//! The rules are those of `m.room.server_acl` (client-server API, "Server ACLs for rooms"), applied
//! to every inbound room endpoint and, per event and per room, to transactions; and the sender asks which servers could ask us.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use rhizome_protocol::Object;
use rhizome_storage::{Error, RoomHead, SnapshotNo, StoredEvent};
use ruma::ServerName;
use serde_json::Value;

use crate::Federation;

/// How many mangled ACLs in a row are seen through.
const MAX_MANGLED: usize = 10;

/// Whether the room's ACL lets `server` in.
pub(crate) async fn is_allowed(
    fed: &Federation,
    server: &ServerName,
    head: &RoomHead,
) -> Result<bool, Error> {
    let event = acl_in_force(fed, head.snapshot).await?;
    Ok(allows(
        event.as_ref().map(|event| event.pdu.content()),
        server,
    ))
}

/// Of each of some rooms, whether its ACL lets `server` in; in a few queries however many they are.
pub(crate) async fn allowed_in(
    fed: &Federation,
    server: &ServerName,
    heads: &[Arc<RoomHead>],
) -> Result<Vec<bool>, Error> {
    let mut allowed = vec![true; heads.len()];
    let states = heads.iter().enumerate();
    let states = states.filter_map(|(index, head)| Some((index, head.snapshot?)));
    let (places, states): (Vec<usize>, Vec<_>) = states
        .map(|(index, at)| (index, (at, "m.room.server_acl", "")))
        .unzip();
    let found = fed.store().state_entries_at(&states).await?;
    let nos: Vec<_> = found.iter().flatten().copied().collect();
    let mut events = fed.store().events_by_no(&nos).await?.into_iter();
    for (index, _) in places.iter().zip(&found).filter(|(_, no)| no.is_some()) {
        let Some(event) = events.next() else { break };
        allowed[*index] = if is_mangled(&event) {
            is_allowed(fed, server, &heads[*index]).await?
        } else {
            allows(Some(event.pdu.content()), server)
        };
    }
    Ok(allowed)
}

/// Whether an ACL came mangled, and says nothing. Redaction leaves nothing of it either, so that few are looked at
/// closely.
fn is_mangled(event: &StoredEvent) -> bool {
    event.pdu.content().is_empty() && event.redacted_by.is_none() && !event.pdu.is_whole()
}

/// The room's ACL as far as we know it. One that came mangled says nothing (it would shut everybody out, the server
/// too that has it whole): the one before it counts.
async fn acl_in_force(
    fed: &Federation,
    mut at: Option<SnapshotNo>,
) -> Result<Option<Arc<StoredEvent>>, Error> {
    for _ in 0..MAX_MANGLED {
        let Some(snapshot) = at else { break };
        let event = fed
            .store()
            .state_event(snapshot, "m.room.server_acl", "")
            .await?;
        if !event.as_ref().is_some_and(|event| is_mangled(event)) {
            return Ok(event);
        }
        at = event.and_then(|event| event.state_before);
    }
    Ok(None)
}

/// Whether the content of a room's current `m.room.server_acl` lets `server` in.
///
/// `content` is `None` when the room has no such event. Malformed fields count as absent, as the
/// event's schema says.
fn allows(content: Option<&Object>, server: &ServerName) -> bool {
    // 1. No event: allow.
    let Some(content) = content else { return true };
    // The port is never considered.
    let host = server.host();
    // 2. IP literals, if they are refused.
    if content.get("allow_ip_literals") == Some(&Value::Bool(false)) && is_ip_literal(host) {
        return false;
    }
    let matches = |field: &str| {
        content
            .get(field)
            .and_then(Value::as_array)
            .is_some_and(|globs| {
                globs
                    .iter()
                    .filter_map(Value::as_str)
                    .any(|glob| glob_matches(glob, host))
            })
    };
    // 3. The deny list wins over 4., the allow list; 5. what neither names is denied.
    !matches("deny") && matches("allow")
}

fn is_ip_literal(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse::<Ipv4Addr>().is_ok() || bare.parse::<Ipv6Addr>().is_ok()
}

/// Glob matching without regard to ASCII case: `*` is any run of characters, `?` exactly one.
///
/// Linear in memory and at worst quadratic in time, whatever the pattern says.
fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t) = (0, 0);
    // Where to resume when a literal fails after the last `*`: (glob index after it, text index).
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                g += 1;
                retry = Some((g, t));
            }
            Some(&c) if c == b'?' || c.eq_ignore_ascii_case(&text[t]) => {
                g += 1;
                t += 1;
            }
            _ => {
                let Some((after_star, from)) = retry else {
                    return false;
                };
                g = after_star;
                t = from + 1;
                retry = Some((after_star, t));
            }
        }
    }
    glob[g..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use ruma::server_name;
    use serde_json::json;

    use super::*;

    fn acl(value: Value) -> Object {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_five_rules_in_order() {
        let evil = server_name!("evil.com:8448");
        assert!(allows(None, evil));
        let all = acl(json!({ "allow": ["*"], "deny": ["EVIL.com"] }));
        assert!(!allows(Some(&all), evil));
        assert!(!allows(Some(&all), server_name!("evil.com")));
        assert!(allows(Some(&all), server_name!("good.com")));
        let nobody = acl(json!({}));
        assert!(!allows(Some(&nobody), server_name!("good.com")));
        let some = acl(json!({ "allow": ["*.example.org", "h?st"], "deny": 3 }));
        assert!(allows(Some(&some), server_name!("a.b.example.org:1")));
        assert!(!allows(Some(&some), server_name!("example.org")));
        assert!(allows(Some(&some), server_name!("host")));
        assert!(!allows(Some(&some), server_name!("hoost")));
    }

    #[test]
    fn ip_literals_only_when_allowed() {
        for ip in [
            server_name!("1.2.3.4"),
            server_name!("1.2.3.4:80"),
            server_name!("[::1]:8448"),
        ] {
            assert!(allows(Some(&acl(json!({ "allow": ["*"] }))), ip));
            assert!(allows(
                Some(&acl(json!({ "allow": ["*"], "allow_ip_literals": "no" }))),
                ip
            ));
            assert!(!allows(
                Some(&acl(json!({ "allow": ["*"], "allow_ip_literals": false }))),
                ip
            ));
        }
    }

    #[test]
    fn a_hostile_glob_is_cheap() {
        let stars = "*a".repeat(2_000);
        let name: ruma::OwnedServerName = "a".repeat(200).parse().unwrap();
        assert!(!allows(Some(&acl(json!({ "allow": [stars] }))), &name));
    }
}
