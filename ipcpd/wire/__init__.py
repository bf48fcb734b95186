"""Packets and messages of IPCPs as octets: what they send to each other, and only that (docs/spec).

Codecs without state, which IPCPs of every type, and tools that read packets, import: `dt`, `fa`, `link_state`, `dht` of unicast layers,
`connmgr` and `enrol` of unicast and broadcast layers, `eth` in the frames `dix` and `llc`, `udp`.
"""
