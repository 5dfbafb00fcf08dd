//! What an answer has beside rooms.
//!
//! An extension is a module with a function that reads its part from what all share ([`Context`]), and one that writes it.
//! A further one is that, a field of the request ([`super::request::extensions`]), and a field and two lines here.

mod account_data;
mod e2ee;
pub mod profiles;
mod receipts;
mod sticky;
mod threads;
mod to_device;
mod typing;

use std::collections::HashMap;

use rhizome_storage::{Pos, RoomNo};
use ruma::OwnedRoomId;

use self::{
    account_data::AccountData, e2ee::E2ee, profiles::Profiles, receipts::Receipts, sticky::Sticky,
    threads::Threads, to_device::Mail, typing::Typing,
};
use super::{
    request::extensions::{Extensions, Scope, wanted},
    wants::Pick,
};
use crate::{
    App, MatrixError,
    place::token::Token,
    sync::{
        reader::Moment,
        room::Loader,
        window::{RoomWindow, Window},
    },
    view::{json::Json, seen::Viewer},
};

/// What extensions read from.
pub struct Context<'a> {
    /// The server.
    pub app: &'a App,
    /// How rooms are read, for whom, from where to where.
    pub loader: &'a Loader<'a>,
    /// Up to where the client has been told.
    pub since: Option<&'a Token>,
    /// Where the pass ends.
    pub moment: &'a Moment,
    /// What happened after the client's position.
    pub window: &'a Window,
    /// The same of rooms that were told up to another one.
    pub older: &'a HashMap<RoomNo, RoomWindow>,
    /// The rooms that are wanted and of which there is something to tell, with their ids.
    pub picks: &'a [(Pick<'a>, OwnedRoomId)],
    /// The events of each room's timeline, in the answer.
    pub shown: &'a HashMap<RoomNo, Vec<&'a ruma::EventId>>,
}

impl<'a> Context<'a> {
    /// The rooms that are in an extension's scope.
    fn rooms(&self, scope: &'a Scope) -> impl Iterator<Item = &'a (Pick<'a>, OwnedRoomId)> {
        let picks = self.picks.iter();
        picks.filter(|(pick, id)| scope.has(id.as_str(), &pick.lists, pick.subscribed))
    }

    /// What happened in a room that the client hasn't been told of.
    fn window(&self, room: RoomNo) -> Option<&'a RoomWindow> {
        self.older
            .get(&room)
            .or_else(|| self.window.rooms.get(&room))
    }
}

/// What an answer has beside rooms.
#[derive(Debug, Default)]
pub struct Answer {
    to_device: Option<Mail>,
    e2ee: Option<E2ee>,
    account_data: AccountData,
    receipts: Receipts,
    typing: Typing,
    threads: Threads,
    sticky: Option<Sticky>,
    profiles: Option<Profiles>,
}

impl Answer {
    /// Reads all that is wanted.
    pub async fn read(context: &Context<'_>, asked: &Extensions) -> Result<Self, MatrixError> {
        let mut answer = Self::default();
        if let Some(wanted) = asked.to_device() {
            answer.to_device = Some(to_device::read(context, wanted).await?);
        }
        if asked.wants_e2ee() {
            answer.e2ee = Some(e2ee::read(context).await?);
        }
        if let Some(scope) = wanted(asked.account_data.as_ref()) {
            answer.account_data = account_data::read(context, scope).await?;
        }
        if let Some(scope) = wanted(asked.receipts.as_ref()) {
            answer.receipts = receipts::read(context, scope).await?;
        }
        if let Some(scope) = wanted(asked.typing.as_ref()) {
            answer.typing = typing::read(context, scope);
        }
        if let Some(wanted) = asked.threads() {
            answer.threads = threads::read(context, wanted).await?;
        }
        if let Some(wanted) = asked.sticky() {
            answer.sticky = Some(sticky::read(context, wanted).await?);
        }
        Ok(answer)
    }

    /// Whether there is nothing that anybody waits for.
    pub fn is_empty(&self) -> bool {
        self.to_device.as_ref().is_none_or(Mail::is_empty)
            && self.e2ee.as_ref().is_none_or(E2ee::is_empty)
            && self.account_data.is_empty()
            && self.receipts.is_empty()
            && self.typing.is_empty()
            && self.threads.is_empty()
            && self.sticky.as_ref().is_none_or(Sticky::is_empty)
            && self.profiles.as_ref().is_none_or(Profiles::is_empty)
    }

    /// Profiles, which are read apart: what is told of them is remembered by rooms.
    pub fn set_profiles(&mut self, profiles: Profiles) {
        self.profiles = Some(profiles);
    }

    /// Up to where it has messages for the device.
    pub fn mail_upto(&self) -> Option<String> {
        self.to_device.as_ref().map(Mail::upto)
    }

    /// Whether it tells of sticky events.
    pub fn has_sticky(&self) -> bool {
        self.sticky.is_some()
    }

    /// Where there are more sticky events than it has: up to here they are told.
    pub fn sticky_upto(&self) -> Option<Pos> {
        self.sticky.as_ref().and_then(Sticky::upto)
    }

    /// Writes it.
    pub fn write(&self, json: &mut Json, viewer: &Viewer, now_ms: i64) {
        json.open();
        if let Some(mail) = &self.to_device {
            mail.write(json.key("to_device"));
        }
        if let Some(e2ee) = &self.e2ee {
            e2ee.write(json.key("e2ee"));
        }
        if !self.account_data.is_empty() {
            self.account_data.write(json.key("account_data"));
        }
        if !self.receipts.is_empty() {
            self.receipts.write(json.key("receipts"));
        }
        if !self.typing.is_empty() {
            self.typing.write(json.key("typing"));
        }
        if !self.threads.is_empty() {
            let key = "io.element.msc4308.thread_subscriptions";
            threads::write(&self.threads, json.key(key));
        }
        if let Some(sticky) = &self.sticky {
            let key = "org.matrix.msc4354.sticky_events";
            sticky.write(json.key(key), viewer, now_ms);
        }
        if let Some(profiles) = &self.profiles {
            profiles.write(json);
        }
        json.close();
    }
}
