"""Stories of how people come into rooms of another server, and out of them.

Each story is told for every room version and with the room on either server: `host` is who made the
room, `guest` a person of the other server.
"""

from pairs import agree, promote, refused, talk
from servers import Failed


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
    written = [f"before anybody came: {n}" for n in range(105)]
    for text in written:
        host.say(room, text)
    guest.join(room, via=host.server)
    guest.until("pages back to the beginning", lambda: guest.texts(room) == written)
    first = guest.history(room)[0]
    if first["type"] != "m.room.create":
        raise Failed(f"the history begins with {first['type']}")


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
    joining_by_alias,
    an_invite_is_accepted,
    an_invite_is_declined,
    an_invite_is_withdrawn,
    friends_are_invited,
    history_that_is_not_shared,
    history_from_before_the_join,
    leaving,
    kicking,
    banning,
]
