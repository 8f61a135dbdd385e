"""Random walks of a leader and its workers through everything that may happen, against the naive model (tests/kit/harbour).

A walk ends by letting all faults cease: then every job that can complete has completed exactly once.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.kit.builders import chunk, spec, uuid_of
from tests.kit.harbour import Hand, Harbour, Script
from towline.engine import events as ev
from towline.engine.states import EdgeKind, JobState, Missing, edge_byte

S = JobState

KINDS = ["plain"] * 6 + ["stored", "heir", "replace", "detour", "addition", "stop_children", "stop_jobflow"]

SPECS = [
    spec("f", backoff_s=0.01),
    spec("g", backoff_s=0.01, retries=2),
    spec("h", backoff_s=0.01, priority=3),
    spec("c", backoff_s=0.01, release="committed"),
]

EDGES = [edge_byte(EdgeKind.DATA, Missing.ERROR)] * 4 + [
    edge_byte(EdgeKind.DATA, Missing.NONE),
    edge_byte(EdgeKind.DATA, Missing.PASS),
    edge_byte(EdgeKind.ORDER, Missing.ERROR),
    edge_byte(EdgeKind.ORDER, Missing.NONE),
]


@st.composite
def jobs(draw: st.DrawFn) -> list[tuple[list[int], list[int], int, Script]]:
    """(parents, edge bytes, spec, script) of each job of a flow, any earlier job being a possible parent."""
    made = []
    for number in range(draw(st.integers(1, 7))):
        parents = sorted(draw(st.sets(st.integers(0, number - 1), max_size=3))) if number else []
        edges = [draw(st.sampled_from(EDGES)) for _ in parents]
        script = Script(draw(st.sampled_from([0, 0, 0, 1, 2, 3])), draw(st.sampled_from(KINDS)))
        made.append((parents, edges, draw(st.integers(0, len(SPECS) - 1)), script))
    return made


class Voyage(RuleBasedStateMachine):
    """One walk."""

    def __init__(self) -> None:
        super().__init__()
        self.harbour = Harbour()
        self.faults = 0

    @initialize(first=jobs(), cut=st.integers(1, 7))
    def begin(self, first: list[tuple[list[int], list[int], int, Script]], cut: int) -> None:
        self.harbour.commit(1)
        self.plan(first, cut)
        self.harbour.submit_next("flow-0")
        self.harbour.hire()
        self.harbour.hire()

    @precondition(lambda self: len(self.harbour.chunks) < 3)
    @rule(made=jobs(), cut=st.integers(1, 7))
    def plan(self, made: list[tuple[list[int], list[int], int, Script]], cut: int) -> None:
        """A flow, cut into chunks of `cut` jobs; the first job of a later flow hangs on the last one of the first."""
        harbour, number = self.harbour, len(self.harbour.chunks)
        flow = f"flow-{number}"
        harbour.chunks[flow] = []
        known = number > 0 and "flow-0" in harbour.core.ledger.flows
        for base in range(0, len(made), cut):
            some = made[base : base + cut]
            parents = [list(parents) for parents, _, _, _ in some]
            edges = [byte for _, edges, _, _ in some for byte in edges]
            externals = []
            if known and base == 0:
                parents[0], edges = [2**31], [EDGES[number % len(EDGES)], *edges]
                externals = [(uuid_of(0, 0), 0)]
            harbour.chunks[flow].append(
                chunk(
                    parents, flow=flow, base=base, total=len(made), externals=externals, edges=edges, specs=SPECS,
                    spec_of=[spec for _, _, spec, _ in some],
                    uuids=[uuid_of(base + i, number) for i in range(len(some))],
                )
            )  # fmt: skip
        for i, (_, _, _, script) in enumerate(made):
            harbour.scripts[harbour.key_of(uuid_of(i, number)), 1] = script

    def hands(self, which: int, do: Callable[[Hand], None]) -> None:
        living = self.harbour.living()
        if living:
            do(living[which % len(living)])

    @precondition(lambda self: not self.harbour.stop_token)
    @rule(which=st.integers(0, 2))
    def submit(self, which: int) -> None:
        if f"flow-{which}" in self.harbour.chunks:
            self.harbour.submit_next(f"flow-{which}")

    @rule(count=st.integers(1, 20))
    def commit(self, count: int) -> None:
        self.harbour.commit(count)

    @rule(which=st.integers(0, 2), times=st.integers(1, 6))
    def hear(self, which: int, times: int) -> None:
        for _ in range(times):
            self.hands(which, self.harbour.hear)

    @rule(which=st.integers(0, 2), times=st.integers(1, 6))
    def listen(self, which: int, times: int) -> None:
        for _ in range(times):
            self.hands(which, self.harbour.listen)

    @rule(which=st.integers(0, 2), times=st.integers(1, 4))
    def work(self, which: int, times: int) -> None:
        for _ in range(times):
            self.hands(which, self.harbour.begin)
            self.hands(which, self.harbour.finish)

    @rule(which=st.integers(0, 2))
    def start_body(self, which: int) -> None:
        self.hands(which, self.harbour.begin)

    @rule(which=st.integers(0, 2))
    def all_of_it(self, which: int) -> None:
        """The line of one worker works smoothly for a while."""
        for _ in range(4):
            self.listen(which, 4)
            self.harbour.commit(3)
            self.hear(which, 4)
            self.work(which, 2)

    @rule(seconds=st.sampled_from([0.02, 0.5, 3.0, 6.0]))
    def advance(self, seconds: float) -> None:
        self.harbour.advance(seconds)

    @rule(which=st.integers(0, 2))
    def reconnect(self, which: int) -> None:
        self.hands(which, self.harbour.disconnect)
        self.hands(which, self.harbour.connect)

    @rule(which=st.integers(0, 2))
    def disconnect(self, which: int) -> None:
        self.hands(which, self.harbour.disconnect)

    @rule(which=st.integers(0, 2))
    def connect(self, which: int) -> None:
        self.hands(which, self.harbour.connect)

    @precondition(lambda self: self.faults < 4)
    @rule(which=st.integers(0, 2), proof=st.booleans())
    def kill(self, which: int, proof: bool) -> None:
        self.faults += 1
        self.hands(which, lambda hand: self.harbour.kill(hand, proof=proof))
        self.harbour.hire()

    @precondition(lambda self: self.faults < 4)
    @rule(extra=st.integers(0, 10))
    def fail_over(self, extra: int) -> None:
        self.faults += 1
        self.harbour.fail_over(extra)
        self.harbour.stop_token = 0
        for hand in self.harbour.living():
            self.harbour.connect(hand)

    @precondition(lambda self: self.faults < 4 and not self.harbour.stop_token)
    @rule(really=st.integers(0, 3))
    def cancel(self, really: int) -> None:
        if not really:
            self.harbour.stop_token = self.harbour.desk.token()
            self.harbour.feed(ev.Steer(self.harbour.stop_token, "stop"))

    @invariant()
    def live_equals_restored(self) -> None:
        self.harbour.check_image()

    def teardown(self) -> None:
        harbour = self.harbour
        naive = harbour.settle()
        graph = harbour.core.ledger.graph
        for row, job in enumerate(naive.jobs):
            state = S(graph.state[row])
            assert state is job.state, f"row {row} is {state.label}, its records say {job.state.label}"
            if state is S.WAITING:
                assert naive.pending(row), f"row {row} waits for nothing"
            else:
                assert state in (S.COMPLETED, S.FAILED, S.STOPPED)
            assert job.completions == (state is S.COMPLETED)
        if harbour.stop_token:
            assert harbour.desk.told[harbour.stop_token].ok
        token = harbour.desk.token()
        harbour.feed(ev.Closing(token))
        for hand in harbour.living():
            while hand.inbox:
                harbour.hear(hand)
            assert hand.dead or hand.core.stopping
            harbour.kill(hand, proof=True)
        for _ in range(8):  # the leases of those that died without a word end
            harbour.commit(100)
            harbour.advance(2.0)
        assert harbour.desk.finished
        assert harbour.core.ledger.closed


TestVoyage = Voyage.TestCase
TestVoyage.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
