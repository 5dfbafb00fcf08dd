"""Bridges and bots of others on a Rhizome, as application services.

usage: run.py PATH_TO_RHIZOME FOLDER_OF_THE_TOOLS [PART_OF_A_STORY'S_NAME]

Each story writes a registration with the bridge's own program, has the server read it, starts the bridge and lets
people use it. Exits non-zero, with what the programs said last, when one fails. `RHIZOME_KEEP=1` keeps the folder.
"""

import os
import pathlib
import shutil
import sys
import tempfile
import time
import traceback

# People, and what starts a server.
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "synapse"))
from bot_with_a_plugin import a_bot_with_a_plugin  # noqa: E402
from bridge_in_javascript import a_bridge_in_javascript  # noqa: E402
from bridge_to_irc import a_bridge_to_irc  # noqa: E402
from bridge_with_encryption import a_bridge_with_encryption  # noqa: E402
from programs import Failed, Rhizome, until  # noqa: E402

STORIES = [
    a_bridge_to_irc,
    a_bridge_with_encryption,
    a_bot_with_a_plugin,
    a_bridge_in_javascript,
]


class World:
    """The server, and what a story has started."""

    def __init__(self, rhizome, tools, root):
        self.rhizome, self.tools, self.root = rhizome, tools, root
        self.programs = []

    def folder(self, name):
        folder = self.root / name
        folder.mkdir()
        return folder

    def start(self, program):
        self.programs.append(program)
        program.start()
        return program

    def run(self, program):
        """Has a program do what it does, to its end."""
        self.start(program)
        until(f"{program.name} ends", lambda: program.process.poll() is not None)
        if program.process.returncode:
            raise Failed(f"{program.name} ended with {program.process.returncode}")

    def say(self, what):
        print(f"        {what}", flush=True)

    def stop(self, failed):
        for program in reversed(self.programs):
            program.stop()
        if failed:
            for program in self.programs:
                print(f"\n---- {program.name}: last lines\n{program.last_lines()}")
            print(f"\n---- Rhizome: last lines\n{self.rhizome.last_lines(80)}")
            # What may be wrong with these is nothing to the next story.
            for registration in self.rhizome.registrations.iterdir():
                registration.unlink()
        self.programs = []


def tell(world, story):
    """Whether it ended well."""
    name, start = story.__name__.replace("_", " "), time.monotonic()
    print(f"        {name}:", flush=True)
    error = None
    try:
        story(world)
    except Exception as failure:  # whatever it is, the next story is told
        error = f"{type(failure).__name__}: {failure}"
        if not isinstance(failure, Failed):
            traceback.print_exc(file=sys.stdout)
    took = f"{time.monotonic() - start:.1f} s"
    print(f"FAILED  {name} ({took}): {error}" if error else f"ok      {name} ({took})", flush=True)
    world.stop(error is not None)
    return error is None


def main(binary, tools, wanted=""):
    root = pathlib.Path(tempfile.mkdtemp(prefix="rhizome-bridges."))
    (root / "rhizome").mkdir()
    rhizome = Rhizome(str(pathlib.Path(binary).resolve()), root / "rhizome")
    passed = failed = 0
    start = time.monotonic()
    try:
        rhizome.start()
        world = World(rhizome, pathlib.Path(tools).resolve(), root)
        for story in STORIES:
            if wanted in story.__name__.replace("_", " "):
                ended_well = tell(world, story)
                passed, failed = passed + ended_well, failed + (not ended_well)
    except Failed as error:
        failed += 1
        print(f"FAILED  {error}\n{rhizome.last_lines(80)}")
    finally:
        rhizome.stop()
    if os.environ.get("RHIZOME_KEEP"):
        print(f"kept: {root}")
    else:
        shutil.rmtree(root, ignore_errors=True)
    print(f"in {time.monotonic() - start:.0f} s", flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
