"""Which pages hold the tokens of which request. Needs nothing but Python, so that it is tested everywhere."""

import dataclasses
import random


@dataclasses.dataclass(frozen=True)
class Pages:
    """Page ids of every request in token order; pages of a shared prefix are in several lists."""

    lists: tuple
    num_pages: int

    @property
    def indptr(self):
        ends = [0]
        for pages in self.lists:
            ends.append(ends[-1] + len(pages))
        return ends

    @property
    def indices(self):
        return [page for pages in self.lists for page in pages]


def deal(workload):
    """Pages in random order, as a server that has run for a while has them; the same at every call."""
    size = workload.page_size
    counts = [-(-length // size) for length in workload.kv_lens]
    shared = workload.prefix_tokens // size
    first = [request - request % workload.prefix_requests for request in range(workload.num_requests)]
    own = [count - (shared if first[request] != request else 0) for request, count in enumerate(counts)]
    ids = list(range(sum(own)))
    random.Random(7).shuffle(ids)
    lists, at = [], 0
    for request, count in enumerate(own):
        prefix = lists[first[request]][:shared] if first[request] != request else []
        lists.append(prefix + ids[at:at + count])
        at += count
    return Pages(lists=tuple(map(tuple, lists)), num_pages=len(ids))


def num_copies(bytes_per_copy, room_bytes, at_least_bytes=1 << 30, most=256):
    """Copies of K and V that take turns: together 1 GiB, so that no cache holds what is read next; two where there is room, one at least."""
    wanted = max(2, -(-at_least_bytes // max(1, bytes_per_copy)))
    return max(1, min(wanted, most, room_bytes // max(1, bytes_per_copy)))


def num_calls(copies, microseconds):
    """Calls of a chain: at least 32 and about 5 ms, every copy as often as any other. A replay's fixed cost of about 20 us is inside, once."""
    wanted = max(32, min(256, int(5000 / max(1.0, microseconds))))
    return copies * -(-wanted // copies)
