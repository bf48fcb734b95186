"""Packet forwarding functions: from next hops to the flow descriptors of a forwarding table; a policy is one file (spec/link-state 5)."""
