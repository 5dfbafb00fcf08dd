"""Stories of what happens when a server, or the cable between the two, is down for a while.

Each is told once, for rooms of every version on either server at the same time.
"""

import http.client
import threading
import time

from pairs import agree, at_once, empower, powers, refused, same_history, talk
from people import PATIENCE
from servers import Failed
from world import BEFORE


def synapse_was_down(world):
    """Nobody there says a word: our own retry must find that it is back."""
    meetings = world.meetings()
    read = {meeting: meeting.theirs.say(meeting.room, "the last word") for meeting in meetings}
    for meeting, event in read.items():
        meeting.ours.until_seen(meeting.room, event)
    world.synapse.stop()

    def go_on(meeting):
        meeting.monologue(meeting.ours, 30)
        meeting.ours.read(meeting.room, read[meeting])

    world.side_by_side(meetings, go_on)
    world.synapse.start()

    def caught_up(meeting):
        ours, theirs, room = meeting.ours, meeting.theirs, meeting.room
        meeting.until_told_in_order(theirs)
        agree(theirs, ours, room)
        receipt = (ours.id, read[meeting])
        theirs.until("is told of the receipt", lambda: receipt in theirs.rooms[room].receipts)
        talk(meeting.pair, room)

    world.side_by_side(meetings, caught_up)


def rhizome_lost_power(world):
    """What was acknowledged right before is told afterwards; what the others said meanwhile arrives."""
    meetings = world.meetings()
    world.side_by_side(meetings, lambda meeting: meeting.monologue(meeting.ours, 3))
    world.rhizome.kill()
    world.side_by_side(meetings, lambda meeting: meeting.monologue(meeting.theirs, 3))
    world.rhizome.start()

    def caught_up(meeting):
        talk(meeting.pair, meeting.room)
        meeting.until_told_in_order(meeting.theirs)
        meeting.until_told_in_order(meeting.ours)
        agree(meeting.ours, meeting.theirs, meeting.room)

    world.side_by_side(meetings, caught_up)


def rhizome_was_away_for_long(world):
    """More was said than Synapse gives at once."""
    meetings = world.meetings()
    world.rhizome.kill()
    taken_back = {}

    def go_on(meeting):
        event = meeting.theirs.say(meeting.room, "something regrettable")
        meeting.monologue(meeting.theirs, 45)
        meeting.theirs.redact(meeting.room, event)
        taken_back[meeting] = event

    world.side_by_side(meetings, go_on)
    world.until_synapse_gives_up()
    world.rhizome.start()
    # One word of ours, and Synapse knows that we are back.
    meetings[0].ours.say(meetings[0].room, "I am back")

    def caught_up(meeting):
        meeting.until_told_in_order(meeting.ours)
        agree(meeting.ours, meeting.theirs, meeting.room)
        same_history(meeting.ours, meeting.theirs, meeting.room)
        if meeting.ours.event(meeting.room, taken_back[meeting])["content"]:
            raise Failed("a redacted event isn't empty")
        talk(meeting.pair, meeting.room)

    world.side_by_side(meetings, caught_up)


def the_cable_was_cut(world):
    """Both sides go on by themselves, and contradict each other."""
    meetings = world.meetings()
    world.cut()

    def go_on(meeting):
        for person in (meeting.ours, meeting.theirs):
            meeting.monologue(person, 8)

    world.side_by_side(meetings, go_on)
    world.until_synapse_gives_up()
    world.side_by_side(meetings, go_on)
    world.mend()

    def healed(meeting):
        one, other = meeting.ours, meeting.theirs
        agree(one, other, meeting.room)
        talk(meeting.pair, meeting.room)
        agree(one, other, meeting.room)
        same_history(one, other, meeting.room)

    world.side_by_side(meetings, healed)


def power_was_taken_behind_the_cut(world):
    """The guest acts with powers that the host has taken away meanwhile, and the guest's friend is
    banned without knowing: it was for nothing."""
    meetings = world.meetings()

    def bring_friends(meeting):
        for friend in (meeting.pair.host_friend, meeting.pair.guest_friend):
            friend.join(meeting.room, via=meeting.pair.host.server)
            for person in (meeting.ours, meeting.theirs):
                person.until_member(meeting.room, friend, "join")

    world.side_by_side(meetings, bring_friends)
    world.cut()

    def go_on(meeting):
        host, guest, room = meeting.pair.host, meeting.pair.guest, meeting.room
        empower(host, room, guest, 0)
        host.ban(room, meeting.pair.guest_friend)
        guest.set_state(room, "m.room.name", {"name": "of the guest"})
        meeting.pair.guest_friend.say(room, "I am not banned yet")
        meeting.pair.host_friend.leave(room)

    world.side_by_side(meetings, go_on)
    world.mend()

    def healed(meeting):
        host, guest, room = meeting.pair.host, meeting.pair.guest, meeting.room
        agree(host, guest, room)
        for person in (host, guest):
            person.until(
                "has the name from before the cut",
                lambda: person.state_content(room, "m.room.name") == {"name": BEFORE},
            )
            if powers(person, room)["users"][guest.id] != 0:
                raise Failed(f"{guest.id} still has power, says {person.server.kind}")
            person.until_member(room, meeting.pair.guest_friend, "ban")
            person.until_member(room, meeting.pair.host_friend, "leave")
        refused("speaking when banned", lambda: meeting.pair.guest_friend.say(room, "but"))
        talk(meeting.pair, room)
        agree(host, guest, room)

    world.side_by_side(meetings, healed)


def everything_at_once(world):
    """All talk while the cable is cut and Rhizome loses its power, again and again. In the end both
    have everything that was acknowledged."""
    meetings = world.meetings()
    over = threading.Event()
    acknowledged = {meeting: set() for meeting in meetings}

    def chatter(person, rooms):
        n = 0
        while not over.is_set():
            n += 1
            for meeting in rooms:
                try:
                    acknowledged[meeting].add(person.say(meeting.room, f"{person.id} {n}"))
                    if n % 5 == 0:
                        person.set_state(meeting.room, "m.room.name", {"name": f"{person.id} {n}"})
                except (OSError, ValueError, http.client.HTTPException):
                    over.wait(0.1)

    def trouble():
        try:
            for act in [world.cut, world.mend, world.rhizome.kill, world.rhizome.start] * 2:
                act()
                until_more_is_said(acknowledged)
        finally:
            over.set()

    speakers = {}
    for meeting in meetings:
        for person in (meeting.ours, meeting.theirs):
            speakers.setdefault(person, []).append(meeting)
    at_once(
        [lambda person=person, rooms=rooms: chatter(person, rooms) for person, rooms in speakers.items()]
        + [trouble]
    )

    def settled(meeting):
        talk(meeting.pair, meeting.room)
        agree(meeting.ours, meeting.theirs, meeting.room)
        same_history(meeting.ours, meeting.theirs, meeting.room)
        lost = acknowledged[meeting] - {event["event_id"] for event in meeting.ours.history(meeting.room)}
        if lost:
            raise Failed(f"acknowledged and lost: {lost}")

    world.side_by_side(meetings, settled)


def until_more_is_said(acknowledged):
    """Until a few more messages have been acknowledged, of whoever can speak."""
    def count():
        return sum(len(events) for events in acknowledged.values())

    enough = count() + 40
    deadline = time.monotonic() + PATIENCE
    while count() < enough:
        if time.monotonic() > deadline:
            raise Failed("nobody says anything any more")
        time.sleep(0.05)


OUTAGES = [
    synapse_was_down,
    rhizome_lost_power,
    rhizome_was_away_for_long,
    the_cable_was_cut,
    power_was_taken_behind_the_cut,
    everything_at_once,
]
