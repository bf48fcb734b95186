"""An echo server for many flows in one thread: a FlowSet and an FEventQueue (paper Listings 6 and 7).

python oecho_set.py --listen             # the server; no flow reaches it until its name is bound:
irm bind process <its pid> name oecho
python oecho_set.py                      # a client; `oecho` is one too
"""

import sys
import threading
from contextlib import suppress

from ouroboros import FEventQueue, FEventType, Flow, FlowSet, flow_accept, flow_alloc
from ouroboros.errors import FlowException

NAME = "oecho"


def accept_flows(flows: FlowSet) -> None:
    """Add every new flow to the set, beside the thread that waits on the set."""
    while True:
        flow = flow_accept()
        print("New flow.", flush=True)
        flow.blocking = False  # a client that does not read loses its replies, and does not delay others
        flows.add(flow)


def echo(flow: Flow) -> None:
    """Send one packet back."""
    message = flow.read()
    text = message.rstrip(b"\0").decode(errors="replace")
    print(f"Message from client is {text}.", flush=True)
    flow.write(message)


def server() -> None:
    """Echo until the program is interrupted."""
    print("Starting the server.", flush=True)
    queue = FEventQueue()
    with FlowSet() as flows:
        threading.Thread(target=accept_flows, args=(flows,), daemon=True).start()
        while True:
            flows.wait(queue)
            for flow, event in queue:
                if event == FEventType.FlowPkt:
                    with suppress(FlowException):  # its client has left, or does not read
                        echo(flow)
                elif event == FEventType.FlowDown:
                    flows.remove(flow)
                    flow.dealloc()


def client() -> None:
    """Send a message and print the answer."""
    with flow_alloc(NAME) as flow:
        flow.write(b"Client says hi!\0")
        reply = flow.read().rstrip(b"\0").decode(errors="replace")
        print(f"Server replied with {reply}")


if __name__ == "__main__":
    try:
        server() if "--listen" in sys.argv[1:] else client()
    except KeyboardInterrupt:
        pass
