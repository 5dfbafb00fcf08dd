//! What is noted of a transaction: what became of its parts, and what of that is its server's own fault.

use std::{
    borrow::Cow,
    sync::{Mutex, PoisonError},
};

use rhizome_protocol::{Object, Rejection, receive::Refusal};
use ruma::{ServerName, UserId};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{Federation, origins::Noted};

/// Noted when it is dropped, whatever becomes of the transaction.
pub(super) struct Notes<'a> {
    fed: &'a Federation,
    origin: &'a ServerName,
    noted: Mutex<Noted>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(fed: &'a Federation, origin: &'a ServerName) -> Self {
        let mut noted = Noted::default();
        noted.counts.transactions = 1;
        Self {
            fed,
            origin,
            noted: Mutex::new(noted),
        }
    }

    fn add(&self, change: impl FnOnce(&mut Noted)) {
        change(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Events that are part of their room now.
    pub(super) fn accepted(&self, events: usize) {
        self.add(|noted| noted.counts.accepted += number(events));
    }

    pub(super) fn known(&self) {
        self.add(|noted| noted.counts.known += 1);
    }

    pub(super) fn soft_failed(&self, why: &Rejection) {
        self.add(|noted| {
            noted.counts.soft_failed += 1;
            noted.because(format_args!("soft-failed: {why}"));
        });
    }

    pub(super) fn rejected(&self, why: &Rejection) {
        self.add(|noted| {
            noted.counts.rejected += 1;
            noted.because(format_args!("rejected: {why}"));
        });
    }

    /// Events that aren't taken, for this reason.
    pub(super) fn refused(&self, events: usize, why: &str) {
        if events > 0 {
            self.add(|noted| {
                noted.counts.refused += number(events);
                noted.because(why);
            });
        }
    }

    /// An event can't be decided yet.
    pub(super) fn waits(&self) {
        self.add(|noted| noted.counts.waiting += 1);
    }

    /// An event was verified, whose sender is of this server.
    pub(super) fn verified(&self, sender: &ServerName) {
        if sender == self.origin {
            self.add(|noted| noted.good += 1);
        }
    }

    /// An event couldn't be verified.
    pub(super) fn unverified(&self, sender: Option<&ServerName>, refusal: &Refusal) {
        let is_fault = sender == Some(self.origin) && is_own_fault(self.origin, refusal);
        self.add(|noted| noted.bad += u32::from(is_fault));
    }

    /// What was sent as an event can't be read.
    pub(super) fn unreadable(&self, raw: &RawValue, why: &Rejection) {
        let is_fault = why.rule == Rejection::FORMAT && is_own(self.origin, raw.get());
        self.add(|noted| {
            noted.bad += u32::from(is_fault);
            noted.counts.refused += 1;
            noted.because(why);
        });
    }

    /// An EDU of this type.
    pub(super) fn edu(&self, kind: &str) {
        self.add(|noted| {
            let counts = &mut noted.counts;
            let count = match kind {
                "m.typing" => &mut counts.typing,
                "m.presence" => &mut counts.presence,
                "m.receipt" => &mut counts.receipts,
                "m.direct_to_device" => &mut counts.to_device,
                "m.device_list_update" | "m.signing_key_update" => &mut counts.devices,
                _ => &mut counts.other_edus,
            };
            *count += 1;
        });
    }
}

impl Drop for Notes<'_> {
    fn drop(&mut self) {
        let noted = self.noted.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.fed.origins().note(self.origin, std::mem::take(noted));
    }
}

fn number(events: usize) -> u64 {
    u64::try_from(events).unwrap_or(u64::MAX)
}

/// Whose event this says to be.
pub(super) fn sender_server(object: &Object) -> Option<&ServerName> {
    let sender = object.get("sender").and_then(Value::as_str)?;
    Some(<&UserId>::try_from(sender).ok()?.server_name())
}

/// Whether it is surely the fault of `origin` that an event of one of its users can't be verified: it has no event's form,
/// or a signature by its own key which that key hasn't made. Signatures of other servers, and keys that can't be had, aren't
/// for it to answer for.
fn is_own_fault(origin: &ServerName, refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Forged(server, _) => *server == *origin,
        Refusal::Invalid(rejection) => rejection.rule == Rejection::FORMAT,
        Refusal::NeedKeys(_) => false,
    }
}

/// Whether what can't be read as an event is said to be of a user of `origin`, or is nothing of the kind at all. What it
/// passes on for others may be odd in ways that it doesn't mind.
fn is_own(origin: &ServerName, text: &str) -> bool {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(borrow)]
        sender: Cow<'a, str>,
    }
    match serde_json::from_str::<Event<'_>>(text) {
        Ok(event) => {
            <&UserId>::try_from(&*event.sender).is_ok_and(|sender| sender.server_name() == origin)
        }
        Err(_) => !text.starts_with('{'),
    }
}

#[cfg(test)]
mod tests {
    use ruma::{owned_server_name, server_name};

    use super::*;

    #[test]
    fn only_its_own_is_its_fault() {
        let origin = server_name!("a.example");
        let rejection = |rule| Rejection::new(rule, "odd");
        let forged =
            |server: &str| Refusal::Forged(server.try_into().unwrap(), rejection("PDU signatures"));
        let keys = vec![(owned_server_name!("a.example"), "ed25519:k".to_owned())];
        for (refusal, is_fault) in [
            (forged("a.example"), true),
            (forged("b.example"), false),
            (Refusal::Invalid(rejection(Rejection::FORMAT)), true),
            // No key of its that was valid then: it may have changed it.
            (Refusal::Invalid(rejection("PDU signatures")), false),
            (Refusal::Invalid(rejection("canonical JSON")), false),
            (Refusal::Invalid(rejection(Rejection::SIZE)), false),
            (Refusal::NeedKeys(keys), false),
        ] {
            assert_eq!(is_own_fault(origin, &refusal), is_fault, "{refusal:?}");
        }
    }

    /// Another server's event, however odd, is none of its.
    #[test]
    fn what_it_passes_on_is_not_its_fault() {
        let origin = server_name!("a.example");
        for (text, is_fault) in [
            (
                r#"{"sender":"@x:a.example","content":{"a":"\ud800"}}"#,
                true,
            ),
            (
                r#"{"sender":"@x:b.example","content":{"a":"\ud800"}}"#,
                false,
            ),
            (r#"{"content":{"a":1,"a":2},"sender":"@x:a.example"}"#, true),
            (
                r#"{"sender":"@x:a.example","sender":"@x:b.example"}"#,
                false,
            ),
            (r#"{"sender":3}"#, false),
            ("3", true),
            ("[]", true),
        ] {
            assert_eq!(is_own(origin, text), is_fault, "{text}");
        }
    }
}
