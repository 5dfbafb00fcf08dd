"""What people of two servers do with each other while both are up.

Each story is told for every room version and with the room on either server: `host` is who made the
room, `guest` a person of the other server.
"""

import json
import threading
from collections import Counter

from api import ApiError
from servers import Failed


class Pair:
    """Two people of different servers, each with a friend of the same server, and how their rooms are
    made."""

    def __init__(self, host, guest, host_friend, guest_friend, version):
        self.host = host
        self.guest = guest
        self.host_friend = host_friend
        self.guest_friend = guest_friend
        self.version = version

    def both_ways(self):
        return [(self.host, self.guest), (self.guest, self.host)]

    def room(self, **more):
        return self.host.create_room(self.version, **more)

    def meet(self):
        """A public room that both are in."""
        room = self.room(preset="public_chat")
        self.guest.join(room, via=self.host.server)
        self.host.until_member(room, self.guest, "join")
        self.guest.until_member(room, self.host, "join")
        return room


def talk(pair, room):
    """Both write; each sees what the other wrote."""
    for speaker, listener in pair.both_ways():
        listener.until_seen(room, speaker.say(room, f"{speaker.id} says hello"))


def agree(one, other, room):
    """Both servers come to have the same state of the room, and a client that only follows its syncs
    has it too."""

    def differing():
        states = [person.state(room).items() for person in (one, other)]
        return [sorted(a - b) for a, b in (states, states[::-1])]

    until_nothing_differs(f"{one.id} and {other.id} have the same state of {room}", one, differing)
    for person in (one, other):
        if person.server.kind == "Rhizome":
            told = person.rooms[room].state
            person.until("was told the state", lambda: told == person.state(room))


def until_nothing_differs(what, person, differing):
    """Until what only one and what only the other has is nothing; says what it is otherwise."""
    try:
        person.until(what, lambda: not any(differing()))
    except Failed as failure:
        raise Failed(f"{failure}; they differ in {differing()}") from None


def refused(what, act):
    try:
        act()
    except ApiError as error:
        if error.status == 403:
            return
        raise
    raise Failed(f"should have been refused: {what}")


# ---- coming in


def joining_by_alias(pair):
    host, guest = pair.host, pair.guest
    alias = f"meet-{pair.version}"
    room = pair.room(room_alias_name=alias, preset="public_chat", name="A room to meet in")
    guest.join(f"#{alias}:{host.server.name}")
    host.until_member(room, guest, "join")
    talk(pair, room)
    agree(host, guest, room)


def an_invite_is_accepted(pair):
    host, guest = pair.host, pair.guest
    room = pair.room(preset="private_chat", name="A private room")
    refused("joining without an invite", lambda: guest.join(room, via=host.server))
    host.invite(room, guest)
    guest.until("is invited", lambda: guest.rooms[room].membership == "invite")
    guest.join(room)
    host.until_member(room, guest, "join")
    talk(pair, room)
    agree(host, guest, room)


def an_invite_is_declined(pair):
    host, guest = pair.host, pair.guest
    room = pair.room(preset="private_chat")
    host.invite(room, guest)
    guest.until("is invited", lambda: guest.rooms[room].membership == "invite")
    guest.leave(room)
    host.until_member(room, guest, "leave")
    guest.until("has declined", lambda: guest.rooms[room].membership == "leave")


def an_invite_is_withdrawn(pair):
    host, guest = pair.host, pair.guest
    room = pair.room(preset="private_chat")
    host.invite(room, guest)
    guest.until("is invited", lambda: guest.rooms[room].membership == "invite")
    host.kick(room, guest)
    guest.until("isn't invited any more", lambda: guest.rooms[room].membership == "leave")
    refused("joining on a withdrawn invite", lambda: guest.join(room, via=host.server))


def friends_are_invited(pair):
    """To a room that their servers are in already, by people of the other server."""
    host, guest = pair.host, pair.guest
    room = pair.meet()
    promote(host, room, guest)
    for inviter, friend in [(guest, pair.host_friend), (host, pair.guest_friend)]:
        inviter.invite(room, friend)
        friend.until("is invited", lambda: friend.rooms[room].membership == "invite")
        friend.join(room)
        inviter.until_member(room, friend, "join")
        inviter.until_seen(room, friend.say(room, "thank you"))
    agree(host, guest, room)


def history_that_is_not_shared(pair):
    """Who comes later is not told what was said before."""
    host, guest = pair.host, pair.guest
    hidden = {
        "type": "m.room.history_visibility",
        "state_key": "",
        "content": {"history_visibility": "joined"},
    }
    room = pair.room(preset="public_chat", initial_state=[hidden])
    host.say(room, "a secret")
    guest.join(room, via=host.server)
    host.until_member(room, guest, "join")
    talk(pair, room)
    secret_is_out = "a secret" in guest.texts(room)
    if secret_is_out or "a secret" not in host.texts(room):
        raise Failed("the wrong ones know the secret")


def history_from_before_the_join(pair):
    """Several pages of it."""
    host, guest = pair.host, pair.guest
    room = pair.room(preset="public_chat")
    written = [f"before anybody came: {n}" for n in range(120)]
    for text in written:
        host.say(room, text)
    guest.join(room, via=host.server)
    guest.until("pages back to the beginning", lambda: guest.texts(room) == written)
    first = guest.history(room)[0]
    if first["type"] != "m.room.create":
        raise Failed(f"the history begins with {first['type']}")


# ---- being there


def redactions(pair):
    room = pair.meet()
    for author, reader in pair.both_ways():
        event = author.say(room, "something regrettable")
        reader.until_seen(room, event)
        author.redact(room, event)
        reader.until("finds it empty", lambda: reader.event(room, event)["content"] == {})
    # Who made the room may also redact what others wrote.
    host, guest = pair.host, pair.guest
    event = guest.say(room, "something offensive")
    host.until_seen(room, event)
    host.redact(room, event)
    guest.until("finds it empty", lambda: guest.event(room, event)["content"] == {})
    agree(host, guest, room)


def redacted_in(person, room):
    """The events of the current state that the person finds redacted."""
    state = person.in_room("GET", room, "/state")
    return {event["event_id"] for event in state if "redacted_because" in event["unsigned"]}


def redacted_state(pair):
    """What is left of a state event is the same everywhere, and still the state."""
    host, guest = pair.host, pair.guest
    room = pair.meet()
    promote(host, room, guest)
    for author, reader in pair.both_ways():
        own = f"of {author.id}"
        alias = f"#none:{author.server.name}"
        redacted = [
            author.set_state(room, kind, content)
            for kind, content in [
                ("m.room.topic", {"topic": own}),
                ("m.room.canonical_alias", {"alt_aliases": [], "org.example": alias}),
                ("m.room.history_visibility", {"history_visibility": "shared", "x": own}),
                ("m.room.guest_access", {"guest_access": "forbidden", "x": own}),
                ("org.example.state", {"body": own, "nested": {"a": [1, None, True]}}),
            ]
        ]
        member = author.state(room)["m.room.member", author.id]
        for event in [*redacted, member]:
            author.redact(room, event)
            reader.until(f"finds {event} redacted", lambda: event in redacted_in(reader, room))
        agree(host, guest, room)
        same_history(host, guest, room)
    talk(pair, room)


ODD = [
    {"body": "\u0000\u0001\b\t\n\f\r\u001f\u007f\u0080\u2028\u2029\ufeff\uffff \\ / \" \U0001f9a5 e\u0301"},
    # Keys are sorted by code point, which is not the order of UTF-16.
    {"body": "x", "\uff5e": 1, "\U0001f600": 2, "\ue000": 3, "": 4, "a": 5, "A": 6, "\u0000": 7},
    {"body": "x", "numbers": [0, -1, 2**53 - 1, 1 - 2**53], "nothing": [None, {}, [], "", False]},
    {"body": "x", "deep": [[[[[[[[[[{"a": {"b": {"c": {"d": {"e": [[]]}}}}}]]]]]]]]]]},
    {"body": "x" * 60_000},
    {"msgtype": 7, "body": {"not": "a text"}},
    {},
    {"m.relates_to": {"rel_type": "m.reference", "event_id": "$none"}, "body": "x"},
    {"membership": "ban", "event_id": "$x", "hashes": {}, "signatures": {}, "body": "x"},
]


def odd_contents(pair):
    """Whatever one server takes arrives at the other, unchanged."""
    host, guest = pair.host, pair.guest
    room = pair.meet()
    promote(host, room, guest)
    for author, reader in pair.both_ways():
        for content in ODD:
            event = author.send(room, "org.example.odd", content)
            reader.until_seen(room, event)
            arrived = reader.event(room, event)["content"]
            if arrived != content:
                raise Failed(f"{content} arrived as {arrived}")
        for key in ["\U0001f600", "a/b?c#d%2f", " ", "x" * 255]:
            event = author.set_state(room, "org.example", {"by": author.id}, key)
            reader.until_seen(room, event)
            if reader.state(room)["org.example", key] != event:
                raise Failed(f"{key!r} is another state key at {reader.server.kind}")
    agree(host, guest, room)
    same_history(host, guest, room)


def receipts(pair):
    room = pair.meet()
    for author, reader in pair.both_ways():
        event = author.say(room, "do you read me?")
        reader.until_seen(room, event)
        reader.read(room, event)
        author.until("is told", lambda: (reader.id, event) in author.rooms[room].receipts)


def typing(pair):
    room = pair.meet()
    for writer, watcher in pair.both_ways():
        writer.types(room, True)
        watcher.until("sees them type", lambda: writer.id in watcher.rooms[room].typing)
        writer.types(room, False)
        watcher.until("sees them stop", lambda: writer.id not in watcher.rooms[room].typing)


def profiles(pair):
    room = pair.meet()
    for person, other in pair.both_ways():
        wanted = {
            "displayname": f"Somebody in a room of version {pair.version} on {pair.host.server.kind}",
            "avatar_url": f"mxc://{person.server.name}/{pair.version}{pair.host.server.kind}",
        }
        for field, value in wanted.items():
            person.set_profile(field, value)
        other.until(
            "finds the profile changed",
            lambda: wanted.items() <= other.profile_of(person).items(),
        )
        other.until(
            "finds the member changed",
            lambda: wanted.items()
            <= other.state_content(room, "m.room.member", person.id).items(),
        )
    agree(pair.host, pair.guest, room)


def state_both_ways(pair):
    """The guest may do what the room's powers say, and the host's server thinks so too."""
    host, guest = pair.host, pair.guest
    room = pair.meet()
    refused("a topic of the guest", lambda: guest.set_state(room, "m.room.topic", {"topic": "x"}))
    promote(host, room, guest)
    for author, reader in pair.both_ways():
        content = {"topic": f"what {author.id} wants"}
        author.set_state(room, "m.room.topic", content)
        reader.until(
            "sees the topic",
            lambda: reader.state_content(room, "m.room.topic")["topic"] == content["topic"],
        )
    agree(host, guest, room)


def promote(owner, room, person, power=100):
    """Gives somebody power, and waits until they know."""
    empower(owner, room, person, power)
    person.until(f"has power {power}", lambda: powers(person, room)["users"].get(person.id) == power)


def empower(owner, room, person, power):
    levels = powers(owner, room)
    levels.setdefault("users", {})[person.id] = power
    owner.set_state(room, "m.room.power_levels", levels)


def powers(person, room):
    return person.state_content(room, "m.room.power_levels")


def everybody_talks_at_once(pair):
    """Events cross each other all the time, and in the end both servers have all of them."""
    host, guest = pair.host, pair.guest
    room = pair.meet()
    promote(host, room, guest)
    for friend in [pair.host_friend, pair.guest_friend]:
        friend.join(room, via=host.server)

    def chatter(person):
        for n in range(12):
            person.say(room, f"{person.id} {n}")
            if n % 4 == 0 and person in (host, guest):
                person.set_state(room, "m.room.name", {"name": f"{person.id} {n}"})
                person.set_state(room, "org.example.own", {"n": n}, person.id)

    people = [host, guest, pair.host_friend, pair.guest_friend]
    at_once([lambda person=person: chatter(person) for person in people])
    # Whoever is last ties the ends together.
    talk(pair, room)
    agree(host, guest, room)
    same_history(host, guest, room)


def at_once(acts):
    """Does things side by side; fails with the first that failed."""
    failures = []

    def run(act):
        try:
            act()
        except (ApiError, Failed, OSError) as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def essence(event):
    """What every server must say of an event, as text."""
    fields = ["event_id", "type", "sender", "state_key", "origin_server_ts", "content"]
    return json.dumps({field: event.get(field) for field in fields}, sort_keys=True)


def same_history(one, other, room):
    """Both can page back through the same events, none of them twice."""

    def differing():
        lines = [[essence(event) for event in person.history(room)] for person in (one, other)]
        return [sorted((Counter(a) - Counter(b)).elements()) for a, b in (lines, lines[::-1])]

    until_nothing_differs(f"{one.id} and {other.id} find the same events", one, differing)


# ---- going


def leaving(pair):
    host, guest = pair.host, pair.guest
    room = pair.meet()
    guest.leave(room)
    host.until_member(room, guest, "leave")
    missed = [f"while {guest.id} was away: {n}" for n in range(25)]
    for text in missed:
        host.say(room, text)
    host.set_state(room, "m.room.topic", {"topic": "a new one"})
    guest.join(room, via=host.server)
    host.until_member(room, guest, "join")
    talk(pair, room)
    agree(host, guest, room)
    guest.until("finds what was missed", lambda: [t for t in guest.texts(room) if t in missed] == missed)
    host.leave(room)
    guest.until_member(room, host, "leave")


def kicking(pair):
    host, guest = pair.host, pair.guest
    room = pair.meet()
    host.kick(room, guest)
    guest.until("is out", lambda: guest.rooms[room].membership == "leave")
    refused("speaking after being kicked", lambda: guest.say(room, "but"))
    guest.join(room, via=host.server)
    host.until_member(room, guest, "join")
    talk(pair, room)


def banning(pair):
    host, guest = pair.host, pair.guest
    room = pair.meet()
    host.ban(room, guest)
    guest.until("is out", lambda: guest.rooms[room].membership == "leave")
    refused("joining when banned", lambda: guest.join(room, via=host.server))
    host.unban(room, guest)
    guest.until("may come back", lambda: guest.join(room, via=host.server))
    host.until_member(room, guest, "join")
    talk(pair, room)
    agree(host, guest, room)


STORIES = [
    # First: a new name is told to every room that somebody is in.
    profiles,
    joining_by_alias,
    an_invite_is_accepted,
    an_invite_is_declined,
    an_invite_is_withdrawn,
    friends_are_invited,
    history_that_is_not_shared,
    history_from_before_the_join,
    redactions,
    redacted_state,
    odd_contents,
    receipts,
    typing,
    state_both_ways,
    everybody_talks_at_once,
    leaving,
    kicking,
    banning,
]
