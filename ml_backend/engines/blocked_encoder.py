"""SAM's image encoder, computed block by block so that the attention stays in the CPU's cache.

The same mathematics and the same parameters as `segment_anything`'s `ImageEncoderViT`, which stays
the reference that the tests compare with. What the reference loses on a CPU is memory traffic: a
global layer of ViT-B writes its 12 x 4096 x 4096 attention (805 MB) and reads it again for the
scores, the position bias, the softmax and the product. Here one head and a few rows of queries are
taken at a time (4 MB), the scores are added up where the bias already is, a row of windows goes
through its whole layer, and a window's padding, all of it the projection's bias, is not projected.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from segment_anything.modeling import ImageEncoderViT

__all__ = ["BlockedEncoder", "bfloat16_pays", "fits"]

T = TypeVar("T")
_SCORES_PER_BLOCK = 1 << 20
_TOKENS_PER_BLOCK = 512  # with the fourfold hidden layer 6 MB
_LEAST_GAIN = 1.3  # below that, rounding to bfloat16 is not worth its error


def fits(encoder: nn.Module) -> bool:
    """Say whether an encoder is one that `BlockedEncoder` computes: square, with position bias."""
    blocks = getattr(encoder, "blocks", None)
    embedded = getattr(encoder, "pos_embed", None)
    if blocks is None or embedded is None or embedded.shape[1] != embedded.shape[2]:
        return False
    side = int(embedded.shape[1])
    return all(
        block.attn.use_rel_pos
        and block.attn.rel_pos_h.shape[0]
        == block.attn.rel_pos_w.shape[0]
        == 2 * (block.window_size or side) - 1
        for block in blocks
    )


class _Linear:
    """A linear layer whose product is rounded to `dtype`; input, bias and output are float32."""

    def __init__(self, layer: nn.Linear, dtype: torch.dtype) -> None:
        self.bias = layer.bias.detach()
        self._weight = layer.weight.detach().to(dtype)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._weight.dtype == torch.float32:
            return functional.linear(x, self._weight, self.bias)
        return functional.linear(x.to(self._weight.dtype), self._weight).float().add_(self.bias)


class _Workers:
    """Threads that compute one piece each, instead of torch's that share each operation.

    An operation shared by threads ends when the last of them does; on a machine with other work
    they wait for each other at each of thousands of small operations, and burn the time by it.
    """

    def __init__(self) -> None:
        self._threads = torch.get_num_threads()
        # The number is the process's in some releases of torch and the thread's in others.
        self._pool = ThreadPoolExecutor(
            self._threads, initializer=torch.set_num_threads, initargs=(1,)
        )

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        torch.set_num_threads(self._threads)

    def each(self, work: Callable[[T], None], pieces: Iterable[T]) -> None:
        """Do the work on each of the pieces, which must not overlap."""
        if self._threads == 1:
            for piece in pieces:
                work(piece)
            return
        # Inference mode belongs to a thread, too.
        jobs = [self._pool.submit(torch.inference_mode()(work), piece) for piece in pieces]
        for job in jobs:
            job.result()


class BlockedEncoder:
    """Encode one preprocessed image on the CPU; parameters are shared with `encoder`, not copied.

    With `linear_dtype=torch.bfloat16` the linear layers are rounded, and only they.
    """

    def __init__(
        self, encoder: ImageEncoderViT, *, linear_dtype: torch.dtype = torch.float32
    ) -> None:
        if not fits(encoder):
            raise ValueError("This image encoder is not of the shape that SAM's ViT has.")
        self._encoder = encoder
        self._linear = {
            id(layer): _Linear(layer, linear_dtype)
            for block in encoder.blocks
            for layer in (block.attn.qkv, block.attn.proj, block.mlp.lin1, block.mlp.lin2)
        }

    @torch.inference_mode()
    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map float32 pixels (1, 3, side, side) to the embedding (1, channels, tokens, tokens)."""
        encoder = self._encoder
        x = encoder.patch_embed(pixels) + encoder.pos_embed
        side, width = int(x.shape[1]), int(x.shape[3])
        x = x.reshape(side * side, width)
        with _Workers() as workers:
            for block in encoder.blocks:
                if block.window_size:
                    strips = x.split(int(block.window_size) * side)
                    workers.each(partial(self._add_windows, block, side), strips)
                else:
                    self._add_global_attention(block, x, side, workers)
                workers.each(partial(self._add_mlp, block), x.split(_TOKENS_PER_BLOCK))
        features: torch.Tensor = encoder.neck(x.view(1, side, side, width).permute(0, 3, 1, 2))
        return features

    def _add_mlp(self, block: Any, x: torch.Tensor) -> None:
        hidden = functional.gelu(self._linear[id(block.mlp.lin1)](block.norm2(x)))
        x += self._linear[id(block.mlp.lin2)](hidden)

    def _add_windows(self, block: Any, side: int, x: torch.Tensor) -> None:
        x += self._attend_in_windows(block, block.norm1(x), side)

    def _add_global_attention(
        self, block: Any, x: torch.Tensor, side: int, workers: _Workers
    ) -> None:
        attention = block.attn
        tokens, width = x.shape
        heads, head = attention.num_heads, width // attention.num_heads
        qkv = torch.empty(3, heads, tokens, head)
        rows = max(1, _SCORES_PER_BLOCK // side**3)

        def project(part: slice) -> None:
            found = self._linear[id(attention.qkv)](block.norm1(x[part]))
            qkv[:, :, part] = found.view(-1, 3, heads, head).permute(1, 2, 0, 3)

        def attend(number: int) -> None:
            query, key, value = qkv[:, number]
            by_row, by_column = (bias[0] for bias in _bias(attention, query, side))
            for top in range(0, side, rows):
                block_rows = slice(top, top + rows)
                flat = slice(top * side, (top + rows) * side)
                scores = by_row[block_rows, :, :, None] + by_column[block_rows, :, None, :]
                scores = scores.view(-1, tokens)
                scores.addmm_(query[flat], key.t(), alpha=attention.scale)
                mixed[flat, number] = torch.mm(torch.softmax(scores, dim=-1), value)

        def add(part: slice) -> None:
            x[part] += self._linear[id(attention.proj)](mixed[part].view(-1, width))

        mixed = torch.empty(tokens, heads, head)
        parts = [slice(top, top + _TOKENS_PER_BLOCK) for top in range(0, tokens, _TOKENS_PER_BLOCK)]
        workers.each(project, parts)
        workers.each(attend, range(heads))
        workers.each(add, parts)

    def _attend_in_windows(self, block: Any, x: torch.Tensor, side: int) -> torch.Tensor:
        """Attend in one row of windows; `x` holds its at most `window_size` rows of tokens."""
        attention, window = block.attn, int(block.window_size)
        tokens, width = x.shape
        rows = tokens // side
        heads, head = attention.num_heads, width // attention.num_heads
        across = -(-side // window)
        project = self._linear[id(attention.qkv)]
        qkv = project(x).view(rows, side, 3 * width)
        if qkv.shape[:2] != (window, across * window):
            # The reference pads with zeros before the projection: what is left is its bias.
            whole = project.bias.expand(window, across * window, -1).contiguous()
            whole[:rows, :side] = qkv
            qkv = whole
        parts = qkv.view(window, across, window, 3, heads, head).permute(3, 1, 4, 0, 2, 5)
        query, key, value = parts.reshape(3, across * heads, window * window, head)
        by_row, by_column = _bias(attention, query, window)
        scores = (by_row[..., None] + by_column[..., None, :]).view(
            across * heads, window * window, window * window
        )
        scores.baddbmm_(query, key.transpose(1, 2), alpha=attention.scale)
        mixed = torch.bmm(torch.softmax(scores, dim=-1), value)
        mixed = mixed.view(across, heads, window, window, head).permute(2, 0, 3, 1, 4)
        mixed = mixed.reshape(window, across * window, width)[:rows, :side]
        return self._linear[id(attention.proj)](mixed.reshape(tokens, width))


def _bias(attention: Any, query: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Position bias of queries (n, side * side, head) by key row and by key column.

    Both are (n, side, side, side): the query's row and column, then the key's row or column. The
    sum over both is the decomposed bias of Li et al., "MViTv2" (2022), as SAM uses it.
    """
    steps = torch.arange(side)
    distance = steps[:, None] - steps[None, :] + side - 1
    squares = query.reshape(-1, side, side, query.shape[-1])
    by_row = torch.matmul(squares, attention.rel_pos_h[distance].transpose(1, 2))
    columns = attention.rel_pos_w[distance].transpose(1, 2)
    by_column = torch.matmul(squares.transpose(1, 2), columns).transpose(1, 2)
    return by_row, by_column.contiguous()


def bfloat16_pays(clock: Callable[[], float] = time.perf_counter, rounds: int = 3) -> bool:
    """Measure whether this CPU multiplies bfloat16 matrices at least 1.3 times as fast as float32.

    A CPU without bfloat16 instructions emulates them and loses. Takes some 50 ms.
    """
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    with torch.inference_mode():
        x, weight = torch.ones(512, 768), torch.ones(768, 768)
        for _ in range(rounds + 1):
            for dtype in best:
                a, b = x.to(dtype), weight.to(dtype)
                started = clock()
                functional.linear(a, b)
                best[dtype] = min(best[dtype], clock() - started)
    return best[torch.float32] > _LEAST_GAIN * best[torch.bfloat16]
