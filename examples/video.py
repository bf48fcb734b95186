"""Like a video: frames at a fixed rate over a flow with QoS, late or lost ones are not repaired.

`python video.py --listen` is the server, `python video.py FRAMES` a client; bind the server to the name `cinema`.
"""

import sys
import time
from contextlib import suppress

from ouroboros import QOS_VIDEO, flow_accept, flow_alloc
from ouroboros.errors import FlowException

RATE = 50  # frames a second
FRAME = 1200  # octets
NUMBER = 4


def watch():
    with flow_accept() as flow:
        flow.rcv_timeout = 2  # longer than any pause of a client
        seen, last = 0, -1
        with suppress(FlowException):
            for frame in flow:
                seen, last = seen + 1, int.from_bytes(frame[:NUMBER], "big")
        print(f"{seen} frames of {last + 1}, {flow.qos.delay} ms at most was the wish", flush=True)


def play(frames):
    with flow_alloc("cinema", QOS_VIDEO) as flow:
        start = time.monotonic()
        for number in range(frames):
            time.sleep(max(0.0, start + number / RATE - time.monotonic()))
            flow.write(number.to_bytes(NUMBER, "big").ljust(FRAME, b"."))


if sys.argv[1] == "--listen":
    while True:
        watch()
else:
    play(int(sys.argv[1]))
