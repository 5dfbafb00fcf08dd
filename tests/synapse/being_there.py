"""Stories of what people of two servers do in a room that they share.

Told as those of coming_and_going.py are.
"""

from pairs import agree, at_once, promote, refused, same_history, talk
from servers import Failed


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
        sent = [author.send(room, "org.example.odd", content) for content in ODD]
        for content, event in zip(ODD, sent):
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


def everybody_talks_at_once(pair):
    """Events cross each other all the time, and in the end both servers have all of them."""
    host, guest = pair.host, pair.guest
    room = pair.meet()
    promote(host, room, guest)
    for friend in [pair.host_friend, pair.guest_friend]:
        friend.join(room, via=host.server)

    def chatter(person):
        for n in range(8):
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


STORIES = [
    profiles,
    state_both_ways,
    redactions,
    redacted_state,
    odd_contents,
    receipts,
    typing,
    everybody_talks_at_once,
]
