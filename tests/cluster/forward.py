"""Carry TCP connections from a listener in one network namespace to a server in another.

listen HOST PORT COMMAND...   bind, then exec COMMAND with the listening socket as file descriptor 9
serve HOST PORT               accept from file descriptor 9 and connect each to HOST:PORT, seen from here
"""

import asyncio
import os
import socket
import sys

LISTENER = 9


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(host: str, port: int) -> None:
    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

    server = await asyncio.start_server(connect, sock=socket.socket(fileno=LISTENER))
    await server.serve_forever()


mode, host, port, *command = sys.argv[1:]
if mode == "listen":
    listener = socket.create_server((host, int(port)))
    os.dup2(listener.fileno(), LISTENER, inheritable=True)
    os.execvp(command[0], command)
asyncio.run(serve(host, int(port)))
