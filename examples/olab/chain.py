"""A chain of N systems, made with the Python interface of the lab: how long does a packet take over N - 2 forwarders?

    python examples/olab/chain.py 5

Every system has an IPCP of one unicast layer; neighbours are joined by an Ethernet link. `olab` works meanwhile: the name
of the lab is chain.
"""

from __future__ import annotations

import sys

from ouroboros_tools.olab.description import Description, Step, SystemSpec, veth
from ouroboros_tools.olab.lab import Lab


def chain(count: int) -> Description:
    """Systems s1 to sN; the first one bootstraps the layer, each of the others enrols with the one before it."""
    names = [f"s{number}" for number in range(1, count + 1)]
    steps = []
    for number, name in enumerate(names, start=1):
        irm = []
        for side, other in (("left", number - 1), ("right", number + 1)):
            if 1 <= other <= count:
                link = f"link{min(number, other)}"
                irm.append(f"ipcp bootstrap name {side} layer {link} type eth-dix dev {side}")
        if number == 1:
            irm.append("ipcp bootstrap name uni1 layer chain type unicast autobind")
        else:
            irm.append(f"ipcp enroll name uni{number} dst uni{number - 1} autobind")
            irm.append(f"ipcp connect name uni{number} dst uni{number - 1}")
        if number < count:
            irm.append(f"name register uni{number} layer link{number}")
        if number == count:
            irm += ["bind program oping name oping auto -- -l -Q", f"name register oping ipcp uni{count}"]
        steps.append(Step(system=name, irm=tuple(irm)))
    links = [
        veth(one, other, name=f"link{number}", devices=("right", "left"))
        for number, (one, other) in enumerate(zip(names, names[1:], strict=False), start=1)
    ]
    systems = tuple(SystemSpec(name=name) for name in names)
    return Description(name="chain", systems=systems, links=tuple(links), steps=tuple(steps))


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    if count < 2:
        sys.exit("chain: it takes two systems at least")
    with Lab(chain(count)) as lab:
        print(lab.system("s1").run("oping", "-n", "oping", "-c", "10", "-i", "50").stdout, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
