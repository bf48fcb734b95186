"""The soak: flows that are allocated, used and closed from both sides at the same time, for a long while (`make soak`).

main      the command line, and the verdict
places    the layers under load, each between a server and its clients
crowd     the servers and clients of a place: started, counted, killed, started again
peer      one of those processes
watch     memory and descriptors of the daemons, and blocks of the packet pools
"""
