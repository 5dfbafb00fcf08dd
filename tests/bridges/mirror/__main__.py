"""The program: `python -m mirror`, with the options of every bridge that is written with mautrix-python.

Whoever invites a ghost gets a private room with it; what is said there, the ghost says again. All that has to do with
the server is mautrix-python's: registering, joining, encryption through transactions, devices.
"""

from __future__ import annotations

from typing import Any

from mautrix.bridge import BaseBridgeConfig, BaseMatrixHandler, BasePortal, BasePuppet, BaseUser, Bridge
from mautrix.types import EventID, MessageEventContent, RoomID, TextMessageEventContent, UserID
from mautrix.util.async_db import Connection, UpgradeTable
from mautrix.util.config import ConfigUpdateHelper

upgrade_table = UpgradeTable()


@upgrade_table.register(description="Portals")
async def upgrade_v1(db: Connection) -> None:
    await db.execute(
        "CREATE TABLE portal (ghost TEXT, owner TEXT, mxid TEXT, encrypted BOOLEAN NOT NULL, "
        "PRIMARY KEY (ghost, owner))"
    )


class Config(BaseBridgeConfig):
    def do_update(self, helper: ConfigUpdateHelper) -> None:
        super().do_update(helper)
        helper.copy("bridge.username_template")
        helper.copy("bridge.command_prefix")


class Puppet(BasePuppet):
    def __init__(self, bridge: Mirror, mxid: UserID) -> None:
        self.default_mxid, self.custom_mxid, self.is_registered = mxid, None, False
        self.az, self.loop, self.mx = bridge.az, bridge.loop, bridge.matrix
        self.default_mxid_intent = self.intent = bridge.az.intent.user(mxid)

    async def save(self) -> None:
        """Nothing of a ghost outlives the process: registering twice does no harm."""

    @classmethod
    async def get_by_mxid(cls, mxid: UserID) -> BasePuppet | None:
        return None

    @classmethod
    async def get_by_custom_mxid(cls, mxid: UserID) -> BasePuppet | None:
        return None


class User(BaseUser):
    def __init__(self, bridge: Mirror, mxid: UserID) -> None:
        self.mxid = mxid
        self.bridge, self.az, self.loop = bridge, bridge.az, bridge.loop
        self.is_whitelisted = self.is_admin = True
        super().__init__()

    async def is_logged_in(self) -> bool:
        return True

    async def get_puppet(self) -> BasePuppet | None:
        return None

    async def get_portal_with(self, puppet: Puppet, create: bool = True) -> Portal | None:
        return await self.bridge.portal_of(puppet, self)


class Portal(BasePortal):
    is_direct = True

    def __init__(self, bridge: Mirror, puppet: Puppet, owner: UserID, mxid: RoomID | None, encrypted: bool) -> None:
        super().__init__()
        self.bridge, self.az, self.matrix, self.loop = bridge, bridge.az, bridge.matrix, bridge.loop
        self.puppet, self.owner, self.mxid, self.encrypted = puppet, owner, mxid, encrypted
        self.main_intent = puppet.default_mxid_intent

    async def save(self) -> None:
        await self.bridge.db.execute(
            "INSERT INTO portal (ghost, owner, mxid, encrypted) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (ghost, owner) DO UPDATE SET mxid = excluded.mxid, encrypted = excluded.encrypted",
            self.puppet.default_mxid,
            self.owner,
            self.mxid,
            self.encrypted,
        )

    async def delete(self) -> None:
        await self.bridge.db.execute("DELETE FROM portal WHERE mxid = $1", self.mxid)

    async def get_dm_puppet(self) -> Puppet:
        return self.puppet

    @property
    def bridge_info_state_key(self) -> str:
        return "mirror"

    @property
    def bridge_info(self) -> dict[str, Any]:
        return {}

    async def handle_matrix_message(
        self, sender: User, message: MessageEventContent, event_id: EventID
    ) -> None:
        again = message.serialize()
        again["body"] = f"again: {message.body}"
        await self._send_message(self.main_intent, TextMessageEventContent.deserialize(again))


class Matrix(BaseMatrixHandler):
    def __init__(self, bridge: Mirror) -> None:
        self.user_id_prefix = "@" + bridge.config["bridge.username_template"].format(userid="")
        self.user_id_suffix = ":" + bridge.config["homeserver.domain"]
        super().__init__(bridge=bridge)


class Mirror(Bridge):
    module = "mirror"
    name = "mirror"
    command = "python -m mirror"
    description = "A bridge to a network where everybody says what they were told"
    version = "1"
    repo_url = "https://example.org"
    markdown_version = "1"
    config_class = Config
    matrix_class = Matrix
    upgrade_table = upgrade_table

    def __init__(self) -> None:
        super().__init__()
        self.puppets: dict[UserID, Puppet] = {}
        self.users: dict[UserID, User] = {}
        self.portals: dict[tuple[UserID, UserID], Portal] = {}

    async def get_user(self, user_id: UserID, create: bool = True) -> User:
        return self.users.setdefault(user_id, User(self, user_id))

    async def portal_of(self, puppet: Puppet, owner: User) -> Portal:
        key = (puppet.default_mxid, owner.mxid)
        if key not in self.portals:
            self.portals[key] = Portal(self, puppet, owner.mxid, None, False)
        return self.portals[key]

    async def get_portal(self, room_id: RoomID) -> Portal | None:
        for portal in self.portals.values():
            if portal.mxid == room_id:
                return portal
        row = await self.db.fetchrow("SELECT ghost, owner, encrypted FROM portal WHERE mxid = $1", room_id)
        if not row:
            return None
        puppet = await self.get_puppet(row["ghost"])
        portal = Portal(self, puppet, row["owner"], room_id, bool(row["encrypted"]))
        return self.portals.setdefault((puppet.default_mxid, portal.owner), portal)

    def is_bridge_ghost(self, user_id: UserID) -> bool:
        matrix = self.matrix
        return user_id.startswith(matrix.user_id_prefix) and user_id.endswith(matrix.user_id_suffix)

    async def get_puppet(self, user_id: UserID, create: bool = False) -> Puppet | None:
        if not self.is_bridge_ghost(user_id) or user_id == self.az.bot_mxid:
            return None
        if user_id not in self.puppets:
            self.puppets[user_id] = Puppet(self, user_id)
        return self.puppets[user_id]

    async def get_double_puppet(self, user_id: UserID) -> None:
        return None

    async def count_logged_in_users(self) -> int:
        return 1


Mirror().run()
