"""numpy, Arrow and pandas: raw bytes and Arrow IPC, beside the header when they are large.

What lies inline is copied into arrays of the reader's own; what was split comes back as read-only views of the buffers. A
pandas object goes as Arrow only if Arrow gives back exactly the same; everything else is pickled.
"""

from __future__ import annotations

from typing import Any

from towline.engine.codec.packing import Handler, Packer
from towline.engine.codec.reading import Reader
from towline.engine.codec.wire import Code, Ext, ext

_ARROW = {
    "Table": "table",
    "RecordBatch": "batch",
    "ChunkedArray": "chunked",
    "Schema": "schema",
    "Tensor": "tensor",
}


def handler_for(kind: type, root: str) -> Handler | None:
    """The handler of a type from numpy, pyarrow or pandas; None: it is an object like others."""
    match root:
        case "numpy":
            return _numpy(kind)
        case "pyarrow":
            return _arrow_kind(kind)
        case _:
            return _frame if kind.__name__ in ("DataFrame", "Series") else None


def _numpy(kind: type) -> Handler | None:
    import numpy as np

    if kind is np.ndarray:
        return _ndarray
    return _scalar if issubclass(kind, np.generic) else None


def _ndarray(value: Any, packer: Packer) -> Any:
    import numpy as np

    if value.dtype.hasobject or value.dtype.metadata:
        from towline.engine.codec.others import pickled

        return pickled(value, packer)
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    flat = value.T if order == "F" else np.ascontiguousarray(value)
    data = packer.buffer(flat.reshape(-1).view(np.uint8)) if value.nbytes else b""
    return ext(Code.NDARRAY, [_descr(value.dtype, packer), list(value.shape), order, data])


def _descr(dtype: Any, packer: Packer) -> Any:
    from numpy.lib import format as npy

    return packer.wire(npy.dtype_to_descr(dtype))


def _dtype(descr: Any) -> Any:
    from numpy.lib import format as npy

    return npy.descr_to_dtype(descr)


def read_ndarray(payload: list[Any], reader: Reader) -> Any:
    """An array: the reader's own if it lay inline, a read-only view if its buffer lay beside the header."""
    import numpy as np

    descr, shape, order, data = payload
    made = np.frombuffer(data, np.uint8).view(_dtype(descr)) if len(data) else np.empty(0, _dtype(descr))
    made = made.reshape(shape, order=order) if len(data) else np.empty(shape, _dtype(descr))
    if isinstance(data, memoryview):
        made.flags.writeable = False
        return made
    return made.copy(order="K")


def _scalar(value: Any, packer: Packer) -> Any:
    if value.dtype.hasobject:
        from towline.engine.codec.others import pickled

        return pickled(value, packer)
    return ext(Code.SCALAR, [_descr(value.dtype, packer), value.tobytes()])


def read_scalar(payload: list[Any], reader: Reader) -> Any:
    """A numpy scalar."""
    import numpy as np

    dtype = _dtype(payload[0])
    if dtype.itemsize == 0:
        # text and bytes of length 0
        return dtype.type()
    return np.frombuffer(payload[1], dtype)[0]


def _arrow_kind(kind: type) -> Handler | None:
    import pyarrow as pa

    if issubclass(kind, pa.Array):
        return lambda value, packer: _arrow(value, packer, "array")
    name = _ARROW.get(kind.__name__)
    return None if name is None else lambda value, packer: _arrow(value, packer, name)


def _arrow(value: Any, packer: Packer, kind: str) -> Ext:
    import pyarrow as pa

    match kind:
        case "schema":
            return ext(Code.ARROW, [kind, packer.buffer(value.serialize())])
        case "tensor":
            return ext(Code.ARROW, [kind, packer.buffer(_ipc_tensor(value)), list(value.dim_names)])
        case "array":
            stored: Any = pa.record_batch([value], names=["0"])
        case "chunked":
            stored = pa.table([value], names=["0"])
        case _:
            stored = value
    return ext(Code.ARROW, [kind, packer.buffer(_ipc(stored))])


def _ipc(stored: Any) -> Any:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, stored.schema) as writer:
        writer.write(stored)
    return sink.getvalue()


def _ipc_tensor(tensor: Any) -> Any:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    pa.ipc.write_tensor(tensor, sink)
    return sink.getvalue()


def read_arrow(payload: list[Any], reader: Reader) -> Any:
    """An Arrow object; its columns lie on the buffer that it was read from."""
    import pyarrow as pa

    kind, data, *names = payload
    source = pa.py_buffer(data)
    match kind:
        case "schema":
            return pa.ipc.read_schema(source)
        case "tensor":
            made = pa.ipc.read_tensor(pa.BufferReader(source))
            # Arrow forgets the names of dimensions when it writes a strided or an empty tensor
            return made if list(made.dim_names) == names[0] else pa.Tensor.from_numpy(made.to_numpy(), names[0])
        case "batch":
            return pa.ipc.open_stream(source).read_next_batch()
        case "array":
            return pa.ipc.open_stream(source).read_next_batch().column(0)
        case "chunked":
            return pa.ipc.open_stream(source).read_all().column(0)
        case _:
            return pa.ipc.open_stream(source).read_all()


def _frame(value: Any, packer: Packer) -> Any:
    table = _as_table(value)
    if table is None:
        from towline.engine.codec.others import pickled

        return pickled(value, packer)
    return ext(Code.FRAME, [type(value).__name__, getattr(value, "name", None), packer.buffer(_ipc(table))])


def _as_table(value: Any) -> Any:
    """The Arrow table that gives back exactly this frame or series, or None if there is none."""
    import pandas as pd
    import pyarrow as pa

    frame = value if isinstance(value, pd.DataFrame) else value.to_frame("0")
    if type(value) not in (pd.DataFrame, pd.Series) or value.attrs or not _simple(frame):
        return None
    if isinstance(value, pd.Series) and not (value.name is None or type(value.name) is str):
        return None
    try:
        table = pa.Table.from_pandas(frame)
        back = table.to_pandas()
    except (pa.ArrowException, TypeError, ValueError):
        return None
    same = frame.dtypes.equals(back.dtypes) and type(frame.index) is type(back.index) and frame.index.identical(back.index)
    return table if same and frame.columns.identical(back.columns) else None


def _simple(frame: Any) -> bool:
    """Only columns whose every value Arrow keeps: no objects, text labels, one level of index."""
    import pandas as pd

    labels = type(frame.columns) is pd.Index and all(type(label) is str for label in frame.columns)
    kinds = all(getattr(dtype, "kind", "O") != "O" or isinstance(dtype, pd.StringDtype) for dtype in frame.dtypes)
    index = type(frame.index) in (pd.RangeIndex, pd.Index, pd.DatetimeIndex) and frame.index.nlevels == 1
    return labels and frame.columns.is_unique and kinds and index and frame.index.dtype.kind in "iufbM"


def read_frame(payload: list[Any], reader: Reader) -> Any:
    """A pandas frame or series."""
    import pyarrow as pa

    kind, name, data = payload
    frame = pa.ipc.open_stream(pa.py_buffer(data)).read_all().to_pandas()
    return frame if kind == "DataFrame" else frame["0"].rename(name)
