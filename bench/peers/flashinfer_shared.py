"""What FlashInfer's peers share: the package, and the scratch memory that its wrappers are given."""

from peers.peer import Peer, package_version

SCRATCH_BYTES = 512 << 20
scratch = {}


class FlashInferPeer(Peer):
    """`name` is empty: not a peer itself."""

    def missing(self):
        import flashinfer  # noqa: F401

        return None

    def version(self):
        return package_version("flashinfer-python", "flashinfer")

    def refuses(self, workload):
        return "latent caches go through another wrapper" if workload.value_columns else None


def scratch_memory(name="", zeroed=False):
    """One for the process and name: wrappers run one after the other on one stream."""
    import torch

    if name not in scratch:
        make = torch.zeros if zeroed else torch.empty
        scratch[name] = make(SCRATCH_BYTES, dtype=torch.uint8, device="cuda")
    return scratch[name]


def decode_only(workload):
    return "one query token a request" if max(workload.qo_lens) > 1 else None


def scales(workload):
    """An 8-bit cache's scales, as run() takes them."""
    return {"k_scale": 1.0, "v_scale": 1.0} if workload.kv_dtype != workload.dtype else {}
