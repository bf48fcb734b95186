"""Messages between the components of unicast IPCPs (spec/dt, spec/fa, spec/link-state, spec/dht, spec/connections).

Connection manager and enrolment are the same in a broadcast IPCP.
"""
