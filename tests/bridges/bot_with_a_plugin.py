"""maubot with a plugin, as an application service: its device comes from a login with the service's token."""

import json
import pathlib
import secrets

from api import request
from encrypted import Encrypted
from matrix import someone
from programs import Program, free_port

PLUGIN = pathlib.Path(__file__).resolve().parent / "plugin"
ID = "maubot"


def a_bot_with_a_plugin(world):
    """It masquerades as a device in an encrypted room, and hears commands in transactions."""
    folder = world.folder("maubot")
    port, server = free_port(), world.rhizome
    tokens = {name: secrets.token_hex(32) for name in ["as_token", "hs_token"]}
    # It writes none itself. JSON is YAML.
    registration = {
        "id": ID,
        "url": f"http://127.0.0.1:{port}",
        **tokens,
        "sender_localpart": "maubots",
        "namespaces": {"users": [{"exclusive": True, "regex": "@bot_.*"}]},
        "receive_ephemeral": True,
        "org.matrix.msc3202": True,
    }
    (server.registrations / "maubot.yaml").write_text(json.dumps(registration))
    server.reload(ID)

    bot, kind = f"@bot_counting:{server.name}", "m.login.application_service"

    def as_service(path, body):
        return request(server, "POST", f"/_matrix/client/v3{path}", body, tokens["as_token"])

    as_service("/register", {"type": kind, "username": "bot_counting", "inhibit_login": True})
    identifier = {"type": "m.id.user", "user": bot}
    login = as_service("/login", {"type": kind, "identifier": identifier})
    config = {
        "user": {
            "credentials": {
                "id": bot,
                "homeserver": server.base,
                "access_token": tokens["as_token"],
                "device_id": login["device_id"],
            },
            "sync": False,
            "appservice": True,
            "hs_token": tokens["hs_token"],
            "autojoin": True,
            "displayname": "Counting",
            "avatar_url": "disable",
        },
        "server": {"hostname": "127.0.0.1", "port": port},
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    python = str(world.tools / "mautrix/bin/python")
    command = [python, "-B", "-m", "maubot.standalone", "-m", str(PLUGIN / "maubot.yaml")]
    maubot = world.start(Program("maubot", command, folder))
    maubot.until_says("Startup completed")
    world.say("maubot starts with a device from a login with the service's token")

    phone = Encrypted(someone(server, "erin"), "phone")
    try:
        room = phone.chat_with(bot)
        phone.until_joined(room, bot)
        phone.say(room, "!count marigold")
        phone.until_hears(room, bot, "8 letters")
        phone.say(room, "!count")
        phone.until_hears(room, bot, "0 letters")
        world.say("it joins an encrypted room, and its plugin answers there")
        server.until_told(ID)
    finally:
        phone.close()
