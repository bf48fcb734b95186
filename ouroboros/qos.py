"""Quality of service: the requirements of an application on a flow (paper 2.7; docs/reference/api.md).

A library module of every process; pure data. `QoSSpec()` is the raw specification; the presets `QOS_RAW` to
`QOS_DATA` are those of the paper's C library and cannot be changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn

from . import arguments
from .cubes import PRESETS, cube_of
from .cubes import UINT32_MAX as UINT32_MAX
from .cubes import UINT64_MAX as UINT64_MAX

if TYPE_CHECKING:
    from .rpc.messages_pb2 import QosSpec as ProtoQosSpec

MILLION = 1_000_000
BILLION = 1_000_000_000
"""`loss` and `ber` are per billion."""

DEFAULT_PEER_TIMEOUT = 120000  # ms

_LIMITS = {
    "delay": UINT32_MAX,
    "bandwidth": UINT64_MAX,
    "availability": 0xFF,
    "loss": UINT32_MAX,
    "ber": UINT32_MAX,
    "in_order": 0xFF,
    "max_gap": UINT32_MAX,
    "timeout": UINT32_MAX,
}


class QoSSpec:
    """A specification of quality of service.

    delay         largest delay, ms
    bandwidth     least bandwidth, bit/s
    availability  number of nines
    loss          largest packet loss, per billion; 0 asks for retransmission
    ber           largest bit error rate, per billion; 0 asks for a check of every packet
    in_order      non-zero: in-order delivery, which switches FRCP on
    max_gap       largest interruption, ms
    timeout       time without packets after which the peer is dead, ms; 0 = never

    Fields may be set; a value that does not fit raises ValueError. Two specifications with equal fields are equal.
    """

    __slots__ = ("delay", "bandwidth", "availability", "loss", "ber", "in_order", "max_gap", "timeout")

    delay: int
    bandwidth: int
    availability: int
    loss: int
    ber: int
    in_order: int
    max_gap: int
    timeout: int

    def __init__(
        self,
        delay: int = UINT32_MAX,
        bandwidth: int = 0,
        availability: int = 0,
        loss: int = 1,
        ber: int = 1,
        in_order: int = 0,
        max_gap: int = UINT32_MAX,
        timeout: int = DEFAULT_PEER_TIMEOUT,
    ) -> None:
        self.delay = delay
        self.bandwidth = bandwidth
        self.availability = availability
        self.loss = loss
        self.ber = ber
        self.in_order = in_order
        self.max_gap = max_gap
        self.timeout = timeout

    def __setattr__(self, name: str, value: Any) -> None:
        limit = _LIMITS.get(name)
        if limit is None:
            raise AttributeError(f"QoSSpec has no field {name!r}; it has {', '.join(_LIMITS)}")
        if type(value) is int and 0 <= value <= limit:
            object.__setattr__(self, name, value)
            return
        takes = f"an integer from 0 to {limit}"
        if isinstance(value, (bool, float)):
            if not isfinite(value) or value % 1:
                arguments.wrong_value(f"QoSSpec.{name}", takes, value)
            value = int(value)
        number = arguments.integer(f"QoSSpec.{name}", value, 0, limit, takes)
        object.__setattr__(self, name, number)

    def __iter__(self) -> Iterator[int]:
        """The eight values in the order of the arguments."""
        return (getattr(self, name) for name in _LIMITS)

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, QoSSpec) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"QoSSpec({', '.join(f'{name}={getattr(self, name)}' for name in _LIMITS)})"

    def __reduce__(self) -> tuple[type[QoSSpec], tuple[int, ...]]:
        return QoSSpec, tuple(self)

    def replace(self, **fields: int) -> QoSSpec:
        """A copy with some fields changed, e.g. `QOS_DATA.replace(timeout=5000)`."""
        return QoSSpec(**{name: getattr(self, name) for name in _LIMITS} | fields)

    @property
    def cube(self) -> int:
        """The number of the QoS cube of a flow with this specification (`cubes.CUBES`; spec/common 6)."""
        return cube_of(self.delay, self.bandwidth, self.availability, self.max_gap)

    def to_proto(self) -> ProtoQosSpec:
        """As it travels in RPC messages."""
        from .rpc.messages_pb2 import QosSpec

        return QosSpec(
            delay=self.delay,
            bandwidth=self.bandwidth,
            availability=self.availability,
            loss=self.loss,
            ber=self.ber,
            in_order=self.in_order,
            max_gap=self.max_gap,
            timeout=self.timeout,
        )

    @classmethod
    def from_proto(cls, proto: ProtoQosSpec) -> QoSSpec:
        """From an RPC message. Raises ValueError when a field is too large."""
        return cls(
            proto.delay,
            proto.bandwidth,
            proto.availability,
            proto.loss,
            proto.ber,
            proto.in_order,
            proto.max_gap,
            proto.timeout,
        )


class _Preset(QoSSpec):
    """A shared specification: it cannot be changed."""

    __slots__ = ()

    def __init__(self, *fields: int) -> None:
        for name, value in zip(_LIMITS, (*fields, DEFAULT_PEER_TIMEOUT), strict=True):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"a preset cannot be changed; make a copy with .replace({name}={value!r})")


_BY_WORD: dict[str, QoSSpec] = {word: _Preset(*fields) for word, fields in PRESETS.items()}

QOS_RAW: QoSSpec = _BY_WORD["raw"]
QOS_RAW_NO_ERRORS: QoSSpec = _Preset(UINT32_MAX, 0, 0, 1, 0, 0, UINT32_MAX)
QOS_BEST_EFFORT: QoSSpec = _BY_WORD["best"]
QOS_VIDEO: QoSSpec = _BY_WORD["video"]
QOS_VOICE: QoSSpec = _BY_WORD["voice"]
QOS_DATA: QoSSpec = _BY_WORD["data"]

CUBES = _BY_WORD  # deprecated: these are presets; the table of cubes is `cubes.CUBES`


def cube(name: str) -> QoSSpec:
    """The preset that the tools call `name`: raw, best, voice, video, data. Raises ValueError for another name."""
    try:
        return _BY_WORD[arguments.text("name", name)]
    except KeyError:
        raise ValueError(f"QoS cube {name!r} is unknown; it must be one of {', '.join(PRESETS)}") from None
