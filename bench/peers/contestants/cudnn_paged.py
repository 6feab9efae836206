"""cuDNN's paged attention through nvidia-cudnn-frontend's graphs, which PyTorch does not expose."""

from peers.peer import Call, Peer

HANDLES = []


class CudnnPaged(Peer):
    name = "cudnn_paged"
    about = "nvidia-cudnn-frontend, sdpa with page tables"

    def missing(self):
        import cudnn

        return None if hasattr(cudnn, "pygraph") else "this cudnn module has no pygraph"

    def version(self):
        import cudnn

        return f"frontend {cudnn.__version__}, cuDNN {cudnn.backend_version()}"

    def refuses(self, workload):
        if workload.kv_dtype != workload.dtype:
            return "8-bit caches need 8-bit queries and outputs"
        return "V within K is not described to it" if workload.value_columns else None

    def prepare(self, batch):
        return CudnnGraph(batch).call()


class CudnnGraph:
    """One built graph. Queries are packed behind ragged offsets unless each request has one."""

    def __init__(self, batch):
        import cudnn
        import torch

        self.batch, self.cudnn, self.torch = batch, cudnn, torch
        if not HANDLES:
            HANDLES.append(cudnn.create_handle())
        self.handle = HANDLES[0]
        workload = batch.workload
        self.packed = batch.max_qo_len > 1
        self.kinds = {torch.bfloat16: cudnn.data_type.BFLOAT16, torch.float16: cudnn.data_type.HALF, torch.int32: cudnn.data_type.INT32,
                      torch.int64: cudnn.data_type.INT64}
        requests = workload.num_requests
        self.table = batch.block_table.view(requests, 1, -1, 1)
        self.kv_len = batch.kv_lens.view(requests, 1, 1, 1)
        self.qo_len = batch.int32(workload.qo_lens).view(requests, 1, 1, 1)
        self.build()

    def offsets(self, head_dim):
        return (self.batch.qo_indptr.long() * (self.batch.workload.num_qo_heads * head_dim)).view(-1, 1, 1, 1)

    def describe(self, head_dim):
        """Shape and strides of q or o: tokens of a request lie behind each other, heads within a token."""
        workload, queries = self.batch.workload, self.batch.max_qo_len
        row = workload.num_qo_heads * head_dim
        return {"dim": [workload.num_requests, workload.num_qo_heads, queries, head_dim], "stride": [queries * row, head_dim, row, 1]}

    def build(self):
        cudnn, batch, workload = self.cudnn, self.batch, self.batch.workload
        graph = self.graph = cudnn.pygraph(io_data_type=self.kinds[batch.dtype], intermediate_data_type=cudnn.data_type.FLOAT,
                                           compute_data_type=cudnn.data_type.FLOAT, handle=self.handle)

        def described(tensor, uid):
            return graph.tensor(dim=list(tensor.shape), stride=list(tensor.stride()), data_type=self.kinds[tensor.dtype], uid=uid)

        pages_k, pages_v = batch.k(0).transpose(1, 2), batch.v(0).transpose(1, 2)
        q = graph.tensor(**self.describe(workload.head_dim_qk), data_type=self.kinds[batch.dtype], uid=1)
        options = {}
        if workload.causal and self.packed:
            options = {"diagonal_alignment": cudnn.diagonal_alignment.BOTTOM_RIGHT, "diagonal_band_right_bound": 0}
        self.extra = ()
        if self.packed:
            q_offsets, o_offsets = self.offsets(workload.head_dim_qk), self.offsets(workload.head_dim_vo)
            q.set_ragged_offset(described(q_offsets, 9))
            self.extra = ((9, q_offsets), (10, o_offsets))
        o, _ = graph.sdpa(name="sdpa", q=q, k=described(pages_k, 2), v=described(pages_v, 3), attn_scale=batch.sm_scale, generate_stats=False,
                          use_padding_mask=True, seq_len_q=described(self.qo_len, 7), seq_len_kv=described(self.kv_len, 8),
                          paged_attention_k_table=described(self.table, 5), paged_attention_v_table=described(self.table, 6),
                          paged_attention_max_seq_len_kv=batch.max_kv_len, **options)
        shape = self.describe(workload.head_dim_vo)
        o.set_uid(4).set_output(True).set_dim(shape["dim"]).set_stride(shape["stride"]).set_data_type(self.kinds[batch.dtype])
        if self.packed:
            o.set_ragged_offset(described(self.extra[1][1], 10))
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        graph.check_support()
        graph.build_plans()
        self.workspace = self.torch.empty(max(16, graph.get_workspace_size()), dtype=self.torch.uint8, device=batch.device)

    def call(self):
        batch, graph, cudnn = self.batch, self.graph, self.cudnn
        current_stream = self.torch.cuda.current_stream
        uids = [1, 2, 3, 4, 5, 6, 7, 8, *(uid for uid, _ in self.extra)]
        tail = [batch.o, self.table, self.table, self.qo_len, self.kv_len, *(tensor for _, tensor in self.extra)]
        tensors = [[batch.q[copy], batch.k(copy).transpose(1, 2), batch.v(copy).transpose(1, 2), *tail] for copy in range(batch.copies)]

        def run(copy):
            cudnn.set_stream(self.handle, current_stream().cuda_stream)
            graph.execute(tensors[copy], self.workspace, self.handle, tensor_uids=uids)
            return batch.o

        return Call(run)
