"""Simulate many machines behind a balancer: how many it takes, who has to wait, and what a loss or an update costs.

    ./run python -m benchmarks.scaling --streams 10000 --engines 4 --engine-streams 435

Nothing is measured here. What an engine and a front can do comes from the command line; the defaults are measured
figures of docs/benchmarks.md and docs/scaling.md. People come at random (Poisson) and stay for a while (exponential). A
balancer gives each the machine with the most places left. Who finds none asks again after five seconds, as
`Retry-After` says. Half way one machine is lost: its people come again at once. Then all machines are updated, a share
at a time: the balancer takes a machine out, and it is stopped when its last session has ended, or when the patience
for that is over.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

RETRY = 5
"""Seconds after which who found no place asks again."""
MINUTE = 60


@dataclass(frozen=True)
class Plan:
    """What is simulated. Times are in seconds."""

    streams: int
    """Streams at a time, on average."""
    engines: int = 4
    """Engines of a machine."""
    engine_streams: int = 435
    """Streams that one engine serves in real time."""
    message_cost: float = 50e-6
    """Seconds of one CPU that the front takes for each message of audio, with all that it entails."""
    messages: float = 10.0
    """Messages of audio in each second of a stream."""
    front_load: float = 0.8
    """Share of one CPU that the front may take."""
    spare: float = 0.1
    """Share of the places that is free on average."""
    stay: float = 600.0
    """Mean length of a session."""
    updating: float = 0.1
    """Share of the machines that is updated at a time."""
    patience: float = 1800.0
    """How long an update waits for the last session of a machine."""
    restart: float = 60.0
    """How long a machine takes to be there again."""

    @property
    def front_streams(self) -> int:
        """Streams that one front serves."""
        return int(self.front_load / (self.message_cost * self.messages))

    @property
    def places(self) -> int:
        """Streams of one machine."""
        return min(self.engines * self.engine_streams, self.front_streams)

    @property
    def machines(self) -> int:
        """Machines that leave the share of free places, and one more, which may be lost."""
        return math.ceil(self.streams * (1 + self.spare) / self.places) + 1


@dataclass
class Outcome:
    """What has come of it."""

    machines: int
    places: int
    front_streams: int
    arrivals: int = 0
    waited: int = 0
    """Who found no place at first."""
    waited_longest: int = 0
    """Seconds."""
    cut_by_loss: int = 0
    """Sessions on the machine that was lost."""
    after_loss_longest: int = 0
    """The longest wait in the ten minutes after it, in seconds."""
    cut_by_update: int = 0
    """Sessions that outlasted the patience of the update; they got their finals."""
    update_minutes: float = 0.0


class Cluster:
    """Machines with their sessions, and people who wait. Steps of one second."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan = plan
        self.random = np.random.default_rng(seed)
        self.places = np.full(plan.machines, plan.places)
        self.sessions = np.full(plan.machines, plan.streams // plan.machines)
        self.open = np.ones(plan.machines, bool)
        """Whether new sessions go there."""
        self.waiting: dict[int, int] = {}
        """People by the second at which they came."""
        self.now = 0
        self.outcome = Outcome(plan.machines, plan.places, plan.front_streams)

    def step(self) -> int:
        """Let a second pass, and return the longest that somebody who has found a place now has waited."""
        plan, self.now = self.plan, self.now + 1
        self.sessions -= self.random.binomial(self.sessions, 1 / plan.stay)
        new = int(self.random.poisson(plan.streams / plan.stay))
        self.outcome.arrivals += new
        self.waiting[self.now] = self.waiting.get(self.now, 0) + new
        longest = 0
        for came in sorted(self.waiting):
            if (self.now - came) % RETRY == 0:
                placed = self.place(self.waiting[came])
                if placed:
                    longest = max(longest, self.now - came)
                if came == self.now:
                    self.outcome.waited += self.waiting[came] - placed
                self.waiting[came] -= placed
        self.waiting = {came: count for came, count in self.waiting.items() if count}
        self.outcome.waited_longest = max(self.outcome.waited_longest, longest)
        return longest

    def place(self, people: int) -> int:
        """Give people places where there are most, and return how many got one."""
        free = np.where(self.open, self.places - self.sessions, 0)
        people = min(people, int(free.sum()))
        taken = _level(free, people)
        self.sessions += taken
        return people

    def lose(self, machine: int) -> None:
        """Lose a machine: its people come again."""
        cut = int(self.sessions[machine])
        self.outcome.cut_by_loss += cut
        self.waiting[self.now] = self.waiting.get(self.now, 0) + cut
        self.sessions[machine], self.open[machine] = 0, False

    def update(self) -> None:
        """Update all machines, a share at a time."""
        plan, began = self.plan, self.now
        at_once = max(1, int(plan.updating * plan.machines))
        for first in range(0, plan.machines, at_once):
            chosen = np.arange(first, min(first + at_once, plan.machines))
            self.open[chosen] = False
            until = self.now + plan.patience
            while self.now < until and self.sessions[chosen].any():
                self.step()
            cut = int(self.sessions[chosen].sum())
            self.outcome.cut_by_update += cut
            self.waiting[self.now] = self.waiting.get(self.now, 0) + cut
            self.sessions[chosen] = 0
            for _ in range(int(plan.restart)):
                self.step()
            self.open[chosen] = True
        self.outcome.update_minutes = (self.now - began) / MINUTE


def _level(free: NDArray[np.int_], people: int) -> NDArray[np.int_]:
    """Return how many of `people` go to each machine, so that those with the most places get them first."""
    low, high = 0, int(free.max(initial=0))
    while low < high:  # the most places that are left on each machine that anybody goes to
        middle = (low + high) // 2
        low, high = (low, middle) if np.maximum(free - middle, 0).sum() <= people else (middle + 1, high)
    taken = np.maximum(free - low, 0)
    rest = people - int(taken.sum())
    taken[np.flatnonzero(free - taken > 0)[:rest]] += 1
    return taken


def simulate(plan: Plan, seed: int = 1) -> Outcome:
    """Run a plan: half an hour of calm, a loss, half an hour more, and an update."""
    cluster = Cluster(plan, seed)
    for _ in range(30 * MINUTE):
        cluster.step()
    cluster.lose(0)
    for _ in range(10 * MINUTE):
        cluster.outcome.after_loss_longest = max(cluster.outcome.after_loss_longest, cluster.step())
    for _ in range(20 * MINUTE):
        cluster.step()
    cluster.open[0] = True
    cluster.update()
    return cluster.outcome


def main() -> None:
    """Run a plan from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=10_000)
    for name, default in asdict(Plan(0)).items():
        if name != "streams":
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    print(json.dumps(asdict(simulate(Plan(**vars(parser.parse_args())))), indent=2))


if __name__ == "__main__":
    main()
