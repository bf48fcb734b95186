"""`python -m ouroboros`: the version, the IPCPs and names of this system, and further commands (docs/reference/api.md)."""

from __future__ import annotations

import sys

from . import cli, irm
from .errors import OuroborosError
from .printable import printable
from .running import find
from .version import __version__

FURTHER = """\
    irm help                    how to manage layers, IPCPs and names
    help(ouroboros)             the calls of programs; also ouroboros.dev, ouroboros.event, ouroboros.aio
    oping -n NAME               try a name"""


def main() -> int:
    """Print a page; 1 when there is no system."""
    print(f"Ouroboros {__version__} with Python {sys.version.split()[0]}")
    try:
        pid, folder = find()
        ipcps, names, flows = cli.list_ipcps(), cli.list_names(), irm.list_flows()
    except OuroborosError as error:
        print(
            f"No system runs here: {printable(str(error))}\n\n    irm start                   start one\n{FURTHER}"
        )
        return 1
    print(f"The IRMd runs, pid {pid}, in {printable(folder)}: {len(flows)} flows.\n")
    for ipcp in ipcps:
        layer = f"in layer {ipcp.layer}" if ipcp.layer else "in no layer"
        print(f"    IPCP {printable(ipcp.name)} ({ipcp.type.type_name}) {printable(layer)}, {ipcp.state}")
    for name in names:
        layers = ", ".join(registration.layer for registration in name.registrations) or "no layer"
        bound = len(name.programs) + len(name.processes)
        print(f"    name {printable(name.name)}: registered in {printable(layers)}, {bound} bound")
    print(f"{'' if not (ipcps or names) else chr(10)}{FURTHER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
