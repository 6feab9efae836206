"""What is asked: AttentionSpec and Limits, fixed per model; KvTables, one step's tables. The nouns of include/fovea/{problem,limits,plan}.h."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Optional, Sequence, Union

from .variants import Variant, VariantLike

_DTYPE_NAMES = {
    "f32": "f32", "float32": "f32", "f16": "f16", "float16": "f16", "half": "f16", "bf16": "bf16", "bfloat16": "bf16",
    "e4m3": "e4m3", "float8_e4m3fn": "e4m3", "fp8_e4m3": "e4m3", "e5m2": "e5m2", "float8_e5m2": "e5m2", "fp8_e5m2": "e5m2",
}


def dtype_name(dtype: Any, of: str = "dtype") -> str:
    """Fovea's name ("bf16") of a name, a torch dtype or a NumPy dtype."""
    text = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", None) or str(dtype)
    name = _DTYPE_NAMES.get(text.rpartition(".")[2])
    if name is None:
        raise ValueError(f"{of} is {dtype!r}; it must be one of f32, f16, bf16, e4m3, e5m2, or a torch or NumPy dtype like these")
    return name


@dataclass(frozen=True)
class KvFormat:
    """Where the KV of one format lies.

    page_size:   tokens per table entry; for a block-sparse matrix the columns of a block.
    has_table:   False: ragged, a request's tokens are adjacent.
    by_index:    a column's position is its storage index (block-sparse matrices), not its place in the table.
    per_kv_head: every (request, kv head) has a table row of its own.
    block_rows:  > 0: row groups are blocks of this many query tokens (block-sparse matrices).
    """

    page_size: int = 1
    has_table: bool = True
    by_index: bool = False
    per_kv_head: bool = False
    block_rows: int = 0

    @staticmethod
    def paged(page_size: int) -> "KvFormat":
        return KvFormat(page_size=page_size)

    @staticmethod
    def ragged() -> "KvFormat":
        return KvFormat(has_table=False)

    @staticmethod
    def block_sparse(block_rows: int, block_cols: int) -> "KvFormat":
        return KvFormat(page_size=block_cols, by_index=True, block_rows=block_rows)


@dataclass(frozen=True)
class AttentionSpec:
    """One attention layer's shape, fixed per model.

    num_kv_heads divides num_qo_heads. head_dim_vo 0 means head_dim_qk. Dtypes are names ("f32", "f16", "bf16", "e4m3", "e5m2"), torch or NumPy dtypes;
    o_dtype is f32, f16 or bf16. kv_quant says which scales a quantised cache has: "none", "tensor", "head" (f32 [num_kv_heads]) or "token" (f32, shaped
    like the cache without its last axis). More than one format: every row's attention is the exact merge over all of them.
    """

    num_qo_heads: int
    num_kv_heads: int
    head_dim_qk: int
    head_dim_vo: int = 0
    q_dtype: Any = "bf16"
    k_dtype: Any = "bf16"
    v_dtype: Any = "bf16"
    o_dtype: Any = "bf16"
    kv_quant: str = "none"
    variant: VariantLike = "causal"
    formats: Sequence[KvFormat] = (KvFormat(page_size=16),)

    def __post_init__(self):
        for name in ("q_dtype", "k_dtype", "v_dtype", "o_dtype"):
            object.__setattr__(self, name, dtype_name(getattr(self, name), name))
        object.__setattr__(self, "variant", Variant.of(self.variant))
        formats = tuple(self.formats) if isinstance(self.formats, (list, tuple)) else (self.formats,)
        for format in formats:
            if not isinstance(format, KvFormat):
                raise TypeError(f"formats holds {type(format).__name__}; it must be a fovea.KvFormat, as KvFormat.paged(16), or a list of them")
        object.__setattr__(self, "formats", formats)

    def _arguments(self) -> list:
        """In the order of spec_from() in python/binding/readers.cc."""
        variant = Variant.of(self.variant)
        arguments = [self.num_qo_heads, self.num_kv_heads, self.head_dim_qk, self.head_dim_vo, self.q_dtype, self.k_dtype, self.v_dtype, self.o_dtype,
                     self.kv_quant, variant.name, len(variant.sources)]
        for source in variant.sources:
            arguments += [source.name, source.text, source.file]
        arguments.append(len(self.formats))
        for f in self.formats:
            arguments += [f.page_size, f.has_table, f.by_index, f.per_kv_head, f.block_rows]
        return arguments


@dataclass(frozen=True)
class Limits:
    """What no batch will exceed: kernels are chosen by these bounds, buffers are sized from them, and a plan over one is refused.

    0 takes a default: max_query_tokens is max_requests (one query token each, pure decode) or max_query_tokens_per_request if that is more;
    max_query_tokens_per_request is max_query_tokens; max_kv_tokens_per_request is 131072. max_kv_tokens (of all requests) is read by fixed splits
    alone. max_row_groups is max_requests per format, or as many row blocks as max_query_tokens make. max_mask_groups: masks planned together.
    """

    max_requests: int = 256
    max_query_tokens: int = 0
    max_query_tokens_per_request: int = 0
    max_kv_tokens_per_request: int = 0
    max_kv_tokens: int = 0
    max_row_groups: int = 0
    max_mask_groups: int = 1

    def _arguments(self) -> list:
        return [self.max_requests, self.max_query_tokens, self.max_query_tokens_per_request, self.max_kv_tokens_per_request, self.max_kv_tokens,
                self.max_row_groups, self.max_mask_groups]


class KvTables(NamedTuple):
    """Tables of one format for one step; int32 tensors, those not given None. Made by `csr`, `table_2d`, `ragged`, `block_sparse`, or from all fields.

    Page ids (page_indices, page_table) are on the engine's device and are read by `Plan.run`: the plan keeps them alive. All others are read by
    `Attention.plan`, and are on the host (lists of integers too) or, with every other integer of the batch, on the engine's device.

    page_indptr [groups + 1], page_indices [>= page_indptr[-1]] | page_table [rows, width], table_rows [groups] optional
    last_page_len [groups] in 1..page_size | kv_len [groups] tokens
    row_indptr [sets + 1], row_indices: rows, when groups are not the requests
    kv_pos [groups], kv_pos_stride: column c of a group stands at kv_pos + c * kv_pos_stride
    ragged_tokens: with a ragged page_indptr on the device, no more than so many tokens
    """

    # In the order of tables_from() in python/binding/readers.cc.
    page_indptr: Any = None
    page_indices: Any = None
    page_table: Any = None
    table_rows: Any = None
    last_page_len: Any = None
    kv_len: Any = None
    ragged_tokens: int = 0
    row_indptr: Any = None
    row_indices: Any = None
    kv_pos: Any = None
    kv_pos_stride: int = 1

    @staticmethod
    def csr(page_indptr, page_indices, last_page_len=None, *, kv_len=None, **more) -> "KvTables":
        """Group i's pages are page_indices[page_indptr[i] : page_indptr[i + 1]]."""
        return KvTables(page_indptr=page_indptr, page_indices=page_indices, last_page_len=last_page_len, kv_len=kv_len, **more)

    @staticmethod
    def table_2d(page_table, kv_len, **more) -> "KvTables":
        """Group i's pages are the start of page_table[i] (of page_table[table_rows[i]], with table_rows)."""
        return KvTables(page_table=page_table, kv_len=kv_len, **more)

    @staticmethod
    def ragged(kv_token_indptr, **more) -> "KvTables":
        """Group i's tokens are rows kv_token_indptr[i] : kv_token_indptr[i + 1] of K and V."""
        return KvTables(page_indptr=kv_token_indptr, **more)

    @staticmethod
    def block_sparse(block_indptr, block_indices, **more) -> "KvTables":
        """Row block i holds the blocks block_indices[block_indptr[i] : block_indptr[i + 1]], in any order, none twice."""
        return KvTables(page_indptr=block_indptr, page_indices=block_indices, **more)


@dataclass(frozen=True)
class TileClasses:
    """What a mask makes of tiles, where that is known before the plan: `Attention.classify_tiles` finds it.

    classes: u8 on the host, one byte a tile: 0 empty, 1 mixed, 2 full. class_indptr: int32 [num_requests + 1].
    """

    classes: Any
    class_indptr: Any
    tile_q: int
    tile_kv: int
    per_head: bool = False

    def _arguments(self) -> tuple:
        return (self.classes, self.class_indptr, self.tile_q, self.tile_kv, self.per_head)


MaskLike = Union[None, str, dict]


def mask_arguments(mask: MaskLike, id_of) -> tuple:
    """One mask as the library reads it: how many values, names and values, tiles."""
    if mask is None:
        return (0, None)
    if isinstance(mask, str) and mask == "any":
        return (-1, None)
    if not isinstance(mask, dict):
        raise TypeError(f'mask is {type(mask).__name__}; it must be a dict of values, None for defaults, or "any"')
    arguments: list = []
    tiles: Optional[TileClasses] = None
    for name, value in mask.items():
        if name == "tiles":
            tiles = value
        else:
            arguments += (id_of(name), value)
    return (len(arguments) // 2, *arguments, *((None,) if tiles is None else tiles._arguments()))
