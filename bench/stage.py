"""Fresh servers for `rhizome-bench`, one pair after the other; run by scripts/bench.

Each pair federates over TLS with a throwaway authority on loopback. Configurations are those of
tests/synapse/servers.py, with limits out of the way.
"""

import argparse
import json
import os
import pathlib
import resource
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE / "tests" / "synapse"))
from certificates import certificate, write_pem  # noqa: E402
from servers import SECRET, Failed, Rhizome, Synapse, free_port  # noqa: E402

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target")).resolve()
TICK = os.sysconf("SC_CLK_TCK")
# The scenario that needs application services, which no other has, and how many.
SERVICES, HOW_MANY = "services", 10
# For accounts without passwords.
JWT_SECRET = "what the tokens of this run alone are signed with"


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--postgres", action="store_true", help="both servers on PostgreSQL")
    parser.add_argument("--no-synapse", action="store_true", help="Rhizome alone")
    parser.add_argument("--only", metavar="NAME,…", help="see `rhizome-bench list`")
    parser.add_argument("--seconds", metavar="S", help="seconds that closed loops are measured for")
    parser.add_argument("--time-limit", metavar="S", help="seconds after which a scenario stops")
    parser.add_argument("--members", metavar="N", help="members of the room of device-storm")
    parser.add_argument("--waiting", metavar="N", help="how many of them wait in /sync")
    parser.add_argument("--searched", metavar="N", help="messages of the scenario that searches")
    parser.add_argument("--people", metavar="N", help="users of the scenario that searches for people")
    parser.add_argument("--service-rooms", metavar="N", help="rooms of each service of the scenario with services")
    parser.add_argument("--idle", metavar="N", help="connections of the idle scenarios")
    parser.add_argument("--quick", action="store_true", help="small counts, to see that it works")
    parser.add_argument("--rhizome", metavar="FILE", help="another binary of Rhizome")
    parser.add_argument(
        "--json", metavar="FILE", default=str(TARGET / "bench.json"), help="default: %(default)s"
    )
    return parser.parse_args()


# ---- databases


def database(name, locale):
    """A new database in the throwaway cluster; its host, port and name."""
    server = urllib.parse.urlsplit(os.environ["RHIZOME_TEST_POSTGRES"])
    where = ["-h", server.hostname, "-p", str(server.port), "-U", "postgres"]
    subprocess.run(
        ["createdb", *where, "-T", "template0", "-E", "UTF8", "--locale", locale, name], check=True
    )
    return server.hostname, server.port, name


def rhizome(binary, folder, ca, postgres, services):
    url = None
    if postgres:
        host, port, name = database(f"bench_{folder.name.replace('-', '_')}", "C.UTF-8")
        url = f"postgres://postgres@{host}:{port}/{name}"
    limits = "\n[http]\nmax_connections = 20000\nmax_connections_per_address = 20000\nmax_request_size = \"2 GiB\"\n[media]\nmax_upload_size = \"2 GiB\"\n[push]\nallow_http = true\nallowed_ranges = [\"127.0.0.0/8\"]\n"
    limits += f"[appservices]\nfiles = {json.dumps([str(file) for file in services])}\n"
    limits += f'[jwt]\nalgorithm = "HS256"\nsecret = "{JWT_SECRET}"\ncreate_accounts = true\n'
    return Rhizome(binary, folder, ca, cable=False, database=url, more=limits)


def synapse(folder, ca, postgres, services):
    many = {"per_second": 1000000, "burst_count": 1000000}
    more = {
        "filter_timeline_limit": -1,
        "app_service_config_files": [str(file) for file in services],
        "max_upload_size": "2G",
        "rc_media_create": many,
        "rc_message": many,
        "rc_registration": many,
        "rc_joins": {"local": many, "remote": many},
        "rc_joins_per_room": many,
        "rc_room_creation": many,
        "rc_federation": {
            "window_size": 1,
            "sleep_limit": 1000000,
            "reject_limit": 1000000,
            "concurrent": 100,
        },
    }
    if postgres:
        host, port, name = database(f"bench_{folder.name.replace('-', '_')}", "C")
        more["database"] = {
            "name": "psycopg2",
            "args": {"user": "postgres", "host": host, "port": port, "dbname": name},
        }
    return Synapse(folder, ca, cable=False, more=more)


# ---- application services


def services(folder):
    """Registrations of services that the load tool records, and a file that tells it of them."""
    files, lines = [], []
    (folder / "services").mkdir()
    for number in range(HOW_MANY):
        sender, token, port = f"service{number}", secrets.token_hex(32), free_port()
        # JSON is YAML.
        registration = {
            "id": sender,
            "url": f"http://127.0.0.1:{port}",
            "as_token": token,
            "hs_token": secrets.token_hex(32),
            "sender_localpart": sender,
            "rate_limited": False,
            "namespaces": {"users": [{"exclusive": True, "regex": f"@service{number}_.*"}]},
        }
        files.append(folder / "services" / f"{number}.yaml")
        files[-1].write_text(json.dumps(registration))
        lines.append(f"{port} {sender} {token}\n")
    told = folder / "services" / "told"
    told.write_text("".join(lines))
    return files, told


# ---- the machine


def busy():
    """CPU seconds that the machine has spent working since it started."""
    fields = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / TICK


def ours(processes):
    """CPU seconds of this process, its ended children, and `processes` with theirs."""
    used = sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, [resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN])
    )
    parents = {}
    ticks = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            ticks[int(entry.name)] = sum(map(int, fields[11:15]))
    for pid in ticks:
        ancestor = pid
        while ancestor and ancestor not in processes:
            ancestor = parents.get(ancestor)
        if ancestor:
            used += ticks[pid] / TICK
    return used


# ---- one pair


def measure(label, pair, options, out, told):
    """Runs the tool against a pair; the share of the machine that others took meanwhile."""
    command = [
        str(TARGET / "release" / "rhizome-bench"),
        *("run", "--label", label, "--json", str(out), "--secret", SECRET),
        *("--server", pair[0].base, "--pid", str(pair[0].process.pid)),
        *("--server2", pair[1].base, "--pid2", str(pair[1].process.pid)),
    ]
    processes = {server.process.pid for server in pair}
    if options.postgres:
        cluster = os.environ["RHIZOME_TEST_POSTGRES_PID"]
        command += ["--database-pid", cluster]
        processes.add(int(cluster))
    for name in ["only", "seconds", "time_limit", "members", "waiting", "searched", "people", "service_rooms", "idle"]:
        value = getattr(options, name)
        if value:
            command += [f"--{name.replace('_', '-')}", value]
    if options.quick:
        command.append("--quick")
    if told:
        command += ["--services", str(told)]
    # Hashing so many passwords would take longer than the rest.
    if options.people and label == "Rhizome":
        command += ["--jwt-secret", JWT_SECRET]
    start, before = time.monotonic(), busy() - ours(processes)
    status = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
    others = busy() - ours(processes) - before
    return status, others / (time.monotonic() - start) / os.cpu_count()


def commit():
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True
    )
    return said.stdout.strip() or "unknown"


def main():
    options = arguments()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    binary = str(pathlib.Path(options.rhizome or TARGET / "release" / "rhizome").resolve())
    kinds = {"Rhizome": lambda *place: rhizome(binary, *place)}
    if not options.no_synapse:
        kinds["Synapse"] = synapse

    root = pathlib.Path(tempfile.mkdtemp(prefix="rhizome-bench."))
    files, notes, failed = [], [], False
    measured = commit()
    try:
        ca_key, ca = certificate("Throwaway authority")
        write_pem(root, "ca", ca_key, ca)
        for kind, start in kinds.items():
            pair, told = [], None
            try:
                for number in ["1", "2"]:
                    folder = root / f"{kind.lower()}-{number}"
                    folder.mkdir()
                    write_pem(folder, "tls", *certificate("localhost", ca, ca_key))
                    registrations = []
                    # The first alone: what they add is seen beside the other.
                    if number == "1" and SERVICES in (options.only or "").split(","):
                        registrations, told = services(folder)
                    pair.append(start(folder, root / "ca.crt", options.postgres, registrations))
                    pair[-1].start()
                files.append(root / f"{kind}.json")
                status, others = measure(kind, pair, options, files[-1], told)
                failed |= status != 0
                notes.append(f"{others:.0%} (during {kind}'s run)")
            finally:
                for server in pair:
                    server.stop()
                if failed:
                    for server in pair:
                        log = (server.folder / "log").read_text(errors="replace")
                        print("\n".join(log.splitlines()[-20:]), file=sys.stderr)
        database_name = "PostgreSQL" if options.postgres else "SQLite"
        print(
            f"Commit {measured}, {time.strftime('%Y-%m-%d')}, {database_name}, "
            f"{os.cpu_count()} cores. Other processes took "
            + ", ".join(notes)
            + " of the machine.\n",
            flush=True,
        )
        table = [str(TARGET / "release" / "rhizome-bench"), "table", *map(str, files)]
        failed |= subprocess.run([*table, "--json", options.json]).returncode != 0
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        failed = True
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
