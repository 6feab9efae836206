"""flex_attention against PyTorch's eager one: standard functions, layouts, dtypes; what is found again, and what is refused."""

import math
import os
import threading
import warnings

import pytest

torch = pytest.importorskip("torch", reason="no torch: its tests are left out")

import flex_cases as cases  # noqa: E402
from conftest import DEVICE  # noqa: E402
from torch.nn.attention import flex_attention as torch_flex  # noqa: E402

import fovea  # noqa: E402
from fovea.flex import and_masks, create_block_mask, flex_attention, or_masks  # noqa: E402
from fovea.flex import attend as implementation  # noqa: E402

torch_flex._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = True  # eager, without dynamo
pytestmark = pytest.mark.filterwarnings("ignore:return_lse is deprecated")

FULL = os.environ.get("FOVEA_TEST_MATRIX") == "full"
DTYPES = [torch.float32] if DEVICE == "cpu" else [torch.bfloat16, torch.float16] if FULL else [torch.bfloat16]
# batch, query heads, kv heads, queries, keys, head dims
SHAPES = [(2, 4, 2, 117, 117, 64, 64), (1, 2, 2, 70, 133, 64, 64), (3, 4, 1, 1, 128, 64, 64)]
SHAPES = SHAPES if DEVICE == "cpu" or FULL else SHAPES[::2]  # on a GPU every shape of heads is compiled


def tensors(batch, heads, kv_heads, q_len, kv_len, dim, dim_v, dtype=DTYPES[0], seed=3):
    numbers = torch.Generator().manual_seed(seed)
    shapes = [(batch, heads, q_len, dim), (batch, kv_heads, kv_len, dim), (batch, kv_heads, kv_len, dim_v)]
    return [torch.randn(*shape, generator=numbers).to(DEVICE, dtype) for shape in shapes]


def blocks(mask_mod, q, k):
    return None if mask_mod is None else torch_flex.create_block_mask(mask_mod, q.shape[0], q.shape[1], q.shape[2], k.shape[2], device=DEVICE)


def expected(q, k, v, score_mod, mask_mod, **more):
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    return torch_flex.flex_attention(q, k, v, score_mod, blocks(mask_mod, q, k), enable_gqa=True, return_lse=True, **more)


def check(q, k, v, score_mod=None, mask_mod=None, block_mask=None, **more):
    out, lse = flex_attention(q, k, v, score_mod, mask_mod if block_mask is None else block_mask, enable_gqa=True, return_lse=True, **more)
    exact, exact_lse = expected(q.float(), k.float(), v.float(), score_mod, mask_mod, **more)
    plain, _ = expected(q, k, v, score_mod, mask_mod, **more)
    assert out.dtype == q.dtype and out.shape == exact.shape and lse.shape == exact_lse.shape
    sees = exact_lse.isfinite()
    assert torch.equal(lse.isfinite(), sees) and bool((lse[~sees] == -torch.inf).all())
    assert bool((out[~sees] == 0).all())
    tolerance = 2e-5 if q.dtype == torch.float32 else 2 * (plain.float() - exact).abs().max().item() + 4e-3
    assert (out.float() - exact).abs().max().item() <= tolerance
    if bool(sees.any()):
        assert (lse[sees] - exact_lse[sees]).abs().max().item() <= (2e-5 if q.dtype == torch.float32 else 5e-3)
    return out


NAMES = list(cases.standard_cases(1, 2, 8, 8))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_standard(name, dtype):
    for shape in SHAPES:
        score_mod, mask_mod = cases.standard_cases(shape[0], shape[1], shape[3], shape[4], DEVICE)[name]
        q, k, v = tensors(*shape, dtype)
        block_mask = blocks(mask_mod, q, k)
        first = check(q, k, v, score_mod, mask_mod, block_mask)
        assert torch.equal(first, check(q, k, v, score_mod, mask_mod, block_mask))


# ---- Layouts ---------------------------------------------------------------------------------------------------------------------------


def by_tokens(x):
    return x.transpose(1, 2).contiguous().transpose(1, 2)


@pytest.mark.parametrize("kv_len", [64, 48, 37])
def test_layouts(kv_len):
    q, k, v = tensors(2, 4, 2, 33, kv_len, 64, 64)
    wide = torch.cat([k, v], dim=3)  # K and V as halves of one tensor
    padded = torch.cat([k, k], dim=2)[:, :, :kv_len]  # room behind every head's keys
    for keys, values in [(k, v), (by_tokens(k), by_tokens(v)), (by_tokens(k), v), (wide[..., :64], wide[..., 64:]), (padded, v),
                         (k.transpose(2, 3).contiguous().transpose(2, 3), v), (k.flip(2), v)]:  # fmt: skip
        check(q, keys, values, None, cases.causal)
    check(by_tokens(q), k, v, None, cases.causal)
    check(q.transpose(2, 3).contiguous().transpose(2, 3), k, v, None, cases.causal)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 2, 3), (0, 2, 1, 3), (2, 0, 1, 3), (0, 1, 3, 2)], ids=str)
def test_one_token(order):
    """PyTorch gives an axis of one entry any stride, and calls such a tensor contiguous."""
    q, k, v = tensors(3, 4, 2, 5, 1, 64, 64)
    back = [order.index(axis) for axis in range(4)]
    other = k.permute(order).contiguous().permute(back)
    for key, value in ((other, v), (v, other), (other, other), (k[:, :, :1], torch.cat([v, v, v], 2)[:, :, 1:2])):
        check(q, key, value, None, cases.causal)


def test_one_batch_entry_of_keys_serves_all():
    q, k, v = tensors(3, 4, 2, 5, 32, 64, 64)
    whole = check(q, k[:1].expand(3, -1, -1, -1), v[:1].expand(3, -1, -1, -1), None, cases.causal)
    assert torch.equal(whole, flex_attention(q, k[:1], v[:1], block_mask=cases.causal, enable_gqa=True))


def test_head_dims_and_scale():
    q, k, v = tensors(1, 2, 2, 20, 30, 64, 128)
    check(q, k, v, cases.soft_cap(3.0), cases.causal, scale=0.31)


def test_nothing_to_do():
    for q_len, kv_len in [(0, 5), (5, 0), (0, 0)]:
        q, k, v = tensors(2, 2, 2, q_len, kv_len, 64, 64)
        out, lse = flex_attention(q, k, v, return_lse=True)
        assert out.shape == q.shape and bool((out == 0).all()) and bool((lse == -torch.inf).all())


def test_rows_that_see_nothing():
    q, k, v = tensors(2, 2, 2, 40, 40, 64, 64)
    check(q, k, v, None, lambda b, h, q_idx, kv_idx: (q_idx >= kv_idx) & (q_idx > 11))
    check(q, k, v, None, lambda b, h, q_idx, kv_idx: kv_idx < -1)
    check(q, k, v, lambda s, b, h, q_idx, kv_idx: torch.where(s > 1e9, s, -torch.inf), None)  # by the score: no mask


# ---- What is given as block_mask ---------------------------------------------------------------------------------------------------------


def test_forms_of_masks():
    q, k, v = tensors(2, 2, 2, 96, 96, 64, 64)
    window = cases.sliding_window(9)
    wanted = check(q, k, v, None, window)
    for block_mask in [window, blocks(window, q, k), create_block_mask(window), create_block_mask(window, 2, 2, 96, 96), and_masks(window, cases.causal),
                       torch_flex.and_masks(cases.causal, window), or_masks(window, window)]:  # fmt: skip
        assert torch.equal(flex_attention(q, k, v, block_mask=block_mask), wanted)
    for block_mask in [create_block_mask(window, 2, 2, 95, 96), torch_flex.create_block_mask(window, None, None, 128, 128, device=DEVICE)]:
        with pytest.raises(ValueError, match="block_mask was made for lengths"):
            flex_attention(q, k, v, block_mask=block_mask)


def test_blocks_without_a_function():
    q, k, v = tensors(2, 2, 2, 64, 64, 64, 64)
    counts = torch.tensor([[[1, 2, 1, 3]]], dtype=torch.int32, device=DEVICE)
    indices = torch.tensor([[[[0, 1, 2, 3], [1, 0, 2, 3], [3, 0, 1, 2], [0, 2, 3, 1]]]], dtype=torch.int32, device=DEVICE)
    block_mask = torch_flex.BlockMask.from_kv_blocks(counts, indices, BLOCK_SIZE=16)
    listed = block_mask.to_dense()[0, 0].bool()
    check(q, k, v, None, lambda b, h, q_idx, kv_idx: listed[q_idx // 16, kv_idx // 16], block_mask)


# ---- What is found again -----------------------------------------------------------------------------------------------------------------


def compiled():
    return {record["path"] for record in fovea.default_engine(DEVICE).compiled()}


def test_the_same_functions_compile_once():
    q, k, v = tensors(2, 2, 2, 50, 50, 64, 64)
    bias = torch.randn(2, 101, device=DEVICE)

    def of(window, table, weight):
        def bias_mod(score, b, h, q_idx, kv_idx):
            return score + table[h, q_idx - kv_idx + 50] * weight

        return bias_mod, lambda b, h, q_idx, kv_idx: ((q_idx - kv_idx).abs() <= window) | (kv_idx % 8 == 3)

    check(q, k, v, *of(7, bias, 1.25))
    before = compiled()
    check(q, k, v, *of(12, bias + 1, 0.75))
    check(q, k, v, *of(3, torch.randn(2, 211, device=DEVICE), 3.0))
    longer = tensors(2, 2, 2, 60, 61, 64, 64)
    check(*longer, *of(3, torch.randn(2, 211, device=DEVICE), 3.0))
    assert compiled() == before


def test_plans_and_traces_are_found_again():
    q, k, v = tensors(2, 2, 2, 50, 50, 64, 64)
    score_mod, mask_mod = cases.soft_cap(4.0), cases.sliding_window(11)
    call = lambda: flex_attention(q, k, v, score_mod, mask_mod)  # noqa: E731
    call()
    traces, plans = list(implementation._traces), [(p, p.generation) for p in implementation._of_thread.plans.values()]
    call()
    assert list(implementation._traces) == traces
    assert {(id(p), p.generation) for p in implementation._of_thread.plans.values()} == {(id(p), n) for p, n in plans}


def test_more_plans_than_are_kept():
    for q_len in [*range(3, 17), 3, 9]:
        q, k, v = tensors(1, 2, 2, q_len, 20, 64, 64)
        check(q, k, v, None, cases.causal)
    assert len(implementation._of_thread.plans) <= implementation._KEPT_PLANS


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16], ids=str)
def test_tensors_written_to_are_read_anew(dtype):
    q, k, v = tensors(2, 2, 2, 48, 48, 64, 64)
    documents = torch.zeros(48, dtype=dtype, device=DEVICE)
    mask_mod = cases.document(documents)
    offset = torch.tensor(3, device=DEVICE)
    shifted = cases.shifted(offset)
    for i in range(3):
        documents[10 * i :] += 1
        offset += 4
        check(q, k, v, None, mask_mod)
        check(q, k, v, None, shifted)


def test_opaque_masks_with_tensors_written_to():
    q, k, v = tensors(1, 2, 2, 40, 40, 64, 64)
    odd = torch.zeros(40, dtype=torch.int32, device=DEVICE)

    def opaque(b, h, q_idx, kv_idx):
        return ((q_idx ^ kv_idx) + odd[kv_idx]) % (q_idx + 2) < 3

    for i in range(3):
        odd[5 * i : 20] += 1
        check(q, k, v, None, opaque)


def test_what_functions_read_elsewhere():
    """Attributes and globals that change between calls, tensors computed with inside: nothing is stale."""
    q, k, v = tensors(1, 2, 2, 40, 40, 64, 64)

    class Holder:
        window = 3
        bias = torch.zeros(2, device=DEVICE)

    holder, numbers = Holder(), torch.arange(2.0, device=DEVICE)

    def by_attribute(b, h, q_idx, kv_idx):
        return (q_idx - kv_idx).abs() < holder.window

    def by_computing(score, b, h, q_idx, kv_idx):
        return score * (numbers * 2 + holder.bias)[h] + GLOBAL

    global GLOBAL
    for i in range(3):
        GLOBAL, holder.window, holder.bias = float(i), 3 + 5 * i, holder.bias + 1
        numbers += 1
        check(q, k, v, by_computing, by_attribute)


def test_what_classes_methods_and_functions_hold():
    q, k, v = tensors(1, 2, 2, 40, 40, 64, 64)

    class Config:
        window = 3

    def settings():
        pass

    values = {}
    read = values.get

    def window_of(size):
        return lambda b, h, q_idx, kv_idx: (q_idx - kv_idx).abs() < size[0]

    for window in (3, 8, 1):
        Config.window = settings.window = values["window"] = window
        check(q, k, v, None, lambda b, h, q_idx, kv_idx: (q_idx - kv_idx).abs() < Config.window)
        check(q, k, v, None, lambda b, h, q_idx, kv_idx: (q_idx - kv_idx).abs() < settings.window)
        check(q, k, v, None, lambda b, h, q_idx, kv_idx: (q_idx - kv_idx).abs() < read("window"))
        check(q, k, v, None, window_of(torch.Size((window, 2))))


def test_powers_that_vary():
    q, k, v = tensors(1, 4, 2, 30, 30, 64, 64)
    check(q, k, v, lambda score, b, h, q_idx, kv_idx: score**h)
    check(q, k, v, lambda score, b, h, q_idx, kv_idx: score ** (h.float() - 0.0) + (kv_idx - 5.0) ** (kv_idx % 4) * 0.01)


def test_functions_that_only_call_pytorch_are_traced_once():
    q, k, v = tensors(1, 2, 2, 40, 40, 64, 64)

    def score_mod(score, b, h, q_idx, kv_idx):
        return torch.nn.functional.softplus(score).to(torch.float32) + math.pi * kv_idx

    check(q, k, v, score_mod)
    traces = list(implementation._traces)
    check(q, k, v, score_mod)
    assert list(implementation._traces) == traces and traces[-1][1][0] is score_mod.__code__


GLOBAL = 0.0


def test_threads():
    q, k, v = tensors(2, 2, 2, 64, 64, 64, 64)
    wanted = [flex_attention(q, k, v, cases.soft_cap(2.0 + i), cases.sliding_window(5 + i)) for i in range(4)]
    wrong = []

    def work(i):
        for _ in range(5):
            if not torch.equal(flex_attention(q, k, v, cases.soft_cap(2.0 + i), cases.sliding_window(5 + i)), wanted[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong


def test_inference_mode():
    with torch.inference_mode():
        q, k, v = tensors(1, 2, 2, 30, 30, 64, 64)
        documents = torch.arange(30, device=DEVICE) // 7
        for _ in range(2):
            documents += 1
            documents[4:9] = 3
            flex_attention(q, k, v, block_mask=cases.document(documents))
            out = flex_attention(q, k, v, block_mask=cases.document(documents))
    check_against, _ = expected(q.float(), k.float(), v.float(), None, cases.document(documents.clone()))
    assert (out.float() - check_against).abs().max().item() < (2e-5 if out.dtype == torch.float32 else 2e-2)


def test_a_break_in_the_graph_of_torch_compile():
    q, k, v = tensors(1, 2, 2, 30, 30, 64, 64)
    wanted = flex_attention(q * 2, k, v, block_mask=cases.causal) + 1
    step = torch.compile(lambda x: flex_attention(x * 2, k, v, block_mask=cases.causal) + 1, backend="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # dynamo warns of what it finds inside
        assert torch.equal(step(q), wanted)


def test_a_traced_variant_in_prepare_plan_run():
    """A decode step over a paged cache: q_idx is the query's position."""
    traced = fovea.flex.trace(cases.soft_cap(5.0), cases.sliding_window(6))
    dtype = DTYPES[0]
    engine = fovea.default_engine(DEVICE)
    spec = fovea.AttentionSpec(2, 2, 64, q_dtype=dtype, k_dtype=dtype, v_dtype=dtype, o_dtype=dtype, variant=traced.variant(), formats=fovea.KvFormat.paged(16))
    attention = engine.prepare(spec, fovea.Limits(max_requests=2, max_kv_tokens_per_request=64))
    _, k, v = tensors(4, 2, 2, 1, 16, 64, 64)
    q = torch.randn(2, 2, 64, generator=torch.Generator().manual_seed(1)).to(DEVICE, dtype)
    tables = fovea.KvTables.csr([0, 2, 3], torch.tensor([3, 0, 1], dtype=torch.int32, device=DEVICE), [5, 9])
    plan = attention.plan([0, 1, 2], tables, mask=traced.mask_values())
    out = plan.run(q, (k.transpose(1, 2).contiguous(), v.transpose(1, 2).contiguous()), **traced.param_values())
    for r, (pages, length) in enumerate([((3, 0), 21), ((1,), 9)]):
        keys, values = (torch.cat([x[p] for p in pages], dim=1)[None, :, :length].float() for x in (k, v))
        rows = torch.zeros(1, 2, length, 64, device=DEVICE)
        rows[0, :, -1] = q[r].float()
        wanted = expected(rows, keys, values, cases.soft_cap(5.0), cases.sliding_window(6))[0][0, :, -1]
        assert (out[r].float() - wanted).abs().max().item() < (2e-5 if dtype == torch.float32 else 2e-2)


# ---- Refusals ----------------------------------------------------------------------------------------------------------------------------


def qkv(**changed):
    shape = dict(batch=1, heads=2, kv_heads=2, q_len=4, kv_len=4, dim=64, dim_v=64) | changed
    return tensors(**shape)


def refused(error, words, q, k, v, *args, **named):
    with pytest.raises(error, match=words):
        flex_attention(q, k, v, *args, **named)


def test_refusals():
    q, k, v = qkv()
    refused(TypeError, "query is ndarray", q.float().cpu().numpy(), k, v)
    refused(ValueError, "query has 3 axes", q[0], k, v)
    refused(ValueError, "key requires grad", q, k.clone().requires_grad_(), v)
    refused(NotImplementedError, "query is torch.float64", q.double(), k, v)
    refused(ValueError, "don't go together", q, k, v[:, :, :3])
    refused(ValueError, "enable_gqa", *qkv(heads=4))
    refused(ValueError, "a multiple with enable_gqa", *qkv(heads=3), enable_gqa=True)
    refused(NotImplementedError, "kernel_options", q, k, v, kernel_options={"BLOCK_M": 64})
    refused(NotImplementedError, "lse alone", q, k, v, return_aux=torch_flex.AuxRequest(max_scores=True))
    refused(TypeError, "block_mask is int", q, k, v, block_mask=3)
    refused(NotImplementedError, "torch.erfinv has no translation", q, k, v, lambda s, b, h, i, j: torch.erfinv(s))
    learned = torch.nn.Parameter(torch.zeros(2, device=DEVICE))
    refused(ValueError, "learned requires grad", q, k, v, lambda s, b, h, i, j: s + learned[h])
    number = torch.nn.Parameter(torch.ones(()))
    scaled = lambda s, b, h, i, j: s * number  # noqa: E731
    with torch.no_grad():
        flex_attention(q, k, v, lambda s, b, h, i, j: s + learned[h])
        flex_attention(q, k, v, scaled)
    refused(ValueError, r"score_mod '<lambda>' .*shape \[\] requires grad", q, k, v, scaled)
    refused(TypeError, "score_mod is int; it must be a function", q, k, v, 3)
    elsewhere = torch.zeros(2, device="meta")
    refused(ValueError, "elsewhere is on meta and query on", q, k, v, lambda s, b, h, i, j: s + elsewhere[h])


def test_aux():
    q, k, v = qkv()
    out, aux = flex_attention(q, k, v, return_aux=torch_flex.AuxRequest(lse=True))
    assert torch.equal(aux.lse, flex_attention(q, k, v, return_lse=True)[1]) and aux.max_scores is None
