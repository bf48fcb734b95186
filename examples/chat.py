"""Chat over a broadcast layer: `python chat.py LAYER NAME`; each line that is typed goes to all members of the layer."""

import sys
import threading

from ouroboros import flow_join
from ouroboros.errors import FlowException

layer, name = sys.argv[1:3]


def listen(flow):
    try:
        for packet in flow:
            print(packet.decode(errors="replace"), flush=True)
    except FlowException:
        pass  # this program leaves


with flow_join(layer) as flow:
    threading.Thread(target=listen, args=(flow,), daemon=True).start()
    print("joined", flush=True)
    for line in sys.stdin:
        flow.write(f"{name}: {line.rstrip()}".encode())
