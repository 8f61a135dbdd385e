"""A snapshot as an Arrow table: one row a job, for people and for `ledger_from` alike.

Every column of the engine's image stands in it under its own name and with its own numbers; beside them stand columns that
only people read (uuid as text, name, flow, times, requirements), which a restore never touches: the file is memory-mapped. An
edge is an item of lists in its child's row. Arguments are one binary column. What has no row (specs, functions, flows,
roster) is the schema's metadata `towline.small`, base64 because Arrow metadata must be text.

`to_batch` and `from_batch` are inverse: the image that comes back is equal, byte for byte. All columns are moved as whole
buffers; nothing here loops over jobs unless their uuids are not canonical.
"""

from __future__ import annotations

import base64
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from towline.engine.errors import CorruptionError
from towline.engine.graph import EDGE_COLUMNS, ROW_COLUMNS
from towline.engine.ids import unpack_uuid
from towline.engine.image import Image, Small
from towline.engine.states import JobState
from towline.stores.errors import NewerFormat

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[Any]

FORMAT = 1
"""Version of the snapshot's bytes (docs/FORMAT.md)."""
META = b"towline"
SMALL = b"towline.small"

DTYPES = {"B": "<u1", "H": "<u2", "I": "<u4", "d": "<f8", "f": "<f4"}
"""The array type codes of the engine's columns, as numpy spells them."""

assert sys.byteorder == "little", "every platform that Ray runs on is little-endian"

_LINKS = [name for name in EDGE_COLUMNS if name not in ("edge_parent", "edge_child")]
_PLAIN = [name for name in ROW_COLUMNS if name != "state"]


class Meta(msgspec.Struct, frozen=True):
    """What the schema's metadata `towline` says, as JSON."""

    format: int
    seq: int
    """First record that is not in the snapshot."""
    rows: int
    edges: int


def to_batch(image: Image) -> Any:
    """The image as a pyarrow.RecordBatch."""
    import pyarrow as pa

    small = msgspec.msgpack.decode(image.small, type=Small)
    columns = {**_for_people(image, small), **_edges(image), **_rows(image)}
    columns["arguments"] = _arguments(image, small)
    metadata = {
        META: msgspec.json.encode(Meta(FORMAT, image.seq, image.rows, image.edges)),
        SMALL: base64.b64encode(image.small),
    }
    schema = pa.schema([pa.field(name, column.type) for name, column in columns.items()], metadata=metadata)
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)


def from_batch(batch: Any, name: str) -> Image:
    """The image that `to_batch` was given. CorruptionError or NewerFormat name the object `name`."""
    metadata = batch.schema.metadata or {}
    if META not in metadata or SMALL not in metadata:
        raise CorruptionError(f"{name}: it is an Arrow file, but no snapshot of towline, at offset 0")
    meta = msgspec.json.decode(metadata[META], type=Meta)
    if meta.format > FORMAT:
        raise NewerFormat(f"{name} has snapshot format {meta.format}; this towline reads up to {FORMAT}: upgrade towline")
    if batch.num_rows != meta.rows:
        raise CorruptionError(f"{name}: it has {batch.num_rows} rows instead of {meta.rows}, at offset 0")
    packed = base64.b64decode(metadata[SMALL])
    small = msgspec.msgpack.decode(packed, type=Small)
    columns = {**_rows_back(batch), **_edges_back(batch, meta)}
    return Image(meta.seq, meta.rows, meta.edges, columns, _blobs_back(batch, small), packed)


# ----------------------------------------------------------------------------------------------------------- numbers


def _numbers(image: Image, name: str) -> Numbers:
    import numpy as np

    code = ROW_COLUMNS.get(name) or EDGE_COLUMNS[name]
    return np.frombuffer(image.columns[name], DTYPES[code])


def _rows(image: Image) -> dict[str, Any]:
    """The columns that a restore needs, one number a row; `state` is among those for people."""
    import pyarrow as pa

    columns = {name: pa.array(_numbers(image, name)) for name in _PLAIN}
    packed = pa.py_buffer(image.columns["uuids"])
    columns["uuid_bytes"] = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), image.rows, [None, packed])
    return columns


def _rows_back(batch: Any) -> dict[str, bytes]:
    columns = {name: batch.column(name).to_numpy(zero_copy_only=True).tobytes() for name in _PLAIN}
    columns["state"] = batch.column("state").indices.to_numpy(zero_copy_only=True).tobytes()
    uuids = batch.column("uuid_bytes")
    columns["uuids"] = uuids.buffers()[1].slice(16 * uuids.offset, 16 * len(uuids)).to_pybytes()
    return columns


# ------------------------------------------------------------------------------------------------------------- edges


def _edges(image: Image) -> dict[str, Any]:
    """`parents` and `edges`: lists in the row of the child, in the order of the edges' own numbers."""
    import numpy as np
    import pyarrow as pa

    child = _numbers(image, "edge_child")
    order = np.argsort(child, kind="stable").astype("<u4")
    counts = np.bincount(child, minlength=image.rows)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype("<i4"))
    parents = pa.array(_numbers(image, "edge_parent")[order].view("<i4"))
    fields = {"edge": pa.array(order)} | {name: pa.array(_numbers(image, name)[order]) for name in _LINKS}
    struct = pa.StructArray.from_arrays(list(fields.values()), names=list(fields))
    return {
        "parents": pa.ListArray.from_arrays(offsets, parents),
        "edges": pa.ListArray.from_arrays(offsets, struct),
    }


def _edges_back(batch: Any, meta: Meta) -> dict[str, bytes]:
    import numpy as np

    parents, edges = batch.column("parents"), batch.column("edges")
    at = edges.flatten().field("edge").to_numpy(zero_copy_only=True)
    counts = np.diff(edges.offsets.to_numpy(zero_copy_only=True))
    ordered = {"edge_child": np.repeat(np.arange(meta.rows, dtype="<u4"), counts)}
    ordered["edge_parent"] = parents.flatten().to_numpy(zero_copy_only=True).view("<u4")
    for name in _LINKS:
        ordered[name] = edges.flatten().field(name).to_numpy(zero_copy_only=True)
    columns = {}
    for name in EDGE_COLUMNS:
        numbers = np.empty(meta.edges, DTYPES[EDGE_COLUMNS[name]])
        numbers[at] = ordered[name]
        columns[name] = numbers.tobytes()
    return columns


# --------------------------------------------------------------------------------------------------------- arguments


def _arguments(image: Image, small: Small) -> Any:
    """One value a row, out of the chunks' `ends` and `args` (`Image.blobs`, in this order for each chunk)."""
    import numpy as np
    import pyarrow as pa

    counts = [count for _, count, _ in small.chunks]
    assert sum(counts) == image.rows, "chunks cover the rows without a gap"
    ends = np.frombuffer(b"".join(image.blobs[0::2]), "<u4").astype("<i8")
    sizes = np.array([len(args) for args in image.blobs[1::2]], "<i8")
    offsets = np.zeros(image.rows + 1, "<i8")
    offsets[1:] = ends + np.repeat(np.cumsum(sizes) - sizes, counts)
    data = pa.py_buffer(b"".join(image.blobs[1::2]))
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), image.rows, [None, pa.py_buffer(offsets), data])


def _blobs_back(batch: Any, small: Small) -> list[bytes]:
    import numpy as np

    column = batch.column("arguments")
    _, where, data = column.buffers()
    offsets = np.frombuffer(where, "<i8", len(column) + 1, 8 * column.offset) if len(column) else np.zeros(1, "<i8")
    blobs: list[bytes] = []
    for row, count, _ in small.chunks:
        begin, end = int(offsets[row]), int(offsets[row + count])
        blobs.append((offsets[row + 1 : row + count + 1] - begin).astype("<u4").tobytes())
        blobs.append(data.slice(begin, end - begin).to_pybytes() if end > begin else b"")
    return blobs


# -------------------------------------------------------------------------------------------------------- for people


def _for_people(image: Image, small: Small) -> dict[str, Any]:
    import numpy as np
    import pyarrow as pa

    spec = _numbers(image, "spec")
    paths = {function.key: function.path for function in small.functions}
    wants = [msgspec.json.encode(spec.options.requirements).decode() for spec in small.specs]
    counts = [count for _, count, _ in small.chunks]
    flow = np.repeat(np.array([flow for _, _, flow in small.chunks], "<i4"), counts)
    created = np.array([flow.wall for flow in small.flows] or [0.0])[flow] if image.rows else np.zeros(0)
    began, elapsed = _numbers(image, "began"), _numbers(image, "elapsed")
    states = pa.DictionaryArray.from_arrays(
        pa.array(_numbers(image, "state").view("<i1")), pa.array([state.label for state in JobState])
    )
    return {
        "row": pa.array(np.arange(image.rows, dtype="<u4")),
        "uuid": _uuids(image, small),
        "name": _interned(spec, [spec.name for spec in small.specs]),
        "function": _interned(spec, [paths.get(spec.function, "") for spec in small.specs]),
        "flow": pa.DictionaryArray.from_arrays(pa.array(flow), pa.array([flow.uuid for flow in small.flows], pa.string())),
        "state": states,
        "created_at": _times(created),
        "began_at": _times(began),
        "ended_at": _times(np.where(began > 0, began + elapsed, 0.0)),
        "requirements": _interned(spec, wants),
    }


def _interned(spec: Numbers, texts: list[str]) -> Any:
    """A text of each row's spec. Every text once: pandas refuses a category that stands there twice."""
    import numpy as np
    import pyarrow as pa

    unique = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    numbers = np.array([unique[text] for text in texts] or [0], "<i4")
    indices = numbers[spec] if len(spec) else np.zeros(0, "<i4")
    return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(list(unique), pa.string()))


def _times(seconds: Numbers) -> Any:
    """Seconds since 1970 as timestamps; 0 is null."""
    import numpy as np
    import pyarrow as pa

    micros = pa.array(np.rint(seconds * 1e6).astype("<i8"), mask=seconds <= 0)
    return micros.cast(pa.timestamp("us", tz="UTC"))


def _uuids(image: Image, small: Small) -> Any:
    """uuids as text: 32 hex digits with four dashes, all rows at once."""
    import numpy as np
    import pyarrow as pa

    if small.odd_uuids:
        packed, odd = image.columns["uuids"], dict(small.odd_uuids)
        return pa.array(
            [unpack_uuid(odd.get(row) or packed[16 * row : 16 * row + 16]) for row in range(image.rows)], pa.large_string()
        )
    digits = np.frombuffer(b"0123456789abcdef", "u1")
    octets = np.frombuffer(image.columns["uuids"], "u1").reshape(image.rows, 16)
    text = np.full((image.rows, 36), ord("-"), "u1")
    where = np.array([i for i in range(36) if i not in (8, 13, 18, 23)])
    text[:, where[0::2]] = digits[octets >> 4]
    text[:, where[1::2]] = digits[octets & 15]
    offsets = np.arange(image.rows + 1, dtype="<i8") * 36
    return pa.LargeStringArray.from_buffers(image.rows, pa.py_buffer(offsets), pa.py_buffer(text.tobytes()))
