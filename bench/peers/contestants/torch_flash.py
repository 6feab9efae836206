"""FlashAttention-2 as PyTorch ships it."""

from peers.peer import Peer, package_version
from peers.sdpa import prepare_sdpa, sdpa_refusal


class TorchFlash(Peer):
    name = "torch_flash"
    about = "scaled_dot_product_attention, FlashAttention-2 backend, dense caches"

    def missing(self):
        import torch

        return None if torch.backends.cuda.is_flash_attention_available() else "this PyTorch was built without FlashAttention"

    def version(self):
        return package_version("torch")

    def refuses(self, workload):
        if workload.head_dim_qk != workload.head_dim_vo:
            return "head_dim_qk and head_dim_vo are one number"
        return sdpa_refusal(workload)

    def prepare(self, batch):
        return prepare_sdpa(batch, "FLASH_ATTENTION")
