"""The IPC Resource Manager daemon: names, programs, processes, IPCPs and flows of one system (paper 5.2)."""
