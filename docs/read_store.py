"""Reads the journal of a towline store by docs/FORMAT.md alone and proves every byte of it: `python docs/read_store.py FOLDER`.

Knows nothing of towline. Sixty lines, imports and docstrings aside; it reads a store at rest, all of it in memory.
"""

import struct
import sys
from functools import partial
from hashlib import blake2b
from pathlib import Path

from google_crc32c import value as crc32c
from msgspec.msgpack import decode

blake, NONE = partial(blake2b, digest_size=32), (0, 0, 0, 0, 0, 0, -1)


def must(fine, name, at=0):
    if not fine:
        raise ValueError(f"{name}: it is damaged, at offset {at}")


def head(data, at):
    """length, seq, back, kind, mask, flags, crc of the record at this offset; a crc of -1 if no record's header is there."""
    mark, *fields, crc = struct.unpack("<4sIQIBBHII", data[at : at + 32].ljust(32, b"\0"))
    return fields if (mark, crc) == (b"\xf1rec", crc32c(data[32:48] + data[at : at + 28] + struct.pack("<Q", at))) else NONE


def records(data, name, number, judged=True, most=1 << 62):
    """(kind, seq, offset, where its append began, payload) of each record in these bytes of a segment."""
    if len(data) < 128:  # its making was cut off: it holds nothing
        return must(not (judged and data), name) or []
    magic, version, _, said, size, _, _, crc = struct.unpack_from("<8sIIQQ16s76sI", data)
    must((magic, version, said, crc) == (b"TOWLSEG\n", 1, number, crc32c(data[:124])) and size in (0, len(data)), name)
    found, at = [], 128
    while at < len(data) and len(found) < most:
        length, seq, back, kind, mask, _, crc = head(data, at)
        stored, end = data[at + 32 : at + 32 + length], at + 40 + length + -length % 8
        if not (crc == crc32c(stored) and data[at + 32 + length : end] == bytes(-length % 8) + b"\xf2recend\xf3"):
            lost = end > len(data) or any(not any(data[max(at, s) : s + 512]) for s in range(at // 512 * 512, len(data), 512))
            later = any((h := head(data, a)) != NONE and a - h[2] > at for a in range(at + 8, len(data) - 31, 8))
            return must(lost and not (later or judged or size), name, at) or found  # torn
        must(kind == (at == 128 and number > 1), name, at)
        found.append((kind, seq, at, at - back, bytes(byte ^ mask for byte in stored) if mask else stored))
        at = end
    return found


def read(objects):
    """(seq, payload) of each committed record, from a mapping of keys to bytes. ValueError: something is damaged."""
    images, chains = {}, {0: bytes(32)}

    def accept(number, length, digest, name, data):
        must(number - 1 in chains and (len(data), blake(data).digest()) == (length, digest), name)
        must(images.setdefault(number, (data, name, number))[0] == data, name)
        chains[number] = blake(chains[number - 1] + struct.pack("<QQ", number, length) + digest).digest()

    for key in sorted(key for key in objects if key.startswith("parts/")):
        data = objects[key]
        size, crc, mark = struct.unpack("<QI8s", data[-20:].rjust(20))
        must(data[:16] + mark == struct.pack("<8sII8s", b"TOWLPART", 1, crc32c(data[:12]), b"TOWLPART"), key)
        must(crc32c(data[-20 - size : -20]) == crc, key, len(data) - 20)
        before, after, entries = decode(data[-20 - size : -20])
        for number, _, _, start, length, digest, *_ in entries:
            accept(number, length, digest, key, data[start : start + length])
        must((chains[entries[0][0] - 1], chains[number]) == (before, after), key)
    first = len(images) + 1  # what lies below this number under journal/ does not count any more
    loose = {int(k[8:28]): (v, k) for k, v in objects.items() if k.startswith("journal/") and int(k[8:28]) >= first}
    must(not loose or len(loose) == max(loose) + 1 - first, f"journal/: a segment from {first} on")
    heads = {n: records(*loose[n], n, False, 1) for n in loose}
    judge = {n: decode(heads[n][0][4]) if n > 1 else [[], 0, bytes(32)] for n in loose if heads[n] or n == 1}
    steps = sorted(judge)[-1:]
    while steps and steps[-1] > first:
        steps.append(judge[steps[-1]][0][0][0])
    for step in reversed(steps):
        for number, length, digest in (entry for entry in judge[step][0] if entry[0] >= first):
            accept(number, length, digest, loose[number][1], loose[number][0][:length])
        must(judge[step][2] == chains[step - 1], loose[step][1], 128)
    found = [record for number in sorted(images) for record in records(*images[number])]
    if steps:  # the open segment: nobody has judged it; if others have begun behind it, only what it was appended after counts
        last, whole = records(*loose[steps[0]], steps[0], False), steps[0] == max(loose) or any(loose[steps[0]][0][24:32])
        found += [record for record in last if whole or record[2] < max(r[3] for r in last)]
    must([seq for kind, seq, *_ in found if not kind] == list(range(sum(not kind for kind, *_ in found))), "the records' numbers")
    return [(seq, payload) for kind, seq, _, _, payload in found if not kind]


if __name__ == "__main__":
    here = Path(sys.argv[1])
    print(len(read({str(p.relative_to(here)): p.read_bytes() for p in here.glob("[jp]*/*")})), "records, all proven")
