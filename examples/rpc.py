"""Remote procedure calls: one packet is a request, one is the reply.

`python rpc.py --listen` is the server, `python rpc.py add 1 2` a client; bind the server to the name `calculator`.
"""

import json
import math
import sys
from contextlib import suppress

from ouroboros import QOS_DATA, flow_accept, flow_alloc
from ouroboros.errors import FlowException

PROCEDURES = {"add": lambda *numbers: sum(numbers), "product": lambda *numbers: math.prod(numbers)}


def answer(request):
    try:
        call = json.loads(request)
        return {"result": PROCEDURES[call["procedure"]](*map(float, call["arguments"]))}
    except (ValueError, KeyError, TypeError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def serve():
    while True:
        with flow_accept() as flow, suppress(FlowException):
            for request in flow:
                flow.write(json.dumps(answer(request)).encode())


def call(procedure, *arguments):
    with flow_alloc("calculator", QOS_DATA) as flow:
        flow.write(json.dumps({"procedure": procedure, "arguments": arguments}).encode())
        reply = json.loads(flow.recv())
    if "error" in reply:
        raise RuntimeError(reply["error"])
    return reply["result"]


if sys.argv[1] == "--listen":
    serve()
else:
    print(call(*sys.argv[1:]))
