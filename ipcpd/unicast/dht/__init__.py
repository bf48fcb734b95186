"""The directory of a unicast layer: a distributed hash table after Kademlia (paper 2.12.1, 5.3; spec/dht)."""

from .dht import Dht
from .node import Answer, Counters, Event, Registered

__all__ = ["Answer", "Counters", "Dht", "Event", "Registered"]
