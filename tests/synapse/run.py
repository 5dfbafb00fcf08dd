"""Rhizome and Synapse as peers, over TLS on loopback, driven only through the client API.

usage: run.py PATH_TO_RHIZOME [PART_OF_A_STORY'S_NAME]
(with a Python that has `matrix-synapse` installed)

The stories of coming_and_going.py and being_there.py are told for each room version with the room on
either server, the versions side by side; those of files.py and outages.py after them, one at a time. Exits
non-zero, with both servers' last log lines, when one fails. `RHIZOME_KEEP=1` keeps the servers' folders.
"""

import os
import pathlib
import shutil
import sys
import tempfile
import threading
import time

import being_there
import coming_and_going
import files
from certificates import certificate, write_pem
from outages import OUTAGES
from pairs import Pair
from people import Person
from servers import Failed, Rhizome, Synapse
from world import World

ROOM_VERSIONS = ["10", "11", "12"]
# Profiles first: a new name is told to every room that somebody is in.
STORIES = being_there.STORIES + coming_and_going.STORIES


class Report:
    """Tells stories and how they ended, one line each."""

    def __init__(self, wanted):
        self.wanted = wanted
        self.passed = self.failed = 0
        self.lock = threading.Lock()

    def tell(self, story, about, *args):
        if self.wanted not in story.__name__:
            return
        start = time.monotonic()
        error = None
        try:
            story(*args)
        except Exception as failure:  # whatever it is, the next story is told
            error = f"{type(failure).__name__}: {failure}"
        took = f"{time.monotonic() - start:.1f} s"
        name = story.__name__.replace("_", " ") + about
        with self.lock:
            if error:
                self.failed += 1
                print(f"FAILED  {name} ({took}): {error}", flush=True)
            else:
                self.passed += 1
                print(f"ok      {name} ({took})", flush=True)


def lane(rhizome, synapse, version):
    """A room version's people: the same, with the room on either server."""
    ours, theirs, our_friend, their_friend = (
        Person(server, f"{name}{version}")
        for name in ("person", "friend")
        for server in (rhizome, synapse)
    )
    return [
        Pair(ours, theirs, our_friend, their_friend, version),
        Pair(theirs, ours, their_friend, our_friend, version),
    ]


def tell_lane(report, pairs):
    for pair in pairs:
        for story in STORIES:
            about = f", version {pair.version}, room on {pair.host.server.kind}"
            report.tell(story, about, pair)


def tell_all(report, rhizome, synapse):
    lanes = [lane(rhizome, synapse, version) for version in ROOM_VERSIONS]
    threads = [threading.Thread(target=tell_lane, args=(report, pairs)) for pairs in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for story in files.STORIES:
        report.tell(story, "", lanes[-1][0])
    world = World(rhizome, synapse, Person(synapse, "admin", admin=True), lanes)
    for story in OUTAGES:
        report.tell(story, "", world)


def servers_in(root, binary):
    """Both, with certificates of one authority that both trust."""
    ca_key, ca = certificate("Throwaway authority")
    write_pem(root, "ca", ca_key, ca)
    for kind in ["rhizome", "synapse"]:
        (root / kind).mkdir()
        write_pem(root / kind, "tls", *certificate("localhost", ca, ca_key))
    ca_file = root / "ca.crt"
    more = f"[media]\nmax_remote_size = {files.MOST_FETCHED}\n"
    rhizome = Rhizome(binary, root / "rhizome", ca_file, more=more)
    return [rhizome, Synapse(root / "synapse", ca_file)]


def main(binary, wanted=""):
    root = pathlib.Path(tempfile.mkdtemp(prefix="rhizome-synapse."))
    report = Report(wanted)
    start = time.monotonic()
    servers = servers_in(root, str(pathlib.Path(binary).resolve()))
    try:
        for server in servers:
            server.start()
        tell_all(report, *servers)
    except Failed as error:
        report.failed += 1
        print(f"FAILED  {error}")
    finally:
        for server in servers:
            server.stop()
    if report.failed:
        for server in servers:
            print(f"\n---- {server.kind}: last lines\n{server.last_lines(60)}")
    if os.environ.get("RHIZOME_KEEP"):
        print(f"kept: {root}")
    else:
        shutil.rmtree(root, ignore_errors=True)
    print(f"{report.passed} passed, {report.failed} failed, in {time.monotonic() - start:.0f} s")
    return 1 if report.failed or not report.passed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
