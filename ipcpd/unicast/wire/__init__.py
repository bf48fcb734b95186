"""What the components of a unicast IPCP say to each other (spec/dt, spec/fa, spec/link-state, spec/dht, spec/connections).

Connection manager and enrolment are the same in a broadcast IPCP.
"""
