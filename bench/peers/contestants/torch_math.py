"""PyTorch's plain attention: the yardstick of the CPU mode."""

from peers.peer import Peer, package_version
from peers.sdpa import prepare_sdpa, sdpa_refusal


class TorchMath(Peer):
    name = "torch_math"
    about = "scaled_dot_product_attention, MATH backend, dense caches"
    devices = ("cpu",)

    def version(self):
        return package_version("torch")

    def refuses(self, workload):
        return sdpa_refusal(workload)

    def prepare(self, batch):
        return prepare_sdpa(batch, "MATH")
