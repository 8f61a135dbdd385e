"""Random operations on a place for bytes and on the model must end alike. A backend's test subclasses this:

class AgainstTheModel(ObjectsMachine):
    def make(self):            # a new, empty place (called once an example)
        return LocalObjects(...)

TestAgainstTheModel = AgainstTheModel.TestCase
TestAgainstTheModel.settings = SETTINGS
"""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from towline.stores.objects.base import ABSENT, OVERWRITE, ObjectsError, PreconditionFailed
from towline.stores.objects.memory import MemoryObjects

SETTINGS = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

KEYS = st.sampled_from(["a", "b", "c/x", "c/y", "c-", "c/d/e"])
PIECES = st.lists(st.binary(max_size=9), max_size=4)


async def stream(pieces):
    for piece in pieces:
        yield piece


class ObjectsMachine(RuleBasedStateMachine):
    """Errors are compared by their type, versions by what can be done with them."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.real, self.model = self.make(), MemoryObjects()
        self.model.part_bytes = 5
        self.versions = {}

    def make(self):
        """A new, empty place."""
        raise NotImplementedError

    def teardown(self):
        self.loop.run_until_complete(self.real.close())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def both(self, act):
        """Outcomes on both, errors by their type."""

        async def one(objects):
            try:
                return await act(objects)
            except ObjectsError as e:
                return type(e)

        real, model = (self.loop.run_until_complete(one(o)) for o in (self.real, self.model))
        return real, model

    def written(self, key, outcome):
        real, model = outcome
        assert isinstance(real, type) == isinstance(model, type)
        if isinstance(real, type):
            assert real is model
        else:
            self.versions.setdefault(key, []).append((real, model))

    def conditioned(self, key, which, act):
        """Write under the condition that a version of the past is still there."""
        known = self.versions.get(key)
        if known:
            real, model = known[-1 - which % len(known)]
            outcome = self.both(lambda o: act(o, real if o is self.real else model))
            assert (outcome[0] is PreconditionFailed) == (outcome[1] is PreconditionFailed)
            if outcome[0] is not PreconditionFailed:
                known.append(outcome)

    @rule(key=KEYS, data=st.binary(max_size=9), when=st.sampled_from([OVERWRITE, ABSENT]))
    def put(self, key, data, when):
        self.written(key, self.both(lambda o: o.put(key, data, when)))

    @rule(key=KEYS, pieces=PIECES, when=st.sampled_from([OVERWRITE, ABSENT]))
    def upload(self, key, pieces, when):
        self.written(key, self.both(lambda o: o.upload(key, stream(pieces), when)))

    @rule(source=KEYS, key=KEYS, when=st.sampled_from([OVERWRITE, ABSENT]))
    def copy(self, source, key, when):
        if source != key:  # to copy an object onto itself is the backend's own affair
            self.written(key, self.both(lambda o: o.copy(o, source, key, when)))

    @rule(key=KEYS, data=st.binary(max_size=9), which=st.integers(0, 5))
    def replace(self, key, data, which):
        self.conditioned(key, which, lambda o, version: o.put(key, data, version))

    @rule(key=KEYS, pieces=PIECES, which=st.integers(0, 5))
    def replace_by_upload(self, key, pieces, which):
        self.conditioned(key, which, lambda o, version: o.upload(key, stream(pieces), version))

    @rule(key=KEYS, start=st.integers(0, 10), length=st.none() | st.integers(0, 10))
    def get(self, key, start, length):
        real, model = self.both(lambda o: o.get(key, start, length))
        assert real == model

    @rule(key=KEYS, start=st.integers(0, 10), length=st.none() | st.integers(0, 10))
    def download(self, key, start, length):
        async def read(objects):
            return b"".join([piece async for piece in objects.download(key, start, length)])

        real, model = self.both(read)
        assert real == model

    @rule(keys=st.lists(KEYS, max_size=3))
    def delete(self, keys):
        self.both(lambda o: o.delete_many(keys))

    @rule(prefix=st.sampled_from(["", "c", "c/", "c/d"]), after=st.just("") | KEYS)
    def list(self, prefix, after):
        async def found(objects):
            return [(m.key, m.size) async for m in objects.list(prefix, after)]

        real, model = self.both(found)
        assert real == model

    @rule()
    def nothing_is_left_over(self):
        async def found(objects):
            return [u async for u in objects.unfinished()]

        assert self.both(found) == ([], [])
