"""What only gs: URLs have: no temporary objects in buckets of others, and refusals that say who refused."""

from __future__ import annotations

import pytest

from tests.kit.clouds import GsCloud
from tests.kit.pieces import MIB, content, digest, pieces_of
from towline.stores.objects.base import ObjectsError
from towline.stores.transfer.gs_ import GsScheme
from towline.stores.transfer.url import parse


@pytest.fixture
def cloud(gcs, monkeypatch):
    made = GsCloud(gcs)
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    gcs.calm()
    yield made
    gcs.calm()


@pytest.fixture
async def scheme():
    made = GsScheme()
    yield made
    await made.close()


async def test_a_large_object_goes_out_in_a_session_without_temporary_objects(scheme, cloud):
    data = content(9 * MIB)
    await scheme.write(parse(cloud.url("x")), pieces_of(data), None, False)
    assert digest(cloud.peek("x")) == digest(data)
    assert [line for line in cloud.server.requests() if "uploadType=resumable" in line]
    assert not [line for line in cloud.server.requests() if "/compose" in line or ".parts" in line]


@pytest.mark.parametrize(("status", "kind"), [(401, PermissionError), (403, PermissionError), (400, ObjectsError)])
async def test_what_a_status_means(scheme, cloud, status, kind):
    cloud.server.fault("GET /storage/v1/b/", answer=status, times=9)
    with pytest.raises(kind):
        await scheme.look(parse(cloud.url("x")))
