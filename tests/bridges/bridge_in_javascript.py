"""A bridge with matrix-appservice-bridge (JavaScript), which is asked for users and aliases."""

import shutil

from matrix import someone
from programs import Program, free_port

ID = "harbour"


def a_bridge_in_javascript(world):
    """Rooms and people come to be when they are asked for."""
    folder, server, port = world.folder("harbour"), world.rhizome, free_port()
    registration = str(server.registrations / "harbour.yaml")
    where = [f"HARBOUR_SERVER={server.base}", f"HARBOUR_DOMAIN={server.name}"]
    command = ["env", *where, shutil.which("node"), str(world.tools / "harbour/harbour.cjs")]
    command += ["--file", registration]
    url = f"http://127.0.0.1:{port}"
    generate = [*command, "--generate-registration", "--url", url]
    world.run(Program("harbour-generate", generate, folder))
    server.reload(ID)
    harbour = world.start(Program("harbour", [*command, "--port", str(port)], folder))
    harbour.until_says("the harbour is open")

    alice = someone(server, "fay")
    sailor, newcomer = (f"@harbour_{name}:{server.name}" for name in ["sailor", "newcomer"])
    room = alice.join(f"#harbour_dock:{server.name}")
    world.say("somebody joins by an alias that nobody had, and the bridge makes the room")
    alice.say(room, "is anybody there?")
    alice.until_sees(room, sailor, "ahoy: is anybody there?")
    alice.until_member_is(room, sailor, "join")
    world.say("a ghost comes for what is said, and says it again")
    chat = alice.chat_with(newcomer)
    alice.until_member_is(chat, newcomer, "join")
    world.say("a ghost that wasn't there is invited, and comes")
    server.until_told(ID)
