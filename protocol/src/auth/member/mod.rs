//! Rule 5: `m.room.member`.

pub(super) mod third_party;

use ruma::UserId;

use super::{
    StateView, allow_if, deny, membership,
    power::{self, Action, Power},
};
use crate::{
    Membership, Pdu, Rejection,
    content::{JoinRule, text},
};

/// An `m.room.member` event that is to be checked, with what the rules look at.
struct Transition<'a, S: ?Sized> {
    event: &'a Pdu,
    target: &'a str,
    create: &'a Pdu,
    power: Power<'a>,
    state: &'a S,
}

/// 5. Memberships.
pub(super) fn check<S: StateView + ?Sized>(
    event: &Pdu,
    create: &Pdu,
    power: Power<'_>,
    state: &S,
) -> Result<(), Rejection> {
    // 5.1. Target and membership are there.
    let Some(target) = event.state_key() else {
        return deny("auth 5.1", "a membership needs a `state_key`");
    };
    // No membership but a user's: what other servers take for granted here.
    if UserId::parse(target).is_err() {
        return deny(
            "auth 5.1",
            "the `state_key` of a membership must be a user id",
        );
    }
    if !event.content().contains_key("membership") {
        return deny("auth 5.1", "a membership needs `membership`");
    }
    // 5.2. `join_authorised_via_users_server`: the signature is checked on receipt.
    let transition = Transition {
        event,
        target,
        create,
        power,
        state,
    };
    match event.membership() {
        Some(Membership::Join) => transition.join(),
        Some(Membership::Invite) => match event.content().get("third_party_invite") {
            Some(invite) => transition.third_party_invite(invite),
            None => transition.invite(),
        },
        Some(Membership::Leave) => transition.leave(),
        Some(Membership::Ban) => transition.ban(),
        Some(Membership::Knock) if event.rules().auth.knock => transition.knock(),
        // 5.8. Unknown.
        _ => deny("auth 5.8", "the membership is not known"),
    }
}

impl<S: StateView + ?Sized> Transition<'_, S> {
    fn is_own(&self) -> bool {
        self.event.sender().as_str() == self.target
    }

    fn sender_membership(&self) -> Option<Membership> {
        membership(self.state, self.event.sender().as_str())
    }

    fn target_membership(&self) -> Option<Membership> {
        membership(self.state, self.target)
    }

    /// The room's join rule; one that the version doesn't have lets nobody in.
    fn join_rule(&self) -> JoinRule {
        let rules = &self.event.rules().auth;
        let rule = JoinRule::of(
            self.state
                .get("m.room.join_rules", "")
                .map(|event| event.content()),
        );
        let known = match rule {
            JoinRule::Knock => rules.knock,
            JoinRule::Restricted => rules.restricted,
            JoinRule::KnockRestricted => rules.knock_restricted,
            JoinRule::Public | JoinRule::Invite | JoinRule::Private => true,
        };
        if known { rule } else { JoinRule::Private }
    }

    /// Whether the sender's power level is at least the action's and above the target's.
    fn outranks(&self, action: Action) -> bool {
        let sender = self.event.sender();
        // A target that is no user id has nobody's power.
        let target = UserId::parse(self.target).map(|target| self.power.user(&target));
        self.power.may(sender, action)
            && target.is_ok_and(|target| target < self.power.user(sender))
    }

    /// 5.3. Joins.
    fn join(&self) -> Result<(), Rejection> {
        let (event, sender) = (self.event, self.event.sender());
        // 5.3.1. The creator's own, right after the create event.
        if let [previous] = event.prev_events()
            && previous == self.create.event_id()
            && power::creator(event.rules(), self.create) == Some(self.target)
        {
            return Ok(());
        }
        // 5.3.2. Nobody joins for others.
        if !self.is_own() {
            return deny(
                "auth 5.3.2",
                format!("{sender} can't join for {}", self.target),
            );
        }
        let current = self.sender_membership();
        // 5.3.3. Not while banned.
        if current == Some(Membership::Ban) {
            return deny("auth 5.3.3", format!("{sender} is banned"));
        }
        let invited = matches!(current, Some(Membership::Invite | Membership::Join));
        match self.join_rule() {
            // 5.3.4. By invitation.
            JoinRule::Invite | JoinRule::Knock => {
                allow_if(invited, "auth 5.3.4", || format!("{sender} is not invited"))
            }
            // 5.3.5. By invitation, or by leave of a member who may invite.
            JoinRule::Restricted | JoinRule::KnockRestricted => {
                allow_if(invited || self.is_authorised(), "auth 5.3.5", || {
                    format!("{sender} is neither invited nor authorised by a member who may invite")
                })
            }
            // 5.3.6. Open to all.
            JoinRule::Public => Ok(()),
            // 5.3.7. Otherwise, reject.
            JoinRule::Private => deny("auth 5.3.7", "nobody may join the room"),
        }
    }

    /// 5.3.5.2. Whether `join_authorised_via_users_server` is a joined member who may invite.
    fn is_authorised(&self) -> bool {
        text(self.event.content(), "join_authorised_via_users_server")
            .and_then(|authoriser| UserId::parse(authoriser).ok())
            .is_some_and(|authoriser| {
                membership(self.state, authoriser.as_str()) == Some(Membership::Join)
                    && self.power.may(&authoriser, Action::Invite)
            })
    }

    /// 5.4. Invites.
    fn invite(&self) -> Result<(), Rejection> {
        let sender = self.event.sender();
        // 5.4.2. By a member,
        if self.sender_membership() != Some(Membership::Join) {
            return deny("auth 5.4.2", format!("{sender} is not in the room"));
        }
        // 5.4.3. of somebody who is neither in nor banned,
        match self.target_membership() {
            Some(Membership::Join) => {
                return deny(
                    "auth 5.4.3",
                    format!("{} is in the room already", self.target),
                );
            }
            Some(Membership::Ban) => {
                return deny("auth 5.4.3", format!("{} is banned", self.target));
            }
            _ => {}
        }
        // 5.4.4. with the invite level.
        allow_if(self.power.may(sender, Action::Invite), "auth 5.4.5", || {
            format!("{sender} may not invite")
        })
    }

    /// 5.5. Leaving, kicks and unbans.
    fn leave(&self) -> Result<(), Rejection> {
        let sender = self.event.sender();
        let current = self.sender_membership();
        // 5.5.1. One's own.
        if self.is_own() {
            let can_leave = matches!(
                current,
                Some(Membership::Invite | Membership::Join | Membership::Knock)
            );
            return allow_if(can_leave, "auth 5.5.1", || {
                format!("{sender} is not in the room")
            });
        }
        // 5.5.2. Others' by a member,
        if current != Some(Membership::Join) {
            return deny("auth 5.5.2", format!("{sender} is not in the room"));
        }
        // 5.5.3. who may ban, if it is to unban,
        if self.target_membership() == Some(Membership::Ban) && !self.power.may(sender, Action::Ban)
        {
            return deny("auth 5.5.3", format!("{sender} may not unban"));
        }
        // 5.5.4. and may kick, and has more power than the target.
        allow_if(self.outranks(Action::Kick), "auth 5.5.5", || {
            format!("{sender} may not kick {}", self.target)
        })
    }

    /// 5.6. Bans.
    fn ban(&self) -> Result<(), Rejection> {
        let sender = self.event.sender();
        // 5.6.1. By a member,
        if self.sender_membership() != Some(Membership::Join) {
            return deny("auth 5.6.1", format!("{sender} is not in the room"));
        }
        // 5.6.2. who may ban and has more power than the target.
        allow_if(self.outranks(Action::Ban), "auth 5.6.3", || {
            format!("{sender} may not ban {}", self.target)
        })
    }

    /// 5.7. Knocks.
    fn knock(&self) -> Result<(), Rejection> {
        let sender = self.event.sender();
        // 5.7.1. Where one can knock,
        if !matches!(
            self.join_rule(),
            JoinRule::Knock | JoinRule::KnockRestricted
        ) {
            return deny("auth 5.7.1", "the room doesn't take knocks");
        }
        // 5.7.2. for oneself,
        if !self.is_own() {
            return deny(
                "auth 5.7.2",
                format!("{sender} can't knock for {}", self.target),
            );
        }
        // 5.7.3. unless banned, invited or in.
        match self.sender_membership() {
            None | Some(Membership::Leave | Membership::Knock) => Ok(()),
            Some(current) => deny(
                "auth 5.7.4",
                format!("{sender} can't knock: the membership is {current}"),
            ),
        }
    }
}
