"""Two people of different servers, and what they have in common in the end."""

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


def refused(what, act):
    try:
        act()
    except ApiError as error:
        if error.status == 403:
            return
        raise
    raise Failed(f"should have been refused: {what}")


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


def at_once(acts):
    """Does things side by side; fails with the first that failed."""
    failures = []

    def run(act):
        try:
            act()
        except Exception as error:  # raised below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
