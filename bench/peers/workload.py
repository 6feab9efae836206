"""What is compared on: a layer's shape and the lengths of one step, as docs/json.md has them, several to a file.

A file is one workload, or a list under "workloads" whose entries may replace keys of the file's "spec". Needs nothing but Python.
"""

import dataclasses
import json
import pathlib
import random

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "workloads"
DTYPE_BYTES = {"f32": 4, "bf16": 2, "f16": 2, "e4m3": 1}
SPEC_KEYS = {"num_qo_heads", "num_kv_heads", "head_dim_qk", "head_dim_vo", "dtype", "kv_dtype", "variant", "format", "value_columns"}
WORKLOAD_KEYS = {"name", "about", "spec", "requests", "shared_prefix", "seed"}


class BadWorkload(ValueError):
    """A file that is not a list of workloads; says where and what."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """One step of one layer. Lengths are of requests in batch order; kv lengths include the query's own tokens."""

    name: str
    qo_lens: tuple
    kv_lens: tuple
    about: str = ""
    num_qo_heads: int = 32
    num_kv_heads: int = 8
    head_dim_qk: int = 128
    head_dim_vo: int = 128
    dtype: str = "bf16"
    kv_dtype: str = "bf16"
    page_size: int = 16
    causal: bool = True
    prefix_tokens: int = 0     # the first tokens of every prefix_requests adjacent requests are the same pages
    prefix_requests: int = 1
    value_columns: bool = False  # V is the first head_dim_vo columns of K (latent attention): one cache

    @property
    def num_requests(self):
        return len(self.qo_lens)

    @property
    def group_size(self):
        return self.num_qo_heads // self.num_kv_heads

    @property
    def num_tokens(self):
        return sum(self.qo_lens)

    @property
    def kind(self):
        """"decode" (few query tokens each), "prefill" or "mixed"."""
        few = [length <= 8 for length in self.qo_lens]
        return "decode" if all(few) else "mixed" if any(few) else "prefill"

    @property
    def equal_lengths(self):
        return len(set(self.qo_lens)) == 1 and len(set(self.kv_lens)) == 1

    @property
    def distinct_kv_tokens(self):
        """KV tokens that the batch holds, a shared prefix once."""
        shared = sum(self.prefix_tokens for request in range(self.num_requests) if request % self.prefix_requests != 0)
        return sum(self.kv_lens) - shared

    @property
    def kv_bytes(self):
        """Bytes of K and V, each read once: the least a step moves, but for q and o."""
        columns = self.head_dim_qk + (0 if self.value_columns else self.head_dim_vo)
        return self.distinct_kv_tokens * self.num_kv_heads * columns * DTYPE_BYTES[self.kv_dtype]

    @property
    def flop(self):
        """Of the two products, over the pairs that the mask leaves."""
        pairs = sum(qo * kv - (qo * (qo - 1) // 2 if self.causal else 0) for qo, kv in zip(self.qo_lens, self.kv_lens))
        return 2 * self.num_qo_heads * (self.head_dim_qk + self.head_dim_vo) * pairs

    @property
    def dense_refusal(self):
        """Why the caches can't be read as one dense tensor; None if they can."""
        if not self.equal_lengths:
            return "takes equal lengths only"
        if self.prefix_tokens:
            return "can't share a prefix"
        if self.value_columns:
            return "K and V are apart"
        return "the last page is not full" if self.kv_lens[0] % self.page_size != 0 else None

    def describe(self):
        lengths = sorted(set(self.kv_lens))
        span = f"{lengths[0]:,}" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,}"
        queries = f"{self.num_requests} requests" if self.num_tokens == self.num_requests else f"{self.num_requests} requests with {self.num_tokens:,} queries"
        dims = f"d{self.head_dim_qk}" if self.head_dim_qk == self.head_dim_vo else f"d{self.head_dim_qk}/{self.head_dim_vo}"
        return (f"{queries} of {span} tokens, {self.kv_bytes / 1e6:,.1f} MB of K and V, {self.num_qo_heads}/{self.num_kv_heads} heads, {dims}, "
                f"page {self.page_size}, {self.kv_dtype}")


def read_lengths(value, count, draw, where):
    """`count` lengths: a number, {"uniform": [low, high]}, {"zipf": [low, high]} or {"zipf_total": sum}; the last three in random order."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return [value] * count
    if isinstance(value, dict) and len(value) == 1:
        (kind, of), = value.items()
        if kind == "zipf_total" and isinstance(of, int) and of >= count:
            lengths = zipf_lengths(count, of)
            draw.shuffle(lengths)
            return lengths
        if kind in ("uniform", "zipf") and isinstance(of, list) and len(of) == 2 and all(isinstance(x, int) for x in of) and 0 <= of[0] <= of[1]:
            lengths = [max(of[0], of[1] // (rank + 1)) for rank in range(count)] if kind == "zipf" else [draw.randint(*of) for _ in range(count)]
            draw.shuffle(lengths)
            return lengths
    raise BadWorkload(f'{where}: {json.dumps(value)} is not a length; write a number, {{"uniform": [low, high]}}, {{"zipf": [low, high]}} or '
                      '{"zipf_total": sum}')


def zipf_lengths(count, total):
    """Lengths proportional to 1 / rank, whole, at least 1, that add up to total; what rounding leaves goes to the longest."""
    harmonic = sum(1 / rank for rank in range(1, count + 1))
    lengths = [max(1, int(total / harmonic / rank)) for rank in range(1, count + 1)]
    lengths[0] += total - sum(lengths)
    return lengths


def only_keys(value, known, where):
    if not isinstance(value, dict):
        raise BadWorkload(f"{where}: {json.dumps(value)[:60]} is not an object")
    for key in value:
        if key not in known:
            raise BadWorkload(f'{where}: unknown key "{key}"; known: {", ".join(sorted(known))}')


def positive(value, key, default, where):
    number = value.get(key, default)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise BadWorkload(f"{where}: {key} = {json.dumps(number)}; a whole number from 1 is needed")
    return number


def read_spec(spec, where):
    only_keys(spec, SPEC_KEYS, f"{where}.spec")
    page = spec.get("format", {"page_size": 16})
    only_keys(page, {"page_size"}, f"{where}.spec.format")
    fields = {key: positive(spec, key, default, where) for key, default in (("num_qo_heads", 32), ("num_kv_heads", 8), ("head_dim_qk", 128))}
    fields["head_dim_vo"] = positive(spec, "head_dim_vo", fields["head_dim_qk"], where)
    fields["page_size"] = positive(page, "page_size", 16, where)
    if fields["num_qo_heads"] % fields["num_kv_heads"] != 0:
        raise BadWorkload(f"{where}: num_kv_heads = {fields['num_kv_heads']} does not divide num_qo_heads = {fields['num_qo_heads']}")
    fields["dtype"] = spec.get("dtype", "bf16")
    fields["kv_dtype"] = spec.get("kv_dtype", fields["dtype"])
    for key in ("dtype", "kv_dtype"):
        if fields[key] not in DTYPE_BYTES:
            raise BadWorkload(f"{where}: {key} = {json.dumps(fields[key])}; known: {', '.join(DTYPE_BYTES)}")
    variant = spec.get("variant", "causal")
    if variant not in ("causal", "full"):
        raise BadWorkload(f'{where}: variant {json.dumps(variant)}; peers are compared on "causal" and "full"')
    return dict(fields, causal=variant == "causal", value_columns=bool(spec.get("value_columns", False)))


def read_one(value, spec, name, where):
    only_keys(value, WORKLOAD_KEYS, where)
    fields = read_spec({**spec, **value.get("spec", {})}, where)
    requests = value.get("requests")
    if not isinstance(requests, list) or not requests:
        raise BadWorkload(f'{where}: "requests" is not a list; write [{{"count": 64, "qo_len": 1, "kv_len": 4096}}]')
    draw = random.Random(value.get("seed", 1))
    qo_lens, kv_lens = [], []
    for index, entry in enumerate(requests):
        here = f"{where}.requests[{index}]"
        only_keys(entry, {"count", "qo_len", "kv_len"}, here)
        count = positive(entry, "count", 1, here)
        kv = read_lengths(entry.get("kv_len"), count, draw, f"{here}.kv_len")
        # A prompt's queries are all its tokens: "qo_len": "kv_len", so that drawn lengths agree.
        qo = kv if entry.get("qo_len") == "kv_len" else read_lengths(entry.get("qo_len"), count, draw, f"{here}.qo_len")
        qo_lens += qo
        kv_lens += kv
    prefix = value.get("shared_prefix", {})
    only_keys(prefix, {"tokens", "requests"}, f"{where}.shared_prefix")
    workload = Workload(name=value.get("name", name), about=value.get("about", ""), qo_lens=tuple(qo_lens), kv_lens=tuple(kv_lens),
                        prefix_tokens=prefix.get("tokens", 0), prefix_requests=prefix.get("requests", 1), **fields)
    check(workload, where)
    return workload


def check(workload, where):
    for request, (qo, kv) in enumerate(zip(workload.qo_lens, workload.kv_lens)):
        if not 1 <= qo <= kv:
            raise BadWorkload(f"{where}: request {request} has qo_len = {qo} and kv_len = {kv}; 1 <= qo_len <= kv_len is needed")
    if workload.prefix_tokens % workload.page_size != 0 or workload.prefix_requests < 1:
        raise BadWorkload(f"{where}: shared_prefix of {workload.prefix_tokens} tokens; whole pages of {workload.page_size} tokens are needed")
    if workload.prefix_tokens > min(workload.kv_lens):
        raise BadWorkload(f"{where}: shared_prefix of {workload.prefix_tokens} tokens, but a request has {min(workload.kv_lens)}")
    if workload.value_columns and workload.head_dim_vo > workload.head_dim_qk:
        raise BadWorkload(f"{where}: V can't be {workload.head_dim_vo} columns of a K of {workload.head_dim_qk}")


def read_file(path):
    """The workloads of a file, in its order."""
    path = pathlib.Path(path)
    try:
        value = json.loads(path.read_text())
    except OSError as error:
        raise BadWorkload(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise BadWorkload(f"{path}: not JSON ({error})") from None
    if "workloads" not in value:
        return [read_one(value, {}, path.stem, path.name)]
    only_keys(value, {"about", "spec", "workloads"}, path.name)
    found = [read_one(entry, value.get("spec", {}), "", f"{path.name}.workloads[{index}]") for index, entry in enumerate(value["workloads"])]
    names = [workload.name for workload in found]
    for name in names:
        if not name or names.count(name) > 1:
            raise BadWorkload(f'{path.name}: name "{name}" is {"empty" if not name else "there twice"}; each workload needs its own')
    return found


def known_sets():
    """{name: file} of the sets that come with the tree."""
    return {path.stem: path for path in sorted((FOLDER / "peers").glob("*.json"))}


def choose(wanted):
    """The workloads of sets, files, and names within sets; all sets but "check" where nothing is wanted."""
    sets = known_sets()
    chosen = []
    for name in wanted or [name for name in sets if name != "check"]:
        if name in sets or name.endswith(".json"):
            chosen += read_file(sets.get(name, name))
            continue
        matches = [workload for path in sets.values() for workload in read_file(path) if workload.name == name]
        if not matches:
            raise BadWorkload(f'no set, workload or file "{name}"; sets: {", ".join(sets)}; --list has the workloads')
        chosen += matches[:1]
    unique = {}
    for workload in chosen:
        unique.setdefault(workload.name, workload)
    return list(unique.values())
