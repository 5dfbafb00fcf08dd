"""People with accounts, what they do, and what their clients have been told."""

import hashlib
import hmac
import time
from collections import defaultdict

from api import ApiError, quote, request
from servers import SECRET, Failed

PATIENCE = 60  # seconds that anything may take to arrive
POLL = 250  # milliseconds that one sync waits for news


class RoomView:
    """What a client's syncs have told of a room."""

    def __init__(self):
        self.timeline = []
        self.gaps = []  # where to page back from, for what a sync left out
        self.state = {}  # (type, key) → event id; of a server that tells the state after the timeline
        self.typing = set()
        self.receipts = set()  # (user, event)
        self.membership = None

    def take(self, section):
        timeline = section.get("timeline", {})
        if self.timeline and timeline.get("limited"):
            self.gaps.append(timeline["prev_batch"])
        self.timeline += timeline.get("events", [])
        for event in section.get("state_after", {}).get("events", []):
            self.state[event["type"], event["state_key"]] = event["event_id"]
        for event in section.get("ephemeral", {}).get("events", []):
            if event["type"] == "m.typing":
                self.typing = set(event["content"]["user_ids"])
            if event["type"] == "m.receipt":
                for event_id, kinds in event["content"].items():
                    self.receipts |= {(user, event_id) for user in kinds.get("m.read", {})}

    def has(self, event_id):
        return any(event["event_id"] == event_id for event in self.timeline)


class Person:
    """A person with an account on a server. One thread at a time may use it."""

    def __init__(self, server, localpart, admin=False):
        nonce = request(server, "GET", "/_synapse/admin/v1/register")["nonce"]
        mac = hmac.new(SECRET.encode(), digestmod=hashlib.sha1)
        role = "admin" if admin else "notadmin"
        mac.update("\0".join([nonce, localpart, "correct horse", role]).encode())
        account = {
            "nonce": nonce,
            "username": localpart,
            "password": "correct horse",
            "admin": admin,
            "mac": mac.hexdigest(),
        }
        answer = request(server, "POST", "/_synapse/admin/v1/register", account)
        self.server = server
        self.id = answer["user_id"]
        self.token = answer["access_token"]
        self.transaction = 0
        self.since = None
        self.rooms = defaultdict(RoomView)

    # ---- waiting

    def sync(self, wait=POLL):
        """Takes what is new, waiting for it up to `wait` ms; what was seen once stays seen."""
        since = f"&since={quote(self.since)}" if self.since else ""
        answer = self.call("GET", f"/sync?use_state_after=true&timeout={wait}{since}")
        self.since = answer["next_batch"]
        for membership, rooms in answer.get("rooms", {}).items():
            for room, section in rooms.items():
                self.rooms[room].membership = membership
                self.rooms[room].take(section)

    def until(self, what, check):
        """Syncs until `check()` holds; fails with `what` when that takes too long."""
        deadline = time.monotonic() + PATIENCE
        refused = None
        while True:
            try:
                if check():
                    return
            except ApiError as error:
                refused = error
            if time.monotonic() > deadline:
                last = f" (last refusal: {refused})" if refused else ""
                raise Failed(f"{self.id}, within {PATIENCE} s: {what}{last}")
            self.sync()

    def until_seen(self, room, event_id):
        """Until a sync has brought the event."""
        self.until(f"sees {event_id}", lambda: self.rooms[room].has(event_id))

    def until_member(self, room, person, membership):
        self.until(
            f"knows that {person.id} is at {membership!r}",
            lambda: self.members(room).get(person.id) == membership,
        )

    # ---- rooms

    def call(self, method, path, body=None):
        return request(self.server, method, "/_matrix/client/v3" + path, body, self.token)

    def in_room(self, method, room, path, body=None):
        return self.call(method, f"/rooms/{quote(room)}{path}", body)

    def create_room(self, version, **more):
        return self.call("POST", "/createRoom", {"room_version": version, **more})["room_id"]

    def join(self, room_or_alias, via=None):
        query = f"?via={quote(via.name)}&server_name={quote(via.name)}" if via else ""
        return self.call("POST", f"/join/{quote(room_or_alias)}{query}", {})["room_id"]

    def leave(self, room):
        self.in_room("POST", room, "/leave", {})

    def invite(self, room, person):
        self.in_room("POST", room, "/invite", {"user_id": person.id})

    def kick(self, room, person):
        self.in_room("POST", room, "/kick", {"user_id": person.id, "reason": "a test"})

    def ban(self, room, person):
        self.in_room("POST", room, "/ban", {"user_id": person.id})

    def unban(self, room, person):
        self.in_room("POST", room, "/unban", {"user_id": person.id})

    def members(self, room):
        chunk = self.in_room("GET", room, "/members")["chunk"]
        return {event["state_key"]: event["content"]["membership"] for event in chunk}

    # ---- events

    def _transaction(self):
        self.transaction += 1
        return f"t{self.transaction}"

    def send(self, room, kind, content):
        path = f"/send/{kind}/{self._transaction()}"
        return self.in_room("PUT", room, path, content)["event_id"]

    def say(self, room, text):
        return self.send(room, "m.room.message", {"msgtype": "m.text", "body": text})

    def redact(self, room, event_id):
        path = f"/redact/{quote(event_id)}/{self._transaction()}"
        return self.in_room("PUT", room, path, {"reason": "a test"})["event_id"]

    def event(self, room, event_id):
        return self.in_room("GET", room, f"/event/{quote(event_id)}")

    def set_state(self, room, kind, content, key=""):
        path = f"/state/{kind}/{quote(key)}"
        return self.in_room("PUT", room, path, content)["event_id"]

    def state_content(self, room, kind, key=""):
        return self.in_room("GET", room, f"/state/{kind}/{quote(key)}")

    def state(self, room):
        """The current state: (type, key) → event id."""
        events = self.in_room("GET", room, "/state")
        return {(event["type"], event["state_key"]): event["event_id"] for event in events}

    def history(self, room, page=50):
        """The room's whole history, oldest first, as paging back from the end gives it."""
        events, start = [], ""
        while True:
            answer = self.in_room("GET", room, f"/messages?dir=b&limit={page}{start}")
            events += answer["chunk"]
            if "end" not in answer:
                return events[::-1]
            start = f"&from={quote(answer['end'])}"

    def followed(self, room):
        """The ids of what a client has that follows its syncs and pages back where one says that it
        left something out."""
        known = {event["event_id"] for event in self.rooms[room].timeline}
        for gap in self.rooms[room].gaps:
            met, start = False, gap
            while start and not met:
                path = f"/messages?dir=b&limit=50&from={quote(start)}"
                answer = self.in_room("GET", room, path)
                ids = {event["event_id"] for event in answer["chunk"]}
                met = not ids.isdisjoint(known)
                known |= ids
                start = answer.get("end")
        return known

    def texts(self, room):
        """The texts of the room's messages, oldest first."""
        bodies = [event["content"].get("body") for event in self.history(room)]
        return [body for body in bodies if body]

    # ---- what passes

    def read(self, room, event_id):
        self.in_room("POST", room, f"/receipt/m.read/{quote(event_id)}", {})

    def types(self, room, typing):
        body = {"typing": typing, **({"timeout": 30000} if typing else {})}
        self.in_room("PUT", room, f"/typing/{quote(self.id)}", body)

    def set_profile(self, field, value):
        self.call("PUT", f"/profile/{quote(self.id)}/{field}", {field: value})

    def profile_of(self, person):
        return self.call("GET", f"/profile/{quote(person.id)}")
