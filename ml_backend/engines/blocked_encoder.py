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
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from segment_anything.modeling import ImageEncoderViT

__all__ = ["BlockedEncoder", "bfloat16_pays", "fits"]

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
        for block in encoder.blocks:
            if block.window_size:
                # Windows see each other nowhere in the block: a row of them is taken through it.
                step = int(block.window_size) * side
                for top in range(0, side * side, step):
                    strip = x[top : top + step]
                    strip += self._attend_in_windows(block, block.norm1(strip), side)
                    self._add_mlp(block, strip)
            else:
                x += self._attend_globally(block, block.norm1(x), side)
                self._add_mlp(block, x)
        features: torch.Tensor = encoder.neck(x.view(1, side, side, width).permute(0, 3, 1, 2))
        return features

    def _add_mlp(self, block: Any, x: torch.Tensor) -> None:
        for top in range(0, x.shape[0], _TOKENS_PER_BLOCK):
            part = x[top : top + _TOKENS_PER_BLOCK]
            hidden = functional.gelu(self._linear[id(block.mlp.lin1)](block.norm2(part)))
            part += self._linear[id(block.mlp.lin2)](hidden)

    def _attend_globally(self, block: Any, x: torch.Tensor, side: int) -> torch.Tensor:
        attention = block.attn
        tokens, width = x.shape
        heads, head = attention.num_heads, width // attention.num_heads
        qkv = self._linear[id(attention.qkv)](x).view(tokens, 3, heads, head)
        query, key, value = qkv.permute(1, 2, 0, 3).contiguous()
        by_row, by_column = _bias(attention, query, side)
        mixed = torch.empty(tokens, heads, head)
        rows = max(1, _SCORES_PER_BLOCK // side**3)
        for number in range(heads):
            transposed = key[number].t()
            for top in range(0, side, rows):
                block_rows = slice(top, top + rows)
                flat = slice(top * side, (top + rows) * side)
                scores = (
                    by_row[number, block_rows, :, :, None]
                    + by_column[number, block_rows, :, None, :]
                ).view(-1, tokens)
                scores.addmm_(query[number, flat], transposed, alpha=attention.scale)
                mixed[flat, number] = torch.mm(torch.softmax(scores, dim=-1), value[number])
        return self._linear[id(attention.proj)](mixed.view(tokens, width))

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
