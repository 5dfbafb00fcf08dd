//! The rules about memberships.

use ring::signature::{ED25519, UnparsedPublicKey};
use ruma::serde::{Base64, base64::Standard};
use serde_json::Value;

use super::{Rules, Verdict, allow_if};

impl Rules<'_> {
    pub(super) fn member(&self) -> Verdict {
        let event = self.event;
        let target = event.state_key()?;
        let (user, host) = target.split_once(':')?;
        // Other servers don't take any other state key than a user's.
        if !user.starts_with('@') || host.is_empty() {
            return None;
        }
        let sender = event.sender();
        let now = self.membership(sender);
        let power = self.power(sender);
        let target_power = self.power(target);
        let target_now = self.membership(target);
        match event.membership()? {
            "join" => self.join(target),
            "invite" if event.content().get("third_party_invite").is_some() => {
                self.third_party_invite(target)
            }
            "invite" => {
                let ok = now == "join" && target_now != "join" && target_now != "ban";
                allow_if(ok && power >= self.field("invite", 0))
            }
            "leave" if sender == target => {
                allow_if(now == "invite" || now == "join" || (now == "knock" && self.version >= 7))
            }
            "leave" => {
                if now != "join" || (target_now == "ban" && power < self.field("ban", 50)) {
                    return None;
                }
                allow_if(power >= self.field("kick", 50) && target_power < power)
            }
            "ban" => {
                allow_if(now == "join" && power >= self.field("ban", 50) && target_power < power)
            }
            "knock" if self.version >= 7 => {
                let rule = self.join_rule();
                let open = rule == "knock" || (rule == "knock_restricted" && self.version >= 10);
                allow_if(open && sender == target && !["ban", "invite", "join"].contains(&now))
            }
            _ => None,
        }
    }

    fn third_party_invite(&self, target: &str) -> Verdict {
        if self.membership(target) == "ban" {
            return None;
        }
        let mut signed = self.event.content()["third_party_invite"]
            .get("signed")?
            .clone();
        let (mxid, token) = (
            signed.get("mxid")?.as_str()?,
            signed.get("token")?.as_str()?,
        );
        let known = self.get("m.room.third_party_invite", token)?;
        if mxid != target || known.sender() != self.event.sender() {
            return None;
        }
        let base64 =
            |text: &Value| Some(Base64::<Standard>::parse(text.as_str()?).ok()?.into_inner());
        let key = base64(known.content().get("public_key")?)?;
        let signatures = signed.as_object_mut()?.remove("signatures")?;
        let text = signed.to_string();
        let mut all = signatures
            .as_object()?
            .values()
            .filter_map(Value::as_object)
            .flat_map(|keys| keys.values());
        let holds = |signature: &Value| {
            let key = UnparsedPublicKey::new(&ED25519, &key);
            base64(signature)
                .is_some_and(|signature| key.verify(text.as_bytes(), &signature).is_ok())
        };
        allow_if(all.any(holds))
    }

    fn join(&self, target: &str) -> Verdict {
        let event = self.event;
        let create = self.get("m.room.create", "")?;
        if event.prev_events() == [create.id.clone()] && self.creator() == Some(target) {
            return Some(());
        }
        let now = self.membership(event.sender());
        if event.sender() != target || now == "ban" {
            return None;
        }
        let invited = now == "invite" || now == "join";
        match self.join_rule() {
            "invite" => allow_if(invited),
            "knock" if self.version >= 7 => allow_if(invited),
            rule if (rule == "restricted" && self.version >= 8)
                || (rule == "knock_restricted" && self.version >= 10) =>
            {
                if invited {
                    return Some(());
                }
                let via = event.content()["join_authorised_via_users_server"].as_str()?;
                allow_if(
                    self.membership(via) == "join" && self.power(via) >= self.field("invite", 0),
                )
            }
            "public" => Some(()),
            _ => None,
        }
    }
}
