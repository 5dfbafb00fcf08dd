"""heisenbridge: a person on IRC and one here."""

from irc import Chatter, Ngircd
from matrix import refusal, someone
from programs import Program, free_port

ID = "heisenbridge"


def a_bridge_to_irc(world):
    """Talk, come, go and change names, from either side."""
    folder = world.folder("irc")
    listens = free_port()
    registration = world.rhizome.registrations / "heisenbridge.yaml"
    bridge = [str(world.tools / "heisenbridge/bin/python"), "-m", "heisenbridge", "-c", str(registration)]
    world.run(Program("heisenbridge-generate", [*bridge, "-p", str(listens), "--generate"], folder))
    world.rhizome.reload(ID)

    alice = someone(world.rhizome, "alice")
    ngircd = world.start(Ngircd(folder))
    heisenbridge = Program(
        "heisenbridge", [*bridge, "-vv", "-p", str(listens), "-o", alice.id, world.rhizome.base], folder
    )
    world.start(heisenbridge)
    bob = Chatter(ngircd.port, "bob")
    try:
        _tell(world, alice, bob, ngircd)
    finally:
        bob.close()


def _tell(world, alice, bob, ngircd):
    say = world.say
    bot = f"@{ID}:{world.rhizome.name}"
    own = alice.until_invited()
    alice.join(own)
    alice.until_sees(own, bot, "ADDNETWORK")
    # As somebody would who isn't the owner.
    control = alice.chat_with(bot)
    alice.until_member_is(control, bot, "join")
    for line in [
        "ADDNETWORK test",
        f"ADDSERVER test 127.0.0.1 {ngircd.port}",
        "SYNC --full",
        "OPEN test",
    ]:
        alice.say(control, line)
    network = alice.until_invited()
    alice.join(network)
    say("the bridge's bot takes commands and invites to a room for the network")
    alice.say(network, "NICK alice")
    alice.say(network, "CONNECT")
    alice.until_sees(network, bot, "End of MOTD")

    bob.send("JOIN #garden")
    bob.until_heard(" 366 ", "#garden")
    alice.say(network, "JOIN #garden")
    channel = alice.until_invited()
    alice.join(channel)
    bob.until_heard(":alice!", "JOIN", "#garden")
    ghost = f"@irc_test_bob:{world.rhizome.name}"
    alice.until_member_is(channel, ghost, "join")
    say("alice joins a channel by the bridge; bob on IRC sees her, and she him")

    alice.say(channel, "good morning, bob")
    bob.until_heard(":alice!", "PRIVMSG #garden", "good morning, bob")
    bob.send("PRIVMSG #garden :good morning, alice")
    alice.until_sees(channel, ghost, "good morning, alice")
    seeds = [f"seed {number}" for number in range(6)]
    for seed in seeds:
        bob.send(f"PRIVMSG #garden :{seed}")
    alice.until_sees(channel, ghost, seeds[-1])
    # The bridge makes one message of lines that come at once.
    came = [line for text in alice.said(channel, ghost) for line in text.split("\n") if "seed" in line]
    assert came == seeds, came
    for number in range(6):
        alice.say(channel, f"leaf {number}")
    bob.until_heard("PRIVMSG #garden", "leaf 5")
    leaves = [line[-1] for line in bob.lines if "leaf" in line]
    assert leaves == list("012345"), leaves
    say("they talk, and what they say comes in order")

    carol = Chatter(ngircd.port, "carol")
    carol.send("JOIN #garden")
    guest = f"@irc_test_carol:{world.rhizome.name}"
    alice.until_member_is(channel, guest, "join")
    carol.send("PART #garden :supper")
    alice.until_member_is(channel, guest, "leave")
    carol.close()
    say("carol on IRC comes and goes")

    bob.send("NICK robert")
    renamed = f"@irc_test_robert:{world.rhizome.name}"
    alice.until_member_is(channel, renamed, "join")
    alice.until_member_is(channel, ghost, "leave")
    bob.send("PRIVMSG #garden :I'm robert now")
    alice.until_sees(channel, renamed, "I'm robert now")
    alice.say(network, "NICK alicia")
    bob.until_heard(":alice!", "NICK", "alicia")
    alice.say(channel, "and I'm alicia")
    bob.until_heard(":alicia!", "PRIVMSG #garden", "and I'm alicia")
    say("both change their names")

    alice.say(network, "QUERY robert between us")
    bob.until_heard(":alicia!", "PRIVMSG robert", "between us")
    private = alice.until_invited()
    alice.join(private)
    bob.send("PRIVMSG alicia :only for you")
    alice.until_sees(private, renamed, "only for you")
    say("they talk by themselves")

    refused = refusal(lambda: someone(world.rhizome, "irc_test_somebody"))
    assert refused == "M_EXCLUSIVE", refused
    say("nobody gets a name that is the bridge's")

    alice.leave(channel)
    bob.until_heard(":alicia!", "PART #garden")
    say("alice leaves, which bob sees")
    world.rhizome.until_told(ID)
