"""A simulated world in virtual time, in which asyncio programs and phones run unchanged.

`World` makes hosts, NATs and the paths between them, and runs a program: docs/guide/simulator.md.
"""

from voip.sim.host import Host
from voip.sim.nat import Nat, NatType
from voip.sim.path import GilbertElliott, LinkCounts, Path
from voip.sim.world import World

__all__ = ["GilbertElliott", "Host", "LinkCounts", "Nat", "NatType", "Path", "World"]
