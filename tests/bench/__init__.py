"""The benchmark suite: `python -m tests.bench [--json] [--quick] [--path P] [--size N] [--what W] [--subject S]`.

It measures pair by pair in one run: in every round each subject is measured once in turn, and the median over the
rounds is reported, so that a ratio between two subjects holds on a noisy machine even where a figure does not.
Subjects are this library, what a user would take instead (UNIX SOCK_SEQPACKET, UDP on loopback, multiprocessing.Pipe,
pyzmq, TCP, aioquic), and the floor: a bare ring driven from Python. Python runs on both sides, in two processes.

    main       options, and what happens in which order
    row        the facts: one measured figure, and its JSON form
    goal       what is to be reached, as ratios within one run
    report     renders rows as a table or as JSON
    plan       which measures there are, in rounds
    pair       parent's view of two peer processes; `peer` is what runs in them, `measure` the loops
    subjects/  one transport each, behind the interface in `subjects/subject.py`
    path       what a flow goes over (direct, local, ...); a new path is one class there
    reliable   paths of flows of data; `lossy` and `sealed` such flows on links that lose, and encrypted
    delivery   whether everything came, in order, once
    crowd      very many flows in one process; `crowded` is what runs in it
    system     a private Ouroboros system in a temporary run directory
    upkeep     figures of the system itself: allocation rate, creating and listing IPCPs, idling, memory

These are benchmarks, not timed tests: a goal that is missed is printed, and does not change the exit code.
"""
