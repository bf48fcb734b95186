"""The benchmark suite: `python -m tests.bench [--json] [--quick] [--path P] [--size N] [--what W] [--subject S]`.

It measures pair by pair in one run: in every round each subject is measured once in turn, and the median over the
rounds is reported, so that a ratio between two subjects holds on a noisy machine even where a figure does not.
Subjects are this library, the usual alternatives (UNIX SOCK_SEQPACKET, UDP on loopback, multiprocessing.Pipe,
pyzmq, TCP, aioquic), and the floor: a bare ring driven from Python. Python runs on both sides, in two processes.

    main       options, and the order of a run
    row        the facts: one measured figure, and its JSON form
    goal       limits for ratios within one run
    report     renders rows as a table or as JSON
    plan       the measurements, in rounds
    pair       parent's view of two peer processes; `peer` runs in them, `measure` has the loops
    subjects/  one transport each, behind the interface in `subjects/subject.py`
    path       the path of a flow (direct, local, ...); a new path is one class there
    reliable   paths of flows of data; `lossy` and `sealed` such flows on links that lose, and encrypted
    delivery   whether all packets arrived, in order, once
    crowd      very many flows in one process; `crowded` runs in it
    system     a private Ouroboros system in a temporary run directory
    upkeep     figures of the system itself: allocation rate, creating and listing IPCPs, idling, memory

These are benchmarks, not timed tests: a goal that is missed is printed, and does not change the exit code.
"""
