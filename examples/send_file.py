"""A file over a reliable flow, with progress.

`python send_file.py --receive FOLDER` is the server, `python send_file.py FILE` the client; bind the server to the name `files`.
"""

import os
import sys
from pathlib import Path

from ouroboros import QOS_DATA, flow_accept, flow_alloc

CHUNK = 1 << 16


def receive(folder):
    with flow_accept() as flow, flow.makefile("rwb") as stream:
        name, size = stream.readline().decode().strip().split("\t")
        path = folder / os.path.basename(name)  # never outside of the folder
        with open(path, "wb") as file:
            left = int(size)
            while left and (piece := stream.read(min(CHUNK, left))):
                left -= file.write(piece)
        stream.write(b"complete\n" if not left else b"cut\n")
        print(f"{path.name}: {path.stat().st_size} bytes", flush=True)


def send(path):
    size = path.stat().st_size
    with flow_alloc("files", QOS_DATA) as flow, flow.makefile("rwb") as stream, open(path, "rb") as file:
        stream.write(f"{path.name}\t{size}\n".encode())
        sent = 0
        while piece := file.read(CHUNK):
            stream.write(piece)
            sent += len(piece)
            print(f"\r{100 * sent // size} %", end="", file=sys.stderr, flush=True)
        stream.flush()
        print(f"\n{stream.readline().decode().strip()}", flush=True)


if sys.argv[1] == "--receive":
    while True:
        receive(Path(sys.argv[2]))
else:
    send(Path(sys.argv[1]))
