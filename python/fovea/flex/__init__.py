"""Attention variants from Python: functions as PyTorch's FlexAttention takes them, traced and written as a variant's C++ text.

    out = fovea.flex_attention(q, k, v, score_mod=soft_cap, block_mask=causal)     # as torch.nn.attention.flex_attention
    traced = fovea.flex.trace(soft_cap, causal)                                    # for Engine.prepare: traced.variant(), .mask_values(), .param_values()

docs/flex-attention.md has the vocabulary and what is refused.
"""

from .attend import flex_attention
from .evaluate import evaluate
from .graph import CannotTrace
from .masks import Mask, and_masks, create_block_mask, or_masks
from .tracer import Table
from .translate import Traced, translate as trace

__all__ = ["CannotTrace", "Mask", "Table", "Traced", "and_masks", "create_block_mask", "evaluate", "flex_attention", "or_masks", "trace"]
