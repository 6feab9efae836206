"""FlashInfer's paged prefill wrapper with its Hopper kernels."""

from peers.contestants.flashinfer_prefill import FlashInferPrefill


class FlashInferPrefillFa3(FlashInferPrefill):
    name = "flashinfer_fa3"
    about = "BatchPrefillWithPagedKVCacheWrapper, backend fa3"
    backend = "fa3"

    def missing(self):
        import torch

        if torch.cuda.get_device_capability()[0] != 9:
            return "Hopper only"
        return super().missing()
