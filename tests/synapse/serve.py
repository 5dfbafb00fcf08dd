"""Two servers that federate, for the programs of tests/clients: until it is stopped.

usage: serve.py PATH_TO_RHIZOME KIND KIND
(with a Python that has `matrix-synapse` installed; a KIND is `rhizome` or `synapse`)

Prints a line of JSON as `rhizome demo --serve` does, with the first server as `north` and the second as `south`. Anybody
may register on either. What the servers say goes to standard error at the end.
"""

import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import threading

from certificates import certificate, write_pem
from pairs import at_once
from servers import Rhizome, Synapse

ANYBODY_ON_RHIZOME = {
    "RHIZOME__REGISTRATION__MODE": "open",
    "RHIZOME__REGISTRATION__STRANGERS_MAY_REGISTER_AND_I_ACCEPT_THE_ABUSE": "true",
}
ON_SYNAPSE = {
    "enable_registration": True,
    "enable_registration_without_verification": True,
    # Dehydrated devices.
    "experimental_features": {"msc3814_enabled": True},
}


def make(kind, binary, folder, ca):
    if kind == "rhizome":
        return Rhizome(binary, folder, ca, cable=False)
    return Synapse(folder, ca, cable=False, more=ON_SYNAPSE)


def main(binary, *kinds):
    os.environ.update(ANYBODY_ON_RHIZOME)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    root = pathlib.Path(tempfile.mkdtemp(prefix="rhizome-pair."))
    servers = {}
    binary = str(pathlib.Path(binary).resolve())
    try:
        ca_key, ca = certificate("Throwaway authority")
        write_pem(root, "ca", ca_key, ca)
        for where, kind in zip(["north", "south"], kinds, strict=True):
            folder = root / where
            folder.mkdir()
            write_pem(folder, "tls", *certificate("localhost", ca, ca_key))
            servers[where] = make(kind, binary, folder, root / "ca.crt")
        at_once([server.start for server in servers.values()])
        addresses = {where: {"name": s.name, "url": s.base} for where, s in servers.items()}
        print(json.dumps(addresses, separators=(",", ":")), flush=True)
        stopped.wait()
    finally:
        for where, server in servers.items():
            server.stop()
            print(f"---- {where}, {server.kind}\n{server.last_lines(60)}", file=sys.stderr)
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
