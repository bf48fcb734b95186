"""What the components of a unicast IPCP say to each other (wire-unicast 1 to 7).

Connection manager and enrolment are the same in a broadcast IPCP.
"""
