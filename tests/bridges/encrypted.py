"""A person whose client encrypts, with mautrix-python's client and `/sync`."""

import asyncio
import logging
import time

from mautrix.client import Client
from mautrix.client.state_store.memory import MemoryStateStore
from mautrix.crypto import OlmMachine
from mautrix.crypto.store import MemoryCryptoStore
from mautrix.types import EventType, Membership, RoomEncryptionStateEventContent, UserID
from programs import PATIENCE, Failed

ALGORITHM = "m.megolm.v1.aes-sha2"


class Rooms(MemoryStateStore):
    """What a client knows of its rooms."""

    async def find_shared_rooms(self, user_id):
        return [
            room
            for room, members in self.members.items()
            if user_id in members and await self.is_encrypted(room)
        ]


class Encrypted:
    """A device of somebody who has an account."""

    def __init__(self, person, device):
        logging.getLogger("mau").setLevel(logging.CRITICAL)
        self.person, self.loop = person, asyncio.new_event_loop()
        self.heard = []  # (room, sender, text, whether it came encrypted)
        self._do(self._begin(device))

    def _do(self, what):
        return self.loop.run_until_complete(what)

    async def _begin(self, device):
        person = self.person
        self.client = Client(
            mxid=UserID(person.id), base_url=person.server.base, state_store=Rooms(), loop=self.loop
        )
        login = await self.client.login(
            identifier=person.id, password="correct horse", device_name=device, update_hs_url=False
        )
        store = MemoryCryptoStore(person.id, "a key for the tests")
        await store.put_device_id(login.device_id)
        self.client.crypto = OlmMachine(self.client, store, self.client.state_store)
        await self.client.crypto.load()
        await self.client.crypto.share_keys()
        self.client.add_event_handler(EventType.ROOM_MESSAGE, self._hear)
        self.client.ignore_initial_sync = False
        self.client.ignore_first_sync = False
        self.following = self.client.start(None)

    async def _hear(self, event):
        was_encrypted = bool(event.get("mautrix", {}).get("was_encrypted"))
        self.heard.append((event.room_id, event.sender, event.content.body, was_encrypted))

    def chat_with(self, *users):
        """A new encrypted room to which they are invited."""
        encryption = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": ALGORITHM}}
        room = self.person.chat_with(*users, initial_state=[encryption])
        self._do(self._know(room))
        return room

    async def _know(self, room):
        known = RoomEncryptionStateEventContent.deserialize({"algorithm": ALGORITHM})
        await self.client.state_store.set_encryption_info(room, known)

    def until_joined(self, room, *users):
        """Until this client knows that all of them are there."""

        async def check():
            members = await self.client.state_store.get_members(room, (Membership.JOIN,))
            return set(users) <= set(members)

        self._until(f"sees {users} join", check)

    def say(self, room, text):
        return self._do(self.client.send_text(room, text))

    def until_hears(self, room, sender, text):
        """Until it has been said, encrypted, and could be read."""

        async def check():
            return (room, sender, text, True) in self.heard

        self._until(f"hears {sender} say {text!r} (heard: {self.heard[-4:]})", check)

    def _until(self, what, check):
        async def looking():
            deadline = time.monotonic() + PATIENCE
            while not await check():
                if time.monotonic() > deadline:
                    raise Failed(f"{self.person.id}, within {PATIENCE} s: {what}")
                await asyncio.sleep(0.05)

        self._do(looking())

    def close(self):
        async def ending():
            self.client.stop()
            await self.client.api.session.close()

        self._do(ending())
        self.loop.close()
