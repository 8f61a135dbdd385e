"""Values to bytes and back, with their types: msgpack, and a numbered extension for whatever msgpack has no word for.

    encode, decode            one value
    encode_call               the arguments of a job; the references inside become numbers of its parents
    split, join               a large value as a header and raw buffers, which come back without a copy
    stub, stub_token          stands in a record for a value whose content is a file
    references_in             the references inside a value

A tuple stays a tuple and an int key an int. Two names for one list inside a value become two lists: like JSON, and unlike
pickle, a value is a tree. What no extension knows goes by cloudpickle, under an extension of its own that a reader may
refuse. The table of extensions stands in `wire`; docs/FORMAT.md shows it.
"""

from towline.engine.codec.packing import (
    encode,
    encode_call,
    encode_call_noting,
    encode_content,
    references_in,
    split,
    stub,
)
from towline.engine.codec.reading import Content, Reader, decode, join, stub_token

__all__ = [
    "Content",
    "Reader",
    "decode",
    "encode",
    "encode_call",
    "encode_call_noting",
    "encode_content",
    "join",
    "references_in",
    "split",
    "stub",
    "stub_token",
]
