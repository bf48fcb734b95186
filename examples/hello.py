"""Hello World over a flow (paper Listing 2): `python hello.py --listen` is the server, `python hello.py` a client."""

import sys
from contextlib import suppress

from ouroboros import flow_accept, flow_alloc
from ouroboros.errors import FlowException

if "--listen" in sys.argv:
    while True:
        with (
            flow_accept() as flow,
            suppress(FlowException),
        ):  # the client leaves, or sends nothing for a second
            flow.rcv_timeout = 1
            print(f"Message from client is {flow.read().decode()}.", flush=True)
else:
    with flow_alloc("helloworld-server") as flow:
        flow.write(b"Hello World!")
