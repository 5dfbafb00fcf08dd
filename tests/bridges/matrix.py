"""A person with an account here, as those of tests/synapse, and what bridges want of them besides."""

import re

from api import ApiError
from people import Person


class Someone(Person):
    def __init__(self, server, localpart):
        super().__init__(server, localpart)
        self.known = set()  # rooms that an invite to was told already

    def chat_with(self, *users, **more):
        """A new private room; the users are invited."""
        body = {"preset": "trusted_private_chat", "is_direct": True, "invite": list(users), **more}
        return self.call("POST", "/createRoom", body)["room_id"]

    def until_invited(self):
        """The next room that somebody invites to."""

        def invites():
            rooms = self.rooms.items()
            return {room for room, view in rooms if view.membership == "invite"} - self.known

        self.until("is invited", invites)
        room = invites().pop()
        self.known.add(room)
        return room

    def said(self, room, sender):
        """The texts that this client was told of, oldest first."""
        events = self.rooms[room].timeline
        return [event["content"].get("body", "") for event in events if event["sender"] == sender]

    def until_sees(self, room, sender, text):
        self.until(
            f"sees {sender} say {text!r}",
            lambda: any(text in body for body in self.said(room, sender)),
        )

    def until_member_is(self, room, user, membership):
        self.until(
            f"sees {user} at {membership!r}",
            lambda: self.members(room).get(user) == membership,
        )


def someone(server, localpart):
    """Makes an account."""
    return Someone(server, localpart)


def refusal(asked):
    """The code with which the server refuses what is asked; `None` if it doesn't."""
    try:
        asked()
    except ApiError as error:
        return re.search("M_[A-Z_]+", str(error))[0]
    return None
