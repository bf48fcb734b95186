"""Codecs of the packets and messages that IPCPs send to each other (docs/spec).

They have no state. IPCPs of every type import them, and tools that read packets: `dt`, `fa`, `link_state`, `dht` of unicast layers,
`connmgr` and `enrol` of unicast and broadcast layers, `eth` in the frames `dix` and `llc`, `udp`.
"""
