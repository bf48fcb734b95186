"""Memory that a process cannot map, for lack of descriptors: each flow that needs it reports the true cause."""

from __future__ import annotations

import resource
from errno import EMFILE, EPROTO
from types import SimpleNamespace

import pytest

from ouroboros.dataplane.resources import Resources
from ouroboros.errors import OuroborosError
from ouroboros.rpc.messages_pb2 import Envelope, FlowEndpoint, Resource, SegmentGone

LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def resources(*, failing: bool) -> Resources:
    ffi = SimpleNamespace(NULL=None, errno=EMFILE)
    lib = SimpleNamespace(
        events_map=lambda *fds: None if failing else object(),
        pool_map=lambda *fds: object(),
        segment_map=lambda *fds: object(),
        events_unmap=lambda mapped: None,
        pool_unmap=lambda mapped: None,
        segment_unmap=lambda mapped: None,
    )
    found = Resources(ffi, lib)
    found._spec = lambda endpoint: None  # type: ignore[method-assign]
    return found


def message() -> Envelope:
    kinds = (Resource.EVENTS, Resource.POOL, Resource.SEGMENT)
    parts = [Resource(kind=kind, id=number) for number, kind in enumerate(kinds, 7)]
    return Envelope(flow_endpoint=FlowEndpoint(resources=parts, peer_events=7, pool=8, segment=9))


def test_a_region_of_a_peer_that_cannot_be_mapped() -> None:
    """Without it the flow would be there, and its peer would not be woken."""
    found = resources(failing=True)
    endpoint = message().flow_endpoint
    found.learn_or_remember(message(), [3, 4, 5, 6])
    assert set(found.pools) == {8} and set(found.segments) == {9}
    with pytest.raises(
        OuroborosError, match=f"cannot map event region 7 .* may have {LIMIT} open files"
    ) as caught:
        found.end(endpoint)
    assert caught.value.errno == EMFILE
    with pytest.raises(OuroborosError, match="Too many open files"):
        found.region(7)
    found.release(SegmentGone(events=[7]))
    _, _, peer, _ = found.end(endpoint)
    assert peer is None, "the peer has ended: there is none to wake"


def test_what_was_never_sent_is_the_fault_of_the_irmd() -> None:
    found = resources(failing=False)
    with pytest.raises(OuroborosError, match="which this process does not have") as caught:
        found.region(7)
    assert caught.value.errno == EPROTO
    found.learn(message(), [3, 4, 5, 6])
    _, _, peer, _ = found.end(message().flow_endpoint)
    assert peer is found.events[7]
