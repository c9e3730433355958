"""A TCP proxy on a port of its own that hands on every byte later, as a long way would."""

import asyncio
import threading


class Delay:
    """Forwards to a place, everything `seconds` later in each direction. Used by `with`; `port` is where it listens."""

    def __init__(self, address, port, seconds):
        self.place, self.seconds = (address, port), seconds
        self.loop, self.ready = asyncio.new_event_loop(), threading.Event()

    def __enter__(self):
        threading.Thread(target=self.loop.run_until_complete, args=(self.serve(),), daemon=True).start()
        self.ready.wait(10)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.end.set)

    async def serve(self):
        self.end = asyncio.Event()
        server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await self.end.wait()
        server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def accept(self, reader, writer):
        # A connection takes a round trip too before it is there.
        await asyncio.sleep(2 * self.seconds)
        far_reader, far_writer = await asyncio.open_connection(*self.place)
        try:
            await asyncio.gather(self.carry(reader, far_writer), self.carry(far_reader, writer))
        except asyncio.CancelledError:
            pass  # The end, with connections that are kept.

    async def carry(self, reader, writer):
        """What is read is written once its time has come, while more is read."""
        queue = asyncio.Queue()
        late = asyncio.create_task(self.deliver(queue, writer))
        try:
            while piece := await reader.read(1 << 16):
                queue.put_nowait((self.loop.time() + self.seconds, piece))
        except OSError:
            pass
        queue.put_nowait((self.loop.time() + self.seconds, b""))
        await late

    async def deliver(self, queue, writer):
        try:
            while True:
                due, piece = await queue.get()
                await asyncio.sleep(max(0, due - self.loop.time()))
                if not piece:
                    return writer.close()
                writer.write(piece)
        except OSError:
            writer.close()
