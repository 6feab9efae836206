"""cuDNN's attention as PyTorch calls it: the dense yardstick on NVIDIA GPUs."""

from peers.peer import Peer, package_version
from peers.sdpa import prepare_sdpa, sdpa_refusal


class TorchCudnn(Peer):
    name = "torch_cudnn"
    about = "scaled_dot_product_attention, cuDNN backend, dense caches"

    def missing(self):
        import torch

        return None if torch.backends.cudnn.is_available() else "this PyTorch has no cuDNN"

    def version(self):
        import torch

        return f"{package_version('torch')}, cuDNN {torch.backends.cudnn.version()}"

    def refuses(self, workload):
        return sdpa_refusal(workload, chunks=False)

    def prepare(self, batch):
        return prepare_sdpa(batch, "CUDNN_ATTENTION")
