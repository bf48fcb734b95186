"""The directory of a unicast layer: a distributed hash table after Kademlia (paper 2.12.1, 5.3; spec 5)."""

from .dht import Answer, Counters, Dht, Registered

__all__ = ["Answer", "Counters", "Dht", "Registered"]
