"""Routing: from the graph of a layer to next hops, per QoS cube; a policy is one file (paper 2.4, 5.3; spec/link-state 5)."""
