//! Where our servers do otherwise than the specification's files say, on purpose.

use percent_encoding::percent_decode_str;

use crate::{
    check::{
        Finding,
        Part::{self, Answer, Authorization, Parameter, Path, Request, Status},
    },
    exchange::Exchange,
};

/// Deviations that are accepted for one reason.
#[derive(Debug)]
pub struct Deviation {
    /// Why they are right.
    pub why: &'static str,
    /// What the request's decoded path and query must have in it.
    pub asked: &'static str,
    /// Which they are.
    pub cases: &'static [Case],
}

/// The operation's method and path, where `*` at the end stands for anything; what deviates; where in it, a JSON
/// pointer in which `*` stands for any one step.
#[derive(Debug)]
pub struct Case(pub &'static str, pub Part, pub &'static str);

const MAKE_JOIN: &str = "GET /_matrix/federation/v1/make_join/{roomId}/{userId}";
const MAKE_KNOCK: &str = "GET /_matrix/federation/v1/make_knock/{roomId}/{userId}";
const MAKE_LEAVE: &str = "GET /_matrix/federation/v1/make_leave/{roomId}/{userId}";
const INVITE_V1: &str = "PUT /_matrix/federation/v1/invite/{roomId}/{eventId}";
const INVITE_V2: &str = "PUT /_matrix/federation/v2/invite/{roomId}/{eventId}";
const SEND_JOIN: &str = "PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}";
const SEND: &str = "PUT /_matrix/federation/v1/send/{txnId}";
const STATE: &str = "GET /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}";
const SEND_EVENT: &str = "PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}";
const SET_STATE: &str = "PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}";
const MEMBERS: &str = "GET /_matrix/client/v3/rooms/{roomId}/joined_members";
const PRESENCE: &str = "GET /_matrix/client/v3/presence/{userId}/status";
const PUT_PRESENCE: &str = "PUT /_matrix/client/v3/presence/{userId}/status";
const UPLOAD: &str = "POST /_matrix/media/v3/upload";
const FILL: &str = "PUT /_matrix/media/v3/upload/{serverName}/{mediaId}";
const RULE: &str = "GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}";
const RULE_ENABLED: &str = "GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled";
const SET_RULE_ENABLED: &str = "PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled";
const RULE_ACTIONS: &str = "GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions";
const SET_RULE_ACTIONS: &str = "PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions";
const PUSHERS: &str = "POST /_matrix/client/v3/pushers/set";
const DEVICES: &str = "GET /_matrix/client/v3/devices";
const DEVICE: &str = "GET /_matrix/client/v3/devices/{deviceId}";

const TURN: &str = "GET /_matrix/client/v3/voip/turnServer";
const SUMMARY: &str = "GET /_matrix/client/v1/room_summary/{roomIdOrAlias}";

/// All of them. One that nothing needs any more fails `scripts/coverage`.
pub const DEVIATIONS: &[Deviation] = &[
    Deviation {
        why: "The events of no room version have `origin`; these files still want it, those of the versions don't.",
        asked: "",
        cases: &[
            Case(MAKE_JOIN, Answer, "/event/origin"),
            Case(MAKE_KNOCK, Answer, "/event/origin"),
            Case(MAKE_LEAVE, Answer, "/event/origin"),
            Case(INVITE_V1, Request, "/origin"),
            Case(INVITE_V1, Answer, "/1/event/origin"),
            Case(INVITE_V2, Request, "/event/origin"),
            Case(INVITE_V2, Answer, "/event/origin"),
            Case(SEND_JOIN, Request, "/origin"),
        ],
    },
    Deviation {
        why: "Of a transaction, what can't be read is passed over; it doesn't hold up the rest.",
        asked: "",
        cases: &[
            // No JSON for a reader with limits, because of one event.
            Case(SEND, Request, ""),
            Case(SEND, Request, "/pdus/*"),
            Case(SEND, Request, "/edus/*"),
            Case(SEND, Request, "/edus/*/content"),
        ],
    },
    Deviation {
        why: "What a room is that anybody may come into is told to who doesn't say who they are, as the text allows.",
        asked: "",
        cases: &[Case(SUMMARY, Authorization, "")],
    },
    Deviation {
        why: "Apps ask whether a gateway brings notifications to endpoints of UnifiedPush.",
        asked: "",
        cases: &[Case("GET /_matrix/push/v1/notify", Path, "")],
    },
    Deviation {
        why: "Where there is no TURN server, clients know an empty answer; the file has none for that.",
        asked: "",
        cases: &[
            Case(TURN, Answer, "/username"),
            Case(TURN, Answer, "/password"),
            Case(TURN, Answer, "/uris"),
            Case(TURN, Answer, "/ttl"),
        ],
    },
    Deviation {
        why: "A new Web Push pusher has to say that it is there (MSC4174).",
        asked: "",
        cases: &[
            Case(PUSHERS, Status, ""),
            Case("POST /_matrix/client/v3/pushers/ack", Path, ""),
        ],
    },
    Deviation {
        why: "Identity servers notify by POST, as the client-server API's text says.",
        asked: "",
        cases: &[Case("POST /_matrix/federation/v1/3pid/onbind", Path, "")],
    },
    Deviation {
        why: "Left the specification, and older servers still ask so.",
        asked: "",
        cases: &[
            Case("PUT /_matrix/federation/v1/send_join/*", Path, ""),
            Case("PUT /_matrix/federation/v1/send_leave/*", Path, ""),
            Case("GET /_matrix/key/v2/server/*", Path, ""),
            Case("GET /_matrix/key/v2/query/*", Path, ""),
        ],
    },
    Deviation {
        why: "Not yet in the specification (MSC2836, MSC2666 and MSC3266 as they were proposed, MSC3391, MSC3814, MSC4140, MSC4186, MSC4306, MSC4308), or ours (docs/websocket.md, docs/uploads.md).",
        asked: "",
        cases: &[
            Case(
                "DELETE /_matrix/client/unstable/org.matrix.msc3391/*",
                Path,
                "",
            ),
            Case(
                "DELETE /_matrix/client/unstable/org.matrix.msc3814.v1/*",
                Path,
                "",
            ),
            Case(
                "GET /_matrix/client/unstable/org.matrix.msc3814.v1/*",
                Path,
                "",
            ),
            Case(
                "POST /_matrix/client/unstable/org.matrix.msc3814.v1/*",
                Path,
                "",
            ),
            Case(
                "PUT /_matrix/client/unstable/org.matrix.msc3814.v1/*",
                Path,
                "",
            ),
            Case(
                "GET /_matrix/client/unstable/org.matrix.msc4140/*",
                Path,
                "",
            ),
            Case(
                "POST /_matrix/client/unstable/org.matrix.msc4140/*",
                Path,
                "",
            ),
            Case(
                "PUT /_matrix/client/unstable/org.matrix.msc4140/*",
                Path,
                "",
            ),
            Case(
                "DELETE /_matrix/client/unstable/io.element.msc4306/*",
                Path,
                "",
            ),
            Case(
                "GET /_matrix/client/unstable/io.element.msc4306/*",
                Path,
                "",
            ),
            Case(
                "PUT /_matrix/client/unstable/io.element.msc4306/*",
                Path,
                "",
            ),
            Case(
                "GET /_matrix/client/unstable/io.element.msc4308/*",
                Path,
                "",
            ),
            Case(
                "POST /_matrix/client/unstable/event_relationships",
                Path,
                "",
            ),
            Case(
                "POST /_matrix/federation/unstable/event_relationships",
                Path,
                "",
            ),
            Case("GET /_matrix/client/unstable/im.nheko.summary/*", Path, ""),
            Case(
                "GET /_matrix/client/unstable/uk.half-shot.msc2666/*",
                Path,
                "",
            ),
            Case("GET /_matrix/client/unstable/org.rhizome.mail/*", Path, ""),
            Case("POST /_matrix/client/unstable/org.rhizome.mail/*", Path, ""),
            Case("GET /_matrix/client/unstable/org.rhizome.stream", Path, ""),
            Case(
                "GET /_matrix/client/unstable/org.rhizome.upload/*",
                Path,
                "",
            ),
            Case(
                "PATCH /_matrix/client/unstable/org.rhizome.upload/*",
                Path,
                "",
            ),
            Case(
                "DELETE /_matrix/client/unstable/org.rhizome.upload/*",
                Path,
                "",
            ),
            Case(
                "POST /_matrix/client/unstable/org.matrix.simplified_msc3575/*",
                Path,
                "",
            ),
            Case("POST /_matrix/client/v4/sync*", Path, ""),
        ],
    },
    Deviation {
        why: "Stages in a browser stand in the specification's text alone.",
        asked: "/fallback/web",
        cases: &[
            Case("GET /_matrix/client/v3/auth/*", Path, ""),
            Case("POST /_matrix/client/v3/auth/*", Path, ""),
        ],
    },
    Deviation {
        why: "An upload that only begins has a place and no file yet (docs/uploads.md).",
        asked: "",
        cases: &[Case(UPLOAD, Status, ""), Case(FILL, Status, "")],
    },
    Deviation {
        why: "A state event fits both of the forms, of which the file allows one.",
        asked: "format=event",
        cases: &[Case(STATE, Answer, "")],
    },
    Deviation {
        why: "Clients count on these keys, and other servers give `null` where there is nothing.",
        asked: "",
        cases: &[
            Case(MEMBERS, Answer, "/joined/*/display_name"),
            Case(MEMBERS, Answer, "/joined/*/avatar_url"),
            Case(DEVICES, Answer, "/devices/*/display_name"),
            Case(DEVICE, Answer, "/display_name"),
            // Of a dehydrated device.
            Case(DEVICES, Answer, "/devices/*/last_seen_ip"),
            Case(DEVICE, Answer, "/last_seen_ip"),
        ],
    },
    Deviation {
        why: "Clients send `null` for what they leave out, and no body where there is nothing to say.",
        asked: "",
        cases: &[
            Case("POST /_matrix/client/v3/register", Request, "/username"),
            Case("POST /_matrix/client/v3/rooms/{roomId}/join", Request, ""),
        ],
    },
    Deviation {
        why: "Being busy isn't in the specification yet (MSC3026).",
        asked: "",
        cases: &[
            Case(PRESENCE, Answer, "/presence"),
            Case(PUT_PRESENCE, Request, "/presence"),
            Case("GET /_matrix/client/v3/sync", Parameter, "/set_presence"),
        ],
    },
    Deviation {
        why: "A condition of a kind that isn't known stays as it came.",
        asked: "",
        cases: &[
            Case(
                "PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}",
                Request,
                "/conditions/*/is",
            ),
            Case(RULE, Answer, "/conditions/*/is"),
            Case(
                "GET /_matrix/client/v3/pushrules/",
                Answer,
                "/global/*/*/conditions/*/is",
            ),
        ],
    },
    Deviation {
        why: "Rules on threads are of a kind of their own (MSC4306).",
        asked: "/pushrules/global/",
        cases: &[
            Case(RULE, Parameter, "/kind"),
            Case(RULE_ENABLED, Parameter, "/kind"),
            Case(SET_RULE_ENABLED, Parameter, "/kind"),
            Case(RULE_ACTIONS, Parameter, "/kind"),
            Case(SET_RULE_ACTIONS, Parameter, "/kind"),
        ],
    },
    Deviation {
        why: "Left the specification, and older clients ask for the rules of one kind.",
        asked: "/pushrules/global/",
        cases: &[Case("GET /_matrix/client/v3/pushrules/global/*", Path, "")],
    },
    Deviation {
        why: "An event that is to be sent later has no id yet (MSC4140).",
        asked: "org.matrix.msc4140.delay=",
        cases: &[
            Case(SEND_EVENT, Request, ""),
            Case(SEND_EVENT, Answer, "/event_id"),
            Case(SET_STATE, Answer, "/event_id"),
        ],
    },
    Deviation {
        why: "A filter's `event_fields` leaves out what it doesn't name.",
        asked: "event_fields",
        cases: &[Case(
            "GET /_matrix/client/v3/sync",
            Answer,
            "/rooms/join/*/timeline/events/*/*",
        )],
    },
];

impl Case {
    fn fits(&self, finding: &Finding) -> bool {
        let Self(operation, part, place) = self;
        let operation = match operation.strip_suffix('*') {
            Some(start) => finding.operation.starts_with(start),
            None => finding.operation == *operation,
        };
        operation && *part == finding.part && leads_to(place, &finding.place)
    }

    /// What coverage calls it.
    pub fn name(&self) -> String {
        let Self(operation, part, place) = self;
        format!("{operation} {part:?} {place}")
    }
}

/// What makes such a finding acceptable.
pub fn accepting(exchange: &Exchange, finding: &Finding) -> Option<&'static Case> {
    let asked = percent_decode_str(&exchange.target).decode_utf8_lossy();
    let fitting = DEVIATIONS.iter().filter(|one| asked.contains(one.asked));
    fitting
        .flat_map(|one| one.cases)
        .find(|case| case.fits(finding))
}

fn leads_to(pattern: &str, place: &str) -> bool {
    let (mut steps, mut at) = (pattern.split('/'), place.split('/'));
    loop {
        match (steps.next(), at.next()) {
            (None, None) => return true,
            (Some(step), Some(here)) if step == "*" || step == here => {}
            _ => return false,
        }
    }
}
