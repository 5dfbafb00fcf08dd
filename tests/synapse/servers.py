"""Rhizome and Synapse as processes that can be stopped, killed and started again."""

import json
import signal
import socket
import subprocess
import sys
import time

from api import ApiError, request
from cable import Cable

SECRET = "a shared secret for the tests only"
START_WITHIN = 90  # seconds


class Failed(Exception):
    """Something did not come about."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A homeserver process: `name` is its Matrix server name, `base` its client API, `cable` what
    leads to it from other servers; without one they come straight to it."""

    kind = command = None

    def __init__(self, folder, cable):
        self.folder = folder
        self.client_port = free_port()
        self.federation_port = free_port()
        self.cable = Cable(self.federation_port) if cable else None
        self.name = f"localhost:{self.cable.port if cable else self.federation_port}"
        self.base = f"http://127.0.0.1:{self.client_port}"
        self.process = None

    def start(self):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(self.command, cwd=self.folder, stdout=log, stderr=log)
        deadline = time.monotonic() + START_WITHIN
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failed(f"{self.kind} ended at start with {self.process.returncode}")
            try:
                request(self, "GET", "/_matrix/client/versions")
                return
            except (OSError, ApiError):
                time.sleep(0.05)
        raise Failed(f"{self.kind} did not answer within {START_WITHIN} s")

    def stop(self):
        """An orderly stop."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self):
        """As a power failure would."""
        self.process.kill()
        self.process.wait()

    def last_lines(self, count):
        log = (self.folder / "log").read_text(errors="replace")
        return "\n".join(log.splitlines()[-count:])


class Rhizome(Server):
    kind = "Rhizome"

    def __init__(self, binary, folder, ca, cable=True, database=None, more=""):
        """`database`: a URL, else SQLite in `folder`; `more`: further sections of the settings."""
        super().__init__(folder, cable)
        config = folder / "config.toml"
        config.write_text(
            f"""
[server]
name = "{self.name}"
data_dir = "{folder}/data"

[database]
url = "{database or f'sqlite:{folder}/rhizome.db'}"

[[listeners]]
address = "127.0.0.1:{self.client_port}"
apis = ["client", "admin"]

[[listeners]]
address = "127.0.0.1:{self.federation_port}"
apis = ["federation"]
tls = {{ certificate = "{folder}/tls.crt", key = "{folder}/tls.key" }}

[registration]
shared_secret = "{SECRET}"

[rate_limits]
enabled = false

[federation]
extra_ca_certificates = ["{ca}"]
allowed_ranges = ["127.0.0.0/8"]
trusted_key_servers = []
{more}"""
        )
        self.command = [binary, "serve", "--config", str(config)]


class Synapse(Server):
    kind = "Synapse"

    def __init__(self, folder, ca, cable=True, more=None):
        """`more`: settings that replace or add to those here."""
        super().__init__(folder, cable)
        # JSON is YAML.
        settings = {**self._config(ca), **(more or {})}
        (folder / "homeserver.yaml").write_text(json.dumps(settings))
        (folder / "log.yaml").write_text(json.dumps(LOGGING))
        config = str(folder / "homeserver.yaml")
        self.command = [sys.executable, "-m", "synapse.app.homeserver", "-c", config]
        generate = [*self.command, "--generate-keys"]
        subprocess.run(generate, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    def _config(self, ca):
        folder = self.folder
        return {
            "server_name": self.name,
            "report_stats": False,
            "pid_file": str(folder / "pid"),
            "listeners": [
                _listener(self.client_port, ["client"]),
                {**_listener(self.federation_port, ["federation", "keys"]), "tls": True},
            ],
            "tls_certificate_path": str(folder / "tls.crt"),
            "tls_private_key_path": str(folder / "tls.key"),
            "federation_custom_ca_list": [str(ca)],
            "ip_range_blacklist": [],
            "federation_ip_range_blacklist": [],
            # It gives up after two attempts within seconds, and then is silent for ten minutes unless it
            # is spoken to.
            "federation": {"max_long_retries": 1},
            "trusted_key_servers": [],
            "suppress_key_server_warning": True,
            "database": {"name": "sqlite3", "args": {"database": str(folder / "synapse.db")}},
            "media_store_path": str(folder / "media"),
            "signing_key_path": str(folder / "signing.key"),
            "registration_shared_secret": SECRET,
            "macaroon_secret_key": "only for the tests",
            "form_secret": "only for the tests",
            "bcrypt_rounds": 4,
            "log_config": str(folder / "log.yaml"),
            "presence": {"enabled": False},
            **NO_RATE_LIMITS,
        }


def _listener(port, resources):
    return {
        "port": port,
        "type": "http",
        "bind_addresses": ["127.0.0.1"],
        "resources": [{"names": resources}],
    }


_UNLIMITED = {"per_second": 10000, "burst_count": 10000}
NO_RATE_LIMITS = {
    "rc_message": _UNLIMITED,
    "rc_room_creation": _UNLIMITED,
    "rc_registration": _UNLIMITED,
    "rc_admin_redaction": _UNLIMITED,
    "rc_joins_per_room": _UNLIMITED,
    "rc_login": {which: _UNLIMITED for which in ["address", "account", "failed_attempts"]},
    "rc_joins": {which: _UNLIMITED for which in ["local", "remote"]},
    "rc_invites": {which: _UNLIMITED for which in ["per_room", "per_user", "per_issuer"]},
    "rc_federation": {"sleep_limit": 10000, "reject_limit": 10000, "concurrent": 10},
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"level": "INFO", "handlers": ["console"]},
    # Every poll of ours is not worth a line.
    "loggers": {"synapse.access": {"level": "WARNING"}},
}
