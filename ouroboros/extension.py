"""Extensions between two Python ends of a flow, by the types of their items in the allocation handshake (docs/design/wire.md).

A library module of every process; pure data. IRMds offer and grant them (irmd/oap/extension.py), the flow ends implement them.
"""

from enum import IntEnum


class Extension(IntEnum):
    """An extension of a flow; values are empty on the wire."""

    FRAGMENTATION = 1
    """Packets larger than the layer's are cut and put together again."""
    FRCP_CHECK = 2
    """Packets of a flow with FRCP carry a CRC-32, control packets too."""
    SELECTIVE = 3
    """Acknowledgements carry a map of the packets received out of order."""
    END = 4
    """An end that writes no more sends FIN, in sequence with its data."""
    PATH = 5
    """The link IPCPs under the flow send and answer marks, which measure the path between them (spec/path)."""
