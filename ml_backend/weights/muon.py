"""Muon for weight matrices, AdamW for the rest: fewer steps to the same loss than AdamW alone.

Muon: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the update
is scaled to AdamW's usual size after Liu et al., "Muon is Scalable for LLM Training", 2025.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Muon", "split_parameters"]


def _orthogonal(stack: Tensor, iterations: int = 5) -> Tensor:
    """Nearest orthogonal matrices by Newton-Schulz; (n, rows, columns), rows <= columns.

    A step multiplies by a polynomial of the Gram matrix from the left; all of them commute, so they
    are gathered on the small square side and the long side is touched twice instead of ten times.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = stack / (stack.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    gram = x @ x.mT
    factor = torch.eye(x.shape[1], dtype=x.dtype)
    for _ in range(iterations):
        step = torch.baddbmm(b * gram, gram, gram, alpha=c)
        step.diagonal(dim1=-2, dim2=-1).add_(a)
        factor = step @ factor
        gram = step @ gram @ step
    return factor @ x


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal; parameters must be matrices."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.05,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; `closure` is not used."""
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(state["momentum"], group["momentum"])
                if update.shape[0] > update.shape[1]:
                    update = update.mT
                alike[(update.shape[0], update.shape[1])].append((parameter, update))
            for (_, columns), pairs in alike.items():
                updates = _orthogonal(torch.stack([update for _, update in pairs]))
                scale = 0.2 * columns**0.5
                for (parameter, _), update in zip(pairs, updates, strict=True):
                    if parameter.shape[0] > parameter.shape[1]:
                        update = update.mT
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update, alpha=-group["lr"] * scale)


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices of linear layers for Muon, and everything else for AdamW."""
    linear = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Linear) and min(module.weight.shape) >= 16
    }
    matrices = [parameter for parameter in model.parameters() if id(parameter) in linear]
    rest = [parameter for parameter in model.parameters() if id(parameter) not in linear]
    return matrices, rest
