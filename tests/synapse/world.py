"""The two servers and all pairs of people, for stories in which a server is down or the cable cut."""

from api import request
from pairs import at_once, promote, talk

# What rooms are called before an outage.
BEFORE = "before the outage"


class World:
    """The two servers, and the pairs of people: for each room version one with the room on either
    server."""

    def __init__(self, rhizome, synapse, admin, lanes):
        self.rhizome = rhizome
        self.synapse = synapse
        self.admin = admin
        self.lanes = lanes

    def meetings(self):
        """New rooms with some history, in which both may do everything."""
        meetings = []

        def meet(pairs):
            for pair in pairs:
                room = pair.meet()
                promote(pair.host, room, pair.guest, power=50)
                pair.host.set_state(room, "m.room.name", {"name": BEFORE})
                pair.host.set_state(room, "m.room.topic", {"topic": BEFORE})
                talk(pair, room)
                meetings.append(Meeting(pair, room))

        at_once([lambda pairs=pairs: meet(pairs) for pairs in self.lanes])
        return meetings

    def side_by_side(self, meetings, act):
        """Does something in every meeting; people who are in several do it one after the other."""

        def all_of(version):
            for meeting in meetings:
                if meeting.pair.version == version:
                    act(meeting)

        versions = sorted({meeting.pair.version for meeting in meetings})
        at_once([lambda version=version: all_of(version) for version in versions])

    def until_synapse_gives_up(self):
        """Until it doesn't try to reach Rhizome any more unless it hears from it. Restarted then, it
        tells only the newest event of each room, and what is before that must be asked for."""
        path = f"/_synapse/admin/v1/federation/destinations/{self.rhizome.name}"
        self.admin.until(
            "finds that it has given up",
            lambda: request(self.synapse, "GET", path, token=self.admin.token)["retry_interval"],
        )
        self.synapse.stop()
        self.synapse.start()

    def cut(self):
        for server in (self.rhizome, self.synapse):
            server.cable.cut()

    def mend(self):
        for server in (self.rhizome, self.synapse):
            server.cable.mend()


class Meeting:
    """A room with `ours`, a person of Rhizome, and `theirs`, of Synapse."""

    def __init__(self, pair, room):
        self.pair = pair
        self.room = room
        people = (pair.host, pair.guest)
        self.ours, self.theirs = sorted(people, key=lambda person: person.server.kind)
        self.said = {self.ours: [], self.theirs: []}
        self.events = set()

    def monologue(self, person, count):
        """Messages with a change of state amidst."""
        said = self.said[person]
        for n in range(count):
            text = f"{person.server.kind} {len(said)}"
            self.events.add(person.say(self.room, text))
            said.append(text)
            if n == count // 2:
                person.set_state(self.room, "m.room.topic", {"topic": text})

    def until_told_in_order(self, reader):
        """Until the reader finds all that either said, in the order in which they did, and a client that
        follows the syncs has it all."""
        for speaker, said in self.said.items():
            reader.until(
                f"finds what {speaker.id} said, in order",
                lambda: [text for text in reader.texts(self.room) if text in said] == said,
            )
        reader.until(
            "has been told of everything or of gaps",
            lambda: self.events <= reader.followed(self.room),
        )
