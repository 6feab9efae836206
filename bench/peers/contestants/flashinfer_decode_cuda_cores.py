"""FlashInfer's decode wrapper as it is by default: without tensor cores."""

from peers.contestants.flashinfer_decode import FlashInferDecode


class FlashInferDecodeCudaCores(FlashInferDecode):
    name = "flashinfer_decode_cc"
    about = "BatchDecodeWithPagedKVCacheWrapper, CUDA cores, graph plan"
    tensor_cores = False
