"""A decoded layer of a packet, and a packet as the list of its layers. Runs in the tool.

A layer keeps its decoded value and the encoder of that value: encoding a packet begins with the innermost octets and
wraps each layer round them, so that a packet is encoded from its decoded values alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .captured import Captured


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its name, its decoded value, and `encode(payload)`; `inner` names the field that is the payload."""

    name: str
    value: Any
    encode: Callable[[bytes], bytes]
    inner: str = ""


class Verdict(Enum):
    """The result of decoding and encoding a packet."""

    SAME = "same"
    DIFFERS = "differs"
    MALFORMED = "malformed"


@dataclass(slots=True)
class Packet:
    """A captured packet and its layers, from the outside in; `data` is the payload of the innermost.

    `ours` is True when it has a layer of Ouroboros; `reason` names the malformed or differing part.
    """

    captured: Captured
    layers: list[Layer] = field(default_factory=list)
    data: bytes = b""
    ours: bool = False
    guessed: bool = False
    verdict: Verdict = Verdict.SAME
    reason: str = ""

    def add(self, name: str, value: Any, encode: Callable[[bytes], bytes], inner: str = "") -> None:
        """Another layer, inside the others."""
        self.layers.append(Layer(name, value, encode, inner))

    def encode(self) -> bytes:
        """The packet, made of its decoded values. Raises UnsendablePacket."""
        octets = self.data
        for layer in reversed(self.layers):
            octets = layer.encode(octets)
        return octets
