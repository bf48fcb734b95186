"""What two of our ends may do that a prototype cannot: the types of the items in the allocation handshake (docs/design/wire.md).

A library module of every process; pure data. IRMds offer and grant them (irmd/oap/extension.py), the ends of a flow do them.
"""

from enum import IntEnum


class Extension(IntEnum):
    """What is on for a flow; values are empty on the wire."""

    FRAGMENTATION = 1
    """Packets larger than the layer's are cut and put together again."""
    FRCP_CHECK = 2
    """Packets of a flow with FRCP carry a CRC-32, control packets too."""
    SELECTIVE = 3
    """Acknowledgements carry a map of what came out of order."""
    END = 4
    """Who writes no more says so, in order with what was written."""
