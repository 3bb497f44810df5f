"""How a learning rate changes while a run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from reinmax_core.value import Value

if TYPE_CHECKING:
    from torch import optim


class Plateau(Value):
    """Lowers the learning rate whenever the task's objective has not improved for more evaluations than `patience`.

    Any better value is an improvement. For accuracies that is what torch's scheduler does by default, too.
    """

    name: Literal["plateau"] = "plateau"
    factor: float = Field(default=0.5, gt=0, lt=1, description="What the learning rate is multiplied by.")
    patience: int = Field(
        default=4, ge=0, le=10**6, description="Evaluations without an improvement that are put up with."
    )

    def build(
        self, optimizer: optim.Optimizer, direction: Literal["min", "max"]
    ) -> optim.lr_scheduler.ReduceLROnPlateau:
        """A scheduler to be stepped with the objective, of which a smaller or a larger value is better."""
        from torch.optim.lr_scheduler import ReduceLROnPlateau

        return ReduceLROnPlateau(
            optimizer, direction, factor=self.factor, patience=self.patience, threshold=0, threshold_mode="abs"
        )
