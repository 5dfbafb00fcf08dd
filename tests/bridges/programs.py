"""Programs that run beside a story: started, waited for, stopped, and asked what they said last."""

import os
import re
import signal
import subprocess
import time

from api import ApiError, request
from servers import SECRET, Failed, Server, free_port

PATIENCE = 60  # seconds that anything may take to come about
BETWEEN = 0.05  # seconds between two looks
LAST = 60  # lines of a log that are shown when something fails


def until(what, check):
    """Looks again and again until `check()` gives something, which is given back."""
    deadline = time.monotonic() + PATIENCE
    while not (found := check()):
        if time.monotonic() > deadline:
            raise Failed(f"within {PATIENCE} s: {what}")
        time.sleep(BETWEEN)
    return found


class Program:
    """A process with its output in a file."""

    def __init__(self, name, command, folder):
        self.name, self.command, self.folder = name, command, folder
        self.log = folder / f"{name}.log"
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, cwd=self.folder, stdout=log, stderr=log)

    def until_says(self, text):
        """Until its output has `text`."""

        def check():
            said = self.log.read_text(errors="replace")
            if text not in said and self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode}")
            return text in said

        until(f"{self.name} says {text!r}", check)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def last_lines(self):
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-LAST:])


class Rhizome(Server):
    """The server, with the registrations that are in the folder `appservices`."""

    kind = "Rhizome"

    def __init__(self, binary, folder):
        super().__init__(folder, cable=False)
        self.name = "bridges.example.org"
        self.registrations = folder / "appservices"
        self.registrations.mkdir()
        self.config = folder / "rhizome.toml"
        self.binary = binary
        self.config.write_text(
            f"""
[server]
name = "{self.name}"
data_dir = "{folder}/data"

[[listeners]]
address = "127.0.0.1:{self.client_port}"
apis = ["client", "admin"]

[registration]
shared_secret = "{SECRET}"

[federation]
enabled = false

[appservices]
files = ["{self.registrations}/*.yaml"]

[logging]
level = "info,rhizome_appservice=debug"
"""
        )
        self.command = [binary, "serve", "--config", str(self.config)]

    def said_by(self, *command):
        """What a command of the operator's says."""
        whole = [self.binary, *command, "--config", str(self.config)]
        # Nobody else's settings.
        own = {name: value for name, value in os.environ.items() if not name.startswith("RHIZOME_")}
        done = subprocess.run(whole, capture_output=True, text=True, env=own)
        if done.returncode:
            raise Failed(f"rhizome {' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def reload(self, service):
        """Has it read the registrations, and waits until it takes this one's token."""
        self.said_by("appservice", "reload")
        written = (self.registrations / f"{service}.yaml").read_text()
        token = re.search(r'as_token"?: *"?([^"\s]+)', written)[1]

        def is_known():
            try:
                return request(self, "GET", "/_matrix/client/v3/account/whoami", token=token)
            except ApiError:
                return False

        until(f"the token of {service} is known", is_known)

    def until_told(self, service):
        """Until the service has taken all there was to tell."""
        until(
            f"{service} has all",
            lambda: any(
                line.startswith(service) and "has all" in line
                for line in self.said_by("appservice", "list").splitlines()
            ),
        )


__all__ = ["Failed", "Program", "Rhizome", "free_port", "until"]
