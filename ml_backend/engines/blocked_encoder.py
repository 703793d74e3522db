"""SAM's image encoder, computed block by block so that the attention stays in the CPU's cache.

The same mathematics and the same parameters as `segment_anything`'s `ImageEncoderViT`, which stays
the reference that the tests compare with. What the reference loses on a CPU is memory traffic: a
global layer of ViT-B writes its 12 x 4096 x 4096 attention (805 MB) and reads it again for the
scores, the position bias, the softmax and the product. Here one head and a few rows of queries are
taken at a time (4 MB), the scores are added up where the bias already is, a row of windows goes
through its whole layer, and a window's padding, all of it the projection's bias, is not projected.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from math import prod
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from segment_anything.modeling import ImageEncoderViT

__all__ = ["BlockedEncoder", "bfloat16_pays", "fits"]

T = TypeVar("T")
_SCORES_PER_BLOCK = 1 << 20
_TOKENS_PER_BLOCK = 1024  # with the fourfold hidden layer 13 MB
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
        self.width = layer.out_features
        self._weight = layer.weight.detach().to(dtype).t()

    def into(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Write the layer's output for the rows of `x` to `out`."""
        if self._weight.dtype == torch.float32:
            return torch.addmm(self.bias, x, self._weight, out=out)
        return torch.add(torch.mm(x.to(self._weight.dtype), self._weight), self.bias, out=out)

    def add_to(self, x: torch.Tensor, target: torch.Tensor) -> None:
        """Add the layer's output for the rows of `x` to `target`."""
        target += self.bias
        if self._weight.dtype == torch.float32:
            target.addmm_(x, self._weight)
        else:
            target += torch.mm(x.to(self._weight.dtype), self._weight)


class _Scratch(threading.local):
    """Memory of a thread that each piece of its work uses again.

    Tensors of a few megabytes made anew cost the operating system's zeroed pages each time.
    """

    def __init__(self) -> None:
        self._kept: dict[str, torch.Tensor] = {}

    def take(self, name: str, *shape: int) -> torch.Tensor:
        """Return float32 memory of this name and shape, with whatever was left in it."""
        size = prod(shape)
        kept = self._kept.get(name)
        if kept is None or kept.numel() < size:
            kept = self._kept[name] = torch.empty(size)
        return kept[:size].view(shape)


class _Workers:
    """Threads that compute one piece each, instead of torch's that share each operation.

    An operation shared by threads ends when the last of them does; on a machine with other work
    they wait for each other at each of thousands of small operations, and burn the time by it.
    """

    _lock: ClassVar = threading.Lock()
    _running: ClassVar[int] = 0
    _usual: ClassVar[int] = 1

    def __enter__(self) -> _Workers:
        with _Workers._lock:
            if not _Workers._running:
                _Workers._usual = torch.get_num_threads()
            _Workers._running += 1
            # While another encoding runs, torch may say 1, which is that one's doing: taken for
            # the usual number it would stay for ever.
            self._threads = _Workers._usual
        # The number is the process's in some releases of torch and the thread's in others.
        self._pool = ThreadPoolExecutor(
            self._threads, initializer=torch.set_num_threads, initargs=(1,)
        )
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._pool.shutdown()
        finally:
            with _Workers._lock:
                _Workers._running -= 1
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
        x = (encoder.patch_embed(pixels) + encoder.pos_embed)[0]
        side, width = int(x.shape[0]), int(x.shape[2])
        tokens = x.view(side * side, width)
        scratch = _Scratch()
        with _Workers() as workers:
            for size, group in groupby(encoder.blocks, key=attrgetter("window_size")):
                if size:
                    # Nothing leaves a window until the next global block.
                    work = partial(self._pass_windows, list(group), scratch)
                    workers.each(work, _window_groups(x, int(size)))
                    continue
                for block in group:
                    self._add_global_attention(block, tokens, side, workers, scratch)
                    parts = tokens.split(_TOKENS_PER_BLOCK)
                    workers.each(partial(self._add_mlp, block, scratch), parts)
        features: torch.Tensor = encoder.neck(x[None].permute(0, 3, 1, 2))
        return features

    def _add_mlp(self, block: Any, scratch: _Scratch, x: torch.Tensor) -> None:
        first, second = self._linear[id(block.mlp.lin1)], self._linear[id(block.mlp.lin2)]
        hidden = scratch.take("hidden", len(x), first.width)
        torch.ops.aten.gelu_(first.into(block.norm2(x), hidden))
        second.add_to(hidden, x)

    def _pass_windows(self, blocks: Sequence[Any], scratch: _Scratch, place: torch.Tensor) -> None:
        """Take some windows of one row through blocks; `place` is (rows, columns, width)."""
        x = scratch.take("tokens", *place.shape).copy_(place)
        tokens = x.view(-1, x.shape[-1])
        for block in blocks:
            self._add_window_attention(block, x, scratch)
            for part in torch.split(tokens, _TOKENS_PER_BLOCK):
                self._add_mlp(block, scratch, part)
        place.copy_(x)

    def _add_global_attention(
        self, block: Any, x: torch.Tensor, side: int, workers: _Workers, scratch: _Scratch
    ) -> None:
        attention = block.attn
        tokens, width = x.shape
        heads, head = attention.num_heads, width // attention.num_heads
        qkv = scratch.take("qkv", 3, heads, tokens, head)
        mixed = scratch.take("mixed", tokens, heads, head)
        rows = min(side, max(1, _SCORES_PER_BLOCK // side**3))
        table = _reversed_positions(attention)

        def project(part: slice) -> None:
            found = scratch.take("projected", part.stop - part.start, 3 * width)
            self._linear[id(attention.qkv)].into(block.norm1(x[part]), found)
            qkv[:, :, part] = found.view(-1, 3, heads, head).permute(1, 2, 0, 3)

        def attend(number: int) -> None:
            query, key, value = qkv[:, number]
            by_row, by_column = _bias(query[None], table, side, scratch)
            found = scratch.take("found", tokens, head)
            for top in range(0, side, rows):
                block_rows = slice(top, min(top + rows, side))
                flat = slice(top * side, block_rows.stop * side)
                scores = scratch.take("scores", block_rows.stop - top, side, side, side)
                torch.add(by_row[0, block_rows], by_column[0, block_rows], out=scores)
                scores = scores.view(-1, tokens)
                scores.addmm_(query[flat], key.t(), alpha=attention.scale)
                torch.mm(_softmax_in_place(scores), value, out=found[flat])
            mixed[:, number] = found

        def add(part: slice) -> None:
            self._linear[id(attention.proj)].add_to(mixed[part].view(-1, width), x[part])

        parts = [
            slice(top, min(top + _TOKENS_PER_BLOCK, tokens))
            for top in range(0, tokens, _TOKENS_PER_BLOCK)
        ]
        workers.each(project, parts)
        workers.each(attend, range(heads))
        workers.each(add, parts)

    def _attend(
        self, attention: Any, windows: torch.Tensor, side: int, scratch: _Scratch
    ) -> torch.Tensor:
        """Attend within windows (3, n, heads, side, side, head); gives (n, heads, side, ...)."""
        _, count, heads, _, _, head = windows.shape
        tokens = side * side
        query, key, value = windows.view(3, -1, tokens, head)
        table = _reversed_positions(attention)
        by_row, by_column = _bias(query, table, side, scratch)
        scores = scratch.take("scores", count * heads, side, side, side, side)
        torch.add(by_row, by_column, out=scores)
        scores = scores.view(count * heads, tokens, tokens)
        scores.baddbmm_(query, key.transpose(1, 2), alpha=attention.scale)
        found = scratch.take("found", count * heads, tokens, head)
        torch.bmm(_softmax_in_place(scores), value, out=found)
        return found.view(count, heads, side, side, head)

    def _add_window_attention(self, block: Any, x: torch.Tensor, scratch: _Scratch) -> None:
        """Attend within windows; `x` is (rows, columns, width), at most one window high."""
        attention, window = block.attn, int(block.window_size)
        rows, columns, width = x.shape
        heads, head = attention.num_heads, width // attention.num_heads
        project = self._linear[id(attention.qkv)]
        qkv = scratch.take("projected", rows * columns, 3 * width)
        project.into(block.norm1(x).view(-1, width), qkv)
        parts = qkv.view(rows, columns, 3, heads, head)
        mixed = scratch.take("mixed window", rows, columns, heads, head)
        # The reference pads with zeros before the projection: what is left is its bias.
        padding = project.bias.view(3, 1, heads, head).permute(0, 2, 1, 3)
        lefts = range(0, columns, window)
        at_once = max(1, _SCORES_PER_BLOCK // (heads * window**4))
        for first in range(0, len(lefts), at_once):
            some = lefts[first : first + at_once]
            own = scratch.take("window", 3, len(some), heads, window, window, head)
            if rows < window or columns % window:
                own.copy_(padding[:, None, :, :, None].expand(own.shape))
            for number, left in enumerate(some):
                part = parts[:, left : left + window]
                own[:, number, :, :rows, : part.shape[1]] = part.permute(2, 3, 0, 1, 4)
            found = self._attend(attention, own, window, scratch)
            for one, left in zip(found, some, strict=True):
                part = mixed[:, left : left + window]
                part.copy_(one[:, :rows, : part.shape[1]].permute(1, 2, 0, 3))
        self._linear[id(attention.proj)].add_to(mixed.view(-1, width), x.view(-1, width))


def _window_groups(x: torch.Tensor, window: int) -> list[torch.Tensor]:
    """Views of x (side, side, width) of whole windows in a row, the largest first.

    A long row of windows makes two: few enough for large products, enough for threads to end
    together.
    """
    side = int(x.shape[1])
    halves = 2 if window * side > _TOKENS_PER_BLOCK // 2 else 1
    columns = window * -(-side // (halves * window))
    groups = [part for row in torch.split(x, window) for part in torch.split(row, columns, 1)]
    return sorted(groups, key=torch.Tensor.numel, reverse=True)


def _softmax_in_place(scores: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = torch.ops.aten._softmax.out(scores, -1, False, out=scores)
    return found


def _reversed_positions(attention: Any) -> torch.Tensor:
    """Both tables of relative positions, last distance first: (head, 2 * (2 * side - 1))."""
    return torch.cat([attention.rel_pos_h.flip(0), attention.rel_pos_w.flip(0)]).t()


def _bias(
    query: torch.Tensor, table: torch.Tensor, side: int, scratch: _Scratch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Position bias of queries (n, side * side, head): by key row, and by key column.

    They are (n, side, side, side, 1) and (n, side, side, 1, side): the query's row and column,
    then the key's. Their sum is the decomposed bias of Li et al., "MViTv2" (2022), as SAM uses it.

    Each query meets every distance in one product, and what belongs to its own place is a view:
    one row further down, the distances begin one earlier.
    """
    n, tokens, head = query.shape
    distances = 2 * side - 1
    products = scratch.take("positions", n, tokens, 2 * distances)
    torch.mm(query.reshape(-1, head), table, out=products.view(-1, 2 * distances))
    width = 2 * distances
    shape = n, side, side, side
    start = products.storage_offset() + side - 1
    by_row = products.as_strided(shape, (tokens * width, side * width - 1, width, 1), start)
    by_column = products.as_strided(
        shape, (tokens * width, side * width, width - 1, 1), start + distances
    )
    return by_row.unsqueeze(-1), by_column.unsqueeze(-2)


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
