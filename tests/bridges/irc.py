"""An IRC server (ngIRCd) and a person there, over a socket."""

import os
import pathlib
import shutil
import socket

from programs import Failed, Program, free_port, until

CONFIG = """
[Global]
    Name = irc.example.org
    Info = For a test
    Listen = 127.0.0.1
    Ports = {port}
    MotdPhrase = Hello
[Limits]
    MaxPenaltyTime = 0
    MaxConnectionsIP = 0
    MaxNickLength = 30
[Options]
    DNS = no
    Ident = no
    PAM = no
    SyslogFacility = local1
"""


class Ngircd(Program):
    def __init__(self, folder):
        self.port = free_port()
        config = folder / "ngircd.conf"
        config.write_text(CONFIG.format(port=self.port))
        # Started by root it becomes somebody else, who has to reach nothing.
        where = shutil.which("ngircd") or "/usr/sbin/ngircd"
        super().__init__("ngircd", [where, "--nodaemon", "--config", str(config)], folder)

    def start(self):
        super().start()

        def listens():
            if self.process.poll() is not None:
                raise Failed(f"ngircd ended with {self.process.returncode}")
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                return False
            return True

        until("ngircd listens", listens)


class Chatter:
    """A person on IRC: what comes is kept as lines."""

    def __init__(self, port, nick):
        self.nick = nick
        self.lines = []
        self.rest = b""
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(0.05)
        self.send(f"NICK {nick}")
        self.send(f"USER {nick} 0 * :A person on IRC")
        self.until_heard(" 001 ")

    def send(self, line):
        self.socket.sendall(f"{line}\r\n".encode())

    def take(self):
        """Takes what has come, and answers the server's pings."""
        try:
            came = self.socket.recv(65536)
            if not came:
                raise Failed(f"{self.nick} was cut off by the IRC server: {self.lines[-3:]}")
        except TimeoutError:
            return
        *lines, self.rest = (self.rest + came).split(b"\r\n")
        for line in lines:
            text = line.decode(errors="replace")
            if text.startswith("PING"):
                self.send("PONG" + text[4:])
            self.lines.append(text)

    def until_heard(self, *parts):
        """Until a line has come that has all of `parts`."""

        def check():
            self.take()
            return any(all(part in line for part in parts) for line in self.lines)

        try:
            until(f"{self.nick} on IRC hears {parts}", check)
        except Failed as failed:
            raise Failed(f"{failed}; the last lines: {self.lines[-5:]}") from None

    def close(self):
        self.socket.close()
