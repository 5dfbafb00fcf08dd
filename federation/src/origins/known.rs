//! What was noted of each server since it was last written down, and how it conducts itself.

use std::{collections::HashMap, fmt::Display, time::Duration};

use rhizome_storage::{InboundCounts, InboundReason, InboundSeen, millis};
use ruma::{OwnedServerName, ServerName};

use super::conduct::Conduct;

/// Of so many servers something is known at a time.
const MAX_KNOWN: usize = 5_000;
/// Who hasn't been there for so long, and of whom all is written down, is forgotten.
const IDLE: Duration = Duration::from_hours(1);
/// So many reasons are kept of each, and so many bytes of one.
const MAX_REASONS: usize = 5;
const MAX_REASON: usize = 300;

/// What becomes of a transaction's events, until it is done.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// How much of what.
    pub(crate) counts: InboundCounts,
    /// Events of its own users that could be verified, and that couldn't by its own fault.
    pub(crate) good: u32,
    pub(crate) bad: u32,
    reasons: Vec<String>,
}

impl Noted {
    /// Something was refused.
    pub(crate) fn because(&mut self, why: impl Display) {
        if self.reasons.len() == MAX_REASONS {
            self.reasons.remove(0);
        }
        let mut why = why.to_string();
        why.truncate(why.floor_char_boundary(MAX_REASON));
        self.reasons.push(why);
    }
}

/// The servers of which something is known.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<OwnedServerName, Server>);

#[derive(Debug)]
struct Server {
    /// What isn't written down yet.
    counts: InboundCounts,
    reasons: Vec<InboundReason>,
    quarantined_until_ms: i64,
    is_written: bool,
    conduct: Conduct,
    at: Duration,
}

impl Server {
    fn at(now: Duration) -> Self {
        Self {
            counts: InboundCounts::default(),
            reasons: Vec::new(),
            quarantined_until_ms: 0,
            is_written: true,
            conduct: Conduct::default(),
            at: now,
        }
    }

    fn is_idle(&self, now: Duration) -> bool {
        let idle = now.saturating_sub(self.at) > IDLE;
        idle && self.is_written && self.conduct.is_forgettable(now)
    }

    fn add_reasons(&mut self, reasons: impl IntoIterator<Item = InboundReason>) {
        self.reasons.extend(reasons);
        let over = self.reasons.len().saturating_sub(MAX_REASONS);
        self.reasons.drain(..over);
    }
}

impl Known {
    /// Something more is to be counted.
    pub(super) fn count(
        &mut self,
        server: &ServerName,
        now: Duration,
        change: impl FnOnce(&mut InboundCounts),
    ) {
        let known = self.server(server, now);
        change(&mut known.counts);
        known.is_written = false;
    }

    /// What became of a transaction. If that puts its server into quarantine: for how long.
    pub(super) fn note(
        &mut self,
        server: &ServerName,
        noted: Noted,
        now: Duration,
        now_ms: i64,
    ) -> Option<Duration> {
        let known = self.server(server, now);
        known.is_written = false;
        known.counts += noted.counts;
        known.counts.unverified += u64::from(noted.bad);
        let reasons = noted.reasons.into_iter();
        known.add_reasons(reasons.map(|why| InboundReason { at_ms: now_ms, why }));
        let term = known.conduct.note(noted.good, noted.bad, now)?;
        known.counts.quarantines += 1;
        known.quarantined_until_ms = now_ms.saturating_add(millis(term));
        Some(term)
    }

    pub(super) fn is_quarantined(&self, server: &ServerName, now: Duration) -> bool {
        let known = self.0.get(server);
        known.is_some_and(|known| known.conduct.is_quarantined(now))
    }

    /// What isn't written down, which counts as such from now on. Who is of no interest any more is forgotten.
    pub(super) fn take(&mut self, now: Duration, now_ms: i64) -> Vec<InboundSeen> {
        let mut unwritten = Vec::new();
        for (server, known) in &mut self.0 {
            if known.is_written {
                continue;
            }
            known.is_written = true;
            let ago = millis(now.saturating_sub(known.at));
            unwritten.push(InboundSeen {
                reasons: std::mem::take(&mut known.reasons),
                counts: std::mem::take(&mut known.counts),
                quarantined_until_ms: known.quarantined_until_ms,
                ..InboundSeen::at(server.clone(), now_ms.saturating_sub(ago))
            });
        }
        self.0.retain(|_, known| !known.is_idle(now));
        unwritten
    }

    /// It couldn't be written down.
    pub(super) fn give_back(&mut self, seen: Vec<InboundSeen>, now: Duration) {
        for seen in seen {
            let was_there = self.0.get(&seen.server).map(|known| known.at);
            let known = self.server(&seen.server, now);
            known.at = was_there.unwrap_or(now);
            known.counts += seen.counts;
            let newer = std::mem::take(&mut known.reasons);
            known.add_reasons(seen.reasons.into_iter().chain(newer));
            known.is_written = false;
        }
    }

    fn server(&mut self, server: &ServerName, now: Duration) -> &mut Server {
        if self.0.len() >= MAX_KNOWN && !self.0.contains_key(server) {
            self.make_room(now);
        }
        let known = self.0.entry(server.to_owned());
        let known = known.or_insert_with(|| Server::at(now));
        known.at = now;
        known
    }

    /// Whoever was there longest ago is forgotten, who is in quarantine last: others can't get anybody out of it by coming.
    fn make_room(&mut self, now: Duration) {
        let all = self.0.iter();
        let oldest = all.min_by_key(|(_, known)| {
            let conduct = &known.conduct;
            (
                conduct.is_quarantined(now),
                !conduct.is_forgettable(now),
                known.at,
            )
        });
        let oldest = oldest.map(|(server, _)| server.clone());
        if let Some(oldest) = oldest {
            self.0.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    const NOW: Duration = Duration::from_secs(50);

    fn bad(events: u32) -> Noted {
        let mut noted = Noted {
            bad: events,
            ..Noted::default()
        };
        noted.counts.refused = u64::from(events);
        noted.because("the signature is wrong");
        noted
    }

    #[test]
    fn what_was_noted_is_written_down_once() {
        let (mut known, a) = (Known::default(), server_name!("a.example"));
        known.count(a, NOW, |counts| counts.requests += 2);
        assert_eq!(known.note(a, bad(3), NOW, 900), None);
        let later = NOW + Duration::from_millis(100);
        let seen = known.take(later, 1_000);
        assert_eq!(seen.len(), 1);
        let (counts, reasons) = (seen[0].counts, &seen[0].reasons);
        assert_eq!(
            (counts.requests, counts.refused, counts.unverified),
            (2, 3, 3)
        );
        assert_eq!((reasons.len(), reasons[0].at_ms), (1, 900));
        assert_eq!(seen[0].last_seen_ms, 900);
        assert!(known.take(later, 1_000).is_empty());
        // What the database didn't take comes with what is newer.
        known.give_back(seen, later);
        let seen = known.take(later, 1_000);
        assert_eq!(seen[0].last_seen_ms, 900, "it wasn't there since");
        known.give_back(seen, later);
        known.count(a, later, |counts| counts.requests += 1);
        let seen = known.take(later, 1_000);
        assert_eq!((seen.len(), seen[0].counts.requests), (1, 3));
        // Then there is nothing left to say of it.
        assert!(known.take(later + 2 * IDLE, 1_000).is_empty());
        assert!(known.0.is_empty());
    }

    #[test]
    fn a_quarantine_is_noted_with_its_end() {
        let (mut known, a) = (Known::default(), server_name!("a.example"));
        let term = known.note(a, bad(50), NOW, 1_000).unwrap();
        assert!(known.is_quarantined(a, NOW));
        assert!(!known.is_quarantined(server_name!("b.example"), NOW));
        let seen = known.take(NOW, 1_000);
        assert_eq!(seen[0].counts.quarantines, 1);
        assert_eq!(seen[0].quarantined_until_ms, 1_000 + millis(term));
        assert!(!known.is_quarantined(a, NOW + term));
    }

    #[test]
    fn reasons_are_few_and_short() {
        let mut noted = Noted::default();
        for n in 0..20 {
            noted.because(format!("{n} {}", "é".repeat(1_000)));
        }
        assert_eq!(noted.reasons.len(), MAX_REASONS);
        assert!(noted.reasons[4].starts_with("19 "));
        assert!(noted.reasons.iter().all(|why| why.len() <= MAX_REASON));
        let (mut known, a) = (Known::default(), server_name!("a.example"));
        for n in 0..9 {
            known.note(a, bad(0), NOW, n);
        }
        let seen = known.take(NOW, 9);
        let at: Vec<i64> = seen[0].reasons.iter().map(|one| one.at_ms).collect();
        assert_eq!(at, [4, 5, 6, 7, 8]);
    }

    /// However many names strangers have, and whoever they want to be forgotten.
    #[test]
    fn strangers_take_no_room_from_who_is_in_quarantine() {
        let (mut known, a) = (Known::default(), server_name!("a.example"));
        known.note(a, bad(50), NOW, 1_000).unwrap();
        for n in 0..2 * MAX_KNOWN {
            let name = OwnedServerName::try_from(format!("s{n}.example")).unwrap();
            let now = NOW + Duration::from_millis(n as u64);
            known.count(&name, now, |counts| counts.requests += 1);
        }
        assert_eq!(known.0.len(), MAX_KNOWN);
        assert!(known.is_quarantined(a, NOW));
    }
}
