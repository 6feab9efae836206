"""The tensors of a workload, shared by every peer: pools of K and V, page tables, queries; and what the answer is.

Several copies of K and V take turns in a chain of calls. All peers of a point read the same bytes: as pages through a table, as one run of tokens per
request ("ragged"), or, where lengths are equal, as [requests, kv heads, tokens, dim] ("dense", another order of the same numbers).
"""

import torch

from peers import pages

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "e4m3": torch.float8_e4m3fn}
MIB = 1 << 20


class Pools:
    """Memory for K and V of all workloads, filled once with random numbers; never zeros, which are multiplied with less power."""

    def __init__(self, device, most_bytes):
        self.device, self.most_bytes, self.storage = torch.device(device), most_bytes, {}

    def take(self, name, dtype, count):
        """At least `count` elements, and as many as asked for before."""
        pool = self.storage.get((name, dtype))
        if pool is None or pool.numel() < count:
            self.storage.pop((name, dtype), None)
            pool = torch.empty(count, dtype=dtype, device=self.device)
            step = 1 << 28
            for begin in range(0, count, step):
                part = pool[begin:begin + step]
                part.copy_(torch.randn(part.shape, device=self.device, dtype=torch.float32 if dtype == torch.float32 else torch.bfloat16))
            self.storage[name, dtype] = pool
        return pool

    def room_bytes(self):
        """What K and V of one workload may take, all copies."""
        return self.most_bytes


class Batch:
    """One workload on one device."""

    def __init__(self, workload, pools, single=False):
        self.workload, self.device = workload, pools.device
        self.pages = pages.deal(workload)
        self.dtype, self.kv_dtype = DTYPES[workload.dtype], DTYPES[workload.kv_dtype]
        row = self.pages.num_pages * workload.page_size * workload.num_kv_heads
        self.k_count, self.v_count = row * workload.head_dim_qk, 0 if workload.value_columns else row * workload.head_dim_vo
        copy_bytes = (self.k_count + self.v_count) * self.kv_dtype.itemsize
        self.copies = 1 if single else pages.num_copies(copy_bytes, pools.room_bytes())
        self.k_pool = pools.take("k", self.kv_dtype, self.copies * self.k_count)
        self.v_pool = pools.take("v", self.kv_dtype, self.copies * self.v_count) if self.v_count else None
        self.make_tables()
        shape = (workload.num_tokens, workload.num_qo_heads)
        self.q = torch.randn(self.copies, *shape, workload.head_dim_qk, device=self.device, dtype=torch.float32).to(self.dtype)
        self.o = torch.empty(*shape, workload.head_dim_vo, device=self.device, dtype=self.dtype)
        self.sm_scale = workload.head_dim_qk**-0.5
        self.answers = {}

    def make_tables(self):
        workload, table = self.workload, self.pages
        self.qo_indptr_list = [0]
        for length in workload.qo_lens:
            self.qo_indptr_list.append(self.qo_indptr_list[-1] + length)
        self.kv_indptr_list = [0]
        for length in workload.kv_lens:
            self.kv_indptr_list.append(self.kv_indptr_list[-1] + length)
        self.last_page_len_list = [(length - 1) % workload.page_size + 1 for length in workload.kv_lens]
        self.max_qo_len, self.max_kv_len = max(workload.qo_lens), max(workload.kv_lens)
        self.qo_indptr, self.kv_indptr = self.int32(self.qo_indptr_list), self.int32(self.kv_indptr_list)
        self.page_indptr, self.page_indices = self.int32(table.indptr), self.int32(table.indices)
        self.last_page_len, self.kv_lens = self.int32(self.last_page_len_list), self.int32(workload.kv_lens)
        widest = max(map(len, table.lists))
        self.block_table = self.int32([list(pages) + [0] * (widest - len(pages)) for pages in table.lists])

    def int32(self, values):
        return torch.tensor(values, dtype=torch.int32, device=self.device)

    @property
    def empty_like_o(self):
        return torch.empty_like(self.o)

    def k(self, copy):
        """[pages, page_size, kv heads, head_dim_qk]"""
        part = self.k_pool[copy * self.k_count:(copy + 1) * self.k_count]
        return part.view(self.pages.num_pages, self.workload.page_size, self.workload.num_kv_heads, self.workload.head_dim_qk)

    def v(self, copy):
        if self.v_pool is None:
            return self.k(copy)[..., :self.workload.head_dim_vo]
        part = self.v_pool[copy * self.v_count:(copy + 1) * self.v_count]
        return part.view(self.pages.num_pages, self.workload.page_size, self.workload.num_kv_heads, self.workload.head_dim_vo)

    def dense(self, tensor):
        """Pages of k(copy) or v(copy) read as [requests, kv heads, tokens, dim]; only where workload.dense_refusal has nothing to say."""
        workload = self.workload
        return tensor.reshape(-1).view(workload.num_requests, workload.num_kv_heads, workload.kv_lens[0], tensor.shape[-1])

    def ragged(self, tensor):
        """Pages of k(copy) or v(copy) gathered into [tokens of all requests, kv heads, dim]: a copy, made before timing."""
        flat = tensor.reshape(-1, *tensor.shape[2:])
        return flat[torch.cat([self.token_slots(request) for request in range(self.workload.num_requests)])].contiguous()

    def token_slots(self, request):
        """Where the tokens of a request lie, counted in tokens of the pool."""
        size, length = self.workload.page_size, self.workload.kv_lens[request]
        pages_of = self.page_indices[self.pages.indptr[request]:self.pages.indptr[request + 1]].long()
        return (pages_of[:, None] * size + torch.arange(size, device=self.device)).reshape(-1)[:length]

    def request_kv(self, copy, request, layout):
        """K and V of a request as [tokens, kv heads, dim], for a peer that reads them in `layout`."""
        if layout == "dense":
            return tuple(self.dense(tensor)[request].transpose(0, 1) for tensor in (self.k(copy), self.v(copy)))
        slots = self.token_slots(request)
        return tuple(tensor.reshape(-1, *tensor.shape[2:])[slots] for tensor in (self.k(copy), self.v(copy)))
