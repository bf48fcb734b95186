"""The link emulator of a lab: a process that stands in a link and forwards, delays, changes or drops frames.

`impairment` has its settings, in the words of tc-netem(8); `line` is the pure machine that decides about frames, for tests
and simulators; `process` the program that runs in a link; `started` the starter's side of it. The C is in `src`.
"""
