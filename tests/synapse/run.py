"""Rhizome and Synapse as peers, over TLS on loopback, driven only through the client API.

usage: run.py PATH_TO_RHIZOME      (with a Python that has `matrix-synapse` installed)

For each room version, people of both servers meet in a room of either: they join by alias, invite
each other, write, and must see what the other wrote. Exits non-zero, with both servers' last log
lines, when something doesn't arrive in time.
"""

import datetime
import hashlib
import hmac
import ipaddress
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SECRET = "a shared secret for the tests only"
ROOM_VERSIONS = ["10", "11", "12"]
PATIENCE = 30  # seconds that anything may take to arrive


class Failed(Exception):
    pass


class ApiError(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# ---- a throwaway certificate authority


def certificate(subject, issuer=None, issuer_key=None):
    """A key and a certificate for `subject`: an authority if no issuer is given."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return key, builder.sign(issuer_key or key, hashes.SHA256())


def write_pem(folder, stem, key, cert):
    (folder / f"{stem}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (folder / f"{stem}.crt").write_bytes(cert.public_bytes(serialization.Encoding.PEM))


# ---- servers


class Server:
    """A homeserver process: `name` is its Matrix server name, `base` its client API."""

    def __init__(self, kind, folder):
        self.kind = kind
        self.folder = folder
        self.client_port = free_port()
        self.federation_port = free_port()
        self.name = f"localhost:{self.federation_port}"
        self.base = f"http://127.0.0.1:{self.client_port}"
        self.process = None

    def start(self, command):
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failed(f"{self.kind} ended at start with {self.process.returncode}")
            try:
                request(self, "GET", "/_matrix/client/versions")
                return
            except (OSError, ApiError):
                time.sleep(0.1)
        raise Failed(f"{self.kind} did not answer within 60 s")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()


def start_rhizome(binary, folder, ca):
    server = Server("Rhizome", folder)
    (folder / "config.toml").write_text(
        f"""
[server]
name = "{server.name}"
data_dir = "{folder}/data"

[database]
url = "sqlite:{folder}/rhizome.db"

[[listeners]]
address = "127.0.0.1:{server.client_port}"
apis = ["client", "admin"]

[[listeners]]
address = "127.0.0.1:{server.federation_port}"
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
"""
    )
    server.start([binary, "serve", "--config", str(folder / "config.toml")])
    return server


def start_synapse(folder, ca):
    server = Server("Synapse", folder)
    config = {
        "server_name": server.name,
        "report_stats": False,
        "pid_file": str(folder / "pid"),
        "listeners": [
            {
                "port": server.client_port,
                "type": "http",
                "bind_addresses": ["127.0.0.1"],
                "resources": [{"names": ["client"]}],
            },
            {
                "port": server.federation_port,
                "type": "http",
                "tls": True,
                "bind_addresses": ["127.0.0.1"],
                "resources": [{"names": ["federation", "keys"]}],
            },
        ],
        "tls_certificate_path": str(folder / "tls.crt"),
        "tls_private_key_path": str(folder / "tls.key"),
        "federation_custom_ca_list": [str(ca)],
        "ip_range_blacklist": [],
        "federation_ip_range_blacklist": [],
        "trusted_key_servers": [],
        "suppress_key_server_warning": True,
        "database": {"name": "sqlite3", "args": {"database": str(folder / "synapse.db")}},
        "media_store_path": str(folder / "media"),
        "signing_key_path": str(folder / "signing.key"),
        "registration_shared_secret": SECRET,
        "macaroon_secret_key": "only for the tests",
        "form_secret": "only for the tests",
        "log_config": str(folder / "log.yaml"),
        "presence": {"enabled": False},
        **{
            f"rc_{what}": {"per_second": 10000, "burst_count": 10000}
            for what in ["message", "registration", "admin_redaction"]
        },
        "rc_login": {
            which: {"per_second": 10000, "burst_count": 10000}
            for which in ["address", "account", "failed_attempts"]
        },
        "rc_joins": {
            which: {"per_second": 10000, "burst_count": 10000} for which in ["local", "remote"]
        },
        "rc_invites": {
            which: {"per_second": 10000, "burst_count": 10000}
            for which in ["per_room", "per_user", "per_issuer"]
        },
    }
    logging = {
        "version": 1,
        "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
        "root": {"level": "INFO", "handlers": ["console"]},
        # Every poll of ours is not worth a line.
        "loggers": {"synapse.access": {"level": "WARNING"}},
    }
    # JSON is YAML.
    (folder / "homeserver.yaml").write_text(json.dumps(config))
    (folder / "log.yaml").write_text(json.dumps(logging))
    command = [sys.executable, "-m", "synapse.app.homeserver", "-c", str(folder / "homeserver.yaml")]
    subprocess.run([*command, "--generate-keys"], cwd=folder, check=True)
    server.start(command)
    return server


# ---- the client API


def request(server, method, path, body=None, token=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    call = urllib.request.Request(server.base + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(call, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise ApiError(error.code, error.read().decode(errors="replace")) from None


def quote(part):
    return urllib.parse.quote(part, safe="")


class User:
    """A person with an account on a server, and the position of their last sync."""

    def __init__(self, server, localpart):
        nonce = request(server, "GET", "/_synapse/admin/v1/register")["nonce"]
        mac = hmac.new(SECRET.encode(), digestmod=hashlib.sha1)
        mac.update("\0".join([nonce, localpart, "correct horse", "notadmin"]).encode())
        answer = request(
            server,
            "POST",
            "/_synapse/admin/v1/register",
            {
                "nonce": nonce,
                "username": localpart,
                "password": "correct horse",
                "admin": False,
                "mac": mac.hexdigest(),
            },
        )
        self.server = server
        self.id = answer["user_id"]
        self.token = answer["access_token"]
        self.transaction = 0
        self.since = None
        self.seen = set()
        self.invites = set()

    def call(self, method, path, body=None):
        return request(self.server, method, "/_matrix/client/v3" + path, body, self.token)

    def create_room(self, version, alias, **more):
        body = {"room_version": version, "room_alias_name": alias, **more}
        return self.call("POST", "/createRoom", body)["room_id"]

    def join(self, room_or_alias):
        return self.call("POST", f"/join/{quote(room_or_alias)}", {})["room_id"]

    def say(self, room, text):
        self.transaction += 1
        return self.call(
            "PUT",
            f"/rooms/{quote(room)}/send/m.room.message/t{self.transaction}",
            {"msgtype": "m.text", "body": text},
        )["event_id"]

    def sync(self):
        """Takes what is new; what was seen once stays seen."""
        since = f"&since={quote(self.since)}" if self.since else ""
        answer = self.call("GET", f"/sync?timeout=0{since}")
        self.since = answer["next_batch"]
        rooms = answer.get("rooms", {})
        self.invites.update(rooms.get("invite", {}))
        for room, joined in rooms.get("join", {}).items():
            for event in joined.get("timeline", {}).get("events", []):
                self.seen.add((room, event["event_id"]))

    def invited_to(self, room):
        self.sync()
        return room in self.invites

    def sees(self, room, event_id):
        self.sync()
        return (room, event_id) in self.seen

    def recent(self, room):
        return self.call("GET", f"/rooms/{quote(room)}/messages?dir=b&limit=100")["chunk"]

    def members(self, room):
        chunk = self.call("GET", f"/rooms/{quote(room)}/members")["chunk"]
        return {event["state_key"]: event["content"]["membership"] for event in chunk}


def eventually(what, check):
    """Asks until `check()` holds; fails with `what` when that takes too long."""
    deadline = time.monotonic() + PATIENCE
    last = None
    while time.monotonic() < deadline:
        try:
            if check():
                return
        except ApiError as error:
            last = error
        time.sleep(0.1)
    raise Failed(f"not within {PATIENCE} s: {what}" + (f" (last answer: {last})" if last else ""))


# ---- stories


def talk(host, guest, room):
    """Both write; each sees what the other wrote."""
    for speaker, listener in [(host, guest), (guest, host)]:
        event = speaker.say(room, f"{speaker.id} says hello")
        eventually(
            f"{listener.id} sees {event} of {speaker.id}", lambda: listener.sees(room, event)
        )


def join_by_alias(host, guest, version):
    alias = f"meet-{version}"
    room = host.create_room(version, alias, preset="public_chat", name="A room to meet in")
    before = host.say(room, "written before anybody came")
    guest.join(f"#{alias}:{host.server.name}")
    eventually(f"{guest.id} is a member", lambda: host.members(room).get(guest.id) == "join")
    talk(host, guest, room)
    eventually(
        "the guest pages back to before the join",
        lambda: any(event["event_id"] == before for event in guest.recent(room)),
    )


def invite(host, guest, version):
    room = host.create_room(version, f"private-{version}", preset="private_chat")
    host.call("POST", f"/rooms/{quote(room)}/invite", {"user_id": guest.id})
    eventually(f"{guest.id} sees the invite", lambda: guest.invited_to(room))
    guest.join(room)
    eventually(f"{guest.id} is a member", lambda: host.members(room).get(guest.id) == "join")
    talk(host, guest, room)
    guest.call("POST", f"/rooms/{quote(room)}/leave", {})
    eventually(f"{guest.id} has left", lambda: host.members(room).get(guest.id) == "leave")


STORIES = [join_by_alias, invite]


def main(binary):
    root = pathlib.Path(tempfile.mkdtemp(prefix="rhizome-synapse."))
    servers = []
    passed = failed = 0
    try:
        ca_key, ca = certificate("Throwaway authority")
        write_pem(root, "ca", ca_key, ca)
        for kind in ["rhizome", "synapse"]:
            (root / kind).mkdir()
            write_pem(root / kind, "tls", *certificate("localhost", ca, ca_key))
        servers.append(start_rhizome(binary, root / "rhizome", root / "ca.crt"))
        servers.append(start_synapse(root / "synapse", root / "ca.crt"))
        ours, theirs = (User(server, "person") for server in servers)
        for version in ROOM_VERSIONS:
            for host, guest in [(ours, theirs), (theirs, ours)]:
                for story in STORIES:
                    name = f"{story.__name__}, version {version}, room on {host.server.kind}"
                    start = time.monotonic()
                    try:
                        story(host, guest, version)
                    except (ApiError, Failed) as error:
                        failed += 1
                        print(f"FAILED  {name}: {error}")
                    else:
                        passed += 1
                        print(f"ok      {name} ({time.monotonic() - start:.1f} s)")
    except Failed as error:
        failed += 1
        print(f"FAILED  {error}")
    finally:
        for server in servers:
            server.stop()
        if failed:
            for log in root.glob("*/log"):
                print(f"\n---- {log.parent.name}: last lines")
                print("\n".join(log.read_text(errors="replace").splitlines()[-60:]))
        shutil.rmtree(root, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(str(pathlib.Path(sys.argv[1]).resolve())))
