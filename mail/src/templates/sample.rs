//! Made-up mails that every template is tried with: all that can come, and text that isn't HTML.

use crate::digest::{Body, Digest, DigestView, Invite, Message, Person, Room};
use crate::letters::{Approved, Confirm, Known, LetterView, Reset, Verify};
use crate::link::{Link, LinkTemplate};

/// What stands in all that people write in them.
pub(super) const MARKUP: &str = "<em>sample</em>";

/// A made-up mail.
pub(super) struct Sample {
    /// Which mail it is.
    pub(super) mail: &'static str,
    pub(super) view: View,
    /// What has to be in its text and its HTML: what it is called in templates, and what it is.
    pub(super) must: Vec<(&'static str, String)>,
}

/// What templates are given.
pub(super) enum View {
    /// For mails about missed messages.
    Digest(Box<DigestView>),
    /// For all others.
    Letter(LetterView),
}

/// All of them.
pub(super) fn all() -> Vec<Sample> {
    let link = Link::sample();
    let mut all: Vec<_> = digests(&link).map(|it| digest(&it, &link)).collect();
    let (server, user) = ("example.org".to_owned(), "@sample:example.org".to_owned());
    let code = "123456".to_owned();
    let must_link = ("link", link.as_str().to_owned());
    let must_code = ("code", code.clone());
    let confirm = Confirm {
        server: server.clone(),
        user: user.clone(),
        link: link.clone(),
    };
    let verify = Verify {
        server: server.clone(),
        code: code.clone(),
        link: link.clone(),
    };
    let known = Known {
        server: server.clone(),
        user: user.clone(),
    };
    let approved = Approved {
        server: server.clone(),
        user: user.clone(),
    };
    let must_user = ("user", user.clone());
    let reset = Reset {
        server,
        user,
        code,
        link,
    };
    all.push(letter("confirm", confirm.view(), vec![must_link.clone()]));
    all.push(letter("known", known.view(), vec![must_user.clone()]));
    all.push(letter("approved", approved.view(), vec![must_user]));
    let must = vec![must_link, must_code];
    all.push(letter("verify", verify.view(), must.clone()));
    all.push(letter("reset", reset.view(), must));
    all
}

fn digest(digest: &Digest, link: &Link) -> Sample {
    Sample {
        mail: "digest",
        view: View::Digest(Box::new(DigestView::new(digest))),
        must: vec![("unsubscribe", link.as_str().to_owned())],
    }
}

fn letter(mail: &'static str, view: LetterView, must: Vec<(&'static str, String)>) -> Sample {
    let view = View::Letter(view);
    Sample { mail, view, must }
}

/// Every kind of subject, message and count.
fn digests(link: &Link) -> impl Iterator<Item = Digest> {
    let (one, two) = (messages("@a:example.org"), messages("@b:example.org"));
    let both: Vec<_> = one[..1].iter().chain(&two[..1]).cloned().collect();
    let (named, unnamed) = (Some(MARKUP), None);
    let chunks = one.chunks(5).map(|some| room(named, false, some, 1));
    let all_kinds: Vec<_> = chunks.collect();
    let samples = [
        (vec![room(unnamed, true, &one[..1], 0)], 0, vec![], 0),
        (vec![room(named, false, &one[..1], 0)], 0, vec![], 0),
        (vec![room(named, false, &both, 2)], 0, vec![], 0),
        (all_kinds, 1, vec![], 0),
        (vec![room(unnamed, false, &two[..1], 0)], 2, vec![], 0),
        (vec![], 0, vec![invite(unnamed, true)], 0),
        (vec![], 0, vec![invite(named, false)], 2),
        (
            vec![room(named, false, &two[..1], 0)],
            0,
            vec![invite(unnamed, false)],
            0,
        ),
        (
            vec![room(named, false, &two[..1], 0)],
            1,
            vec![invite(named, false)],
            1,
        ),
    ];
    samples
        .into_iter()
        .map(|(rooms, more_rooms, invites, more_invites)| Digest {
            user: person("@sample:example.org"),
            server: "example.org".to_owned(),
            rooms,
            more_rooms,
            invites,
            more_invites,
            links: LinkTemplate::default(),
            unsubscribe: link.clone(),
        })
}

fn person(id: &str) -> Person {
    Person {
        id: id.to_owned(),
        name: Some(MARKUP.to_owned()),
    }
}

fn room(name: Option<&str>, is_direct: bool, messages: &[Message], more: u64) -> Room {
    Room {
        id: "!sample:example.org".to_owned(),
        name: name.map(str::to_owned),
        is_direct,
        messages: messages.to_vec(),
        more,
    }
}

fn invite(name: Option<&str>, is_direct: bool) -> Invite {
    Invite {
        room: "!sample:example.org".to_owned(),
        name: name.map(str::to_owned),
        is_direct,
        inviter: person("@sample:example.org"),
    }
}

fn messages(sender: &str) -> Vec<Message> {
    let bodies = [
        Body::Text(format!("{MARKUP}\n{MARKUP}")),
        Body::Emote(MARKUP.to_owned()),
        Body::Picture,
        Body::Video,
        Body::Audio,
        Body::File,
        Body::Sticker,
        Body::Location,
        Body::Encrypted,
        Body::Other,
    ];
    let message = |body| Message {
        id: "$sample".to_owned(),
        sender: person(sender),
        at: 1_769_850_300_000,
        body,
    };
    bodies.map(message).into()
}
