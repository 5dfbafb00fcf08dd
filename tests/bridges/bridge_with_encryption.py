"""A bridge of the mautrix family (mautrix-python) that encrypts as its bot's device, and whose ghosts talk."""

import json
import pathlib

from encrypted import Encrypted
from matrix import someone
from programs import Program, free_port

HERE = str(pathlib.Path(__file__).resolve().parent)
ID = "mirror"


def a_bridge_with_encryption(world):
    """It makes its device itself, hears of keys in its transactions, and answers encrypted."""
    folder = world.folder("mirror")
    port = free_port()
    # JSON is YAML. What isn't said is as in the bridge's example.
    settings = {
        "homeserver": {"address": world.rhizome.base, "domain": world.rhizome.name},
        "appservice": {"address": f"http://127.0.0.1:{port}", "port": port},
    }
    (folder / "config.yaml").write_text(json.dumps(settings))
    command = ["env", f"PYTHONPATH={HERE}", str(world.tools / "mautrix/bin/python"), "-B", "-m", "mirror"]
    written = str(world.rhizome.registrations / "mirror.yaml")
    world.run(Program("mirror-generate", [*command, "-g", "-r", written], folder))
    with open(written, "a") as registration:
        # What programs with mautrix-python leave to whoever sets them up.
        registration.write("org.matrix.msc3202: true\n")
    world.rhizome.reload(ID)
    mirror = Program("mirror", command, folder)
    world.start(mirror)
    mirror.until_says("running forever")
    world.say("the server and the bridge hear each other; its bot has a device that it made")

    ghost, bot = (f"@{name}:{world.rhizome.name}" for name in ["mirror_twin", "mirrorbot"])
    phone = Encrypted(someone(world.rhizome, "dora"), "phone")
    laptop = None
    try:
        room = phone.chat_with(ghost)
        phone.until_joined(room, ghost, bot)
        phone.until_hears(room, ghost, "Portal to private chat created.")
        world.say("a ghost that was never there accepts an invite to an encrypted room, and fetches the bot")

        phone.say(room, "who are you?")
        phone.until_hears(room, ghost, "again: who are you?")
        for number in range(5):
            phone.say(room, f"number {number}")
        phone.until_hears(room, ghost, "again: number 4")
        answers = [text for _, _, text, _ in phone.heard if text.startswith("again: number")]
        assert answers == [f"again: number {number}" for number in range(5)], answers
        world.say("it answers encrypted, in order")

        laptop = Encrypted(phone.person, "laptop")
        laptop.until_joined(room, ghost, bot)
        laptop.say(room, "from another device")
        for device in (phone, laptop):
            device.until_hears(room, ghost, "again: from another device")
        world.say("it hears of a new device, which can read the answer")

        mirror.stop()
        phone.say(room, "are you there?")
        laptop.say(room, "or there?")
        mirror.start()
        for device in (phone, laptop):
            device.until_hears(room, ghost, "again: are you there?")
            device.until_hears(room, ghost, "again: or there?")
        world.rhizome.until_told(ID)
        world.say("while it was away nothing was lost, keys neither")
    finally:
        for device in filter(None, [phone, laptop]):
            device.close()
