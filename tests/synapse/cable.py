"""The cable that leads to a server's federation port, and that can be cut."""

import asyncio
import contextlib
import threading


class Cable:
    """Relays every connection to `port` towards `target`, both on loopback."""

    def __init__(self, target):
        self.target = target
        self.intact = True
        self.ends = set()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        listening = asyncio.start_server(self._connected, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(listening, self.loop).result()
        self.port = server.sockets[0].getsockname()[1]

    def cut(self):
        """Breaks the connections that there are, and every new one."""
        self.intact = False
        self.loop.call_soon_threadsafe(self._break_all)

    def mend(self):
        self.intact = True

    def _break_all(self):
        for end in self.ends:
            end.transport.abort()

    async def _connected(self, reader, writer):
        if not self.intact:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        self.ends |= pair
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        self.ends -= pair


async def _pump(reader, writer):
    with contextlib.suppress(OSError):
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
    writer.close()
