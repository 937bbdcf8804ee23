"""One model's audits in a policy: its mean loss, and a CUSUM that finds it changed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

#: Of the CUSUM: audits that a first guess of how often a model is worse counts for, and the guess;
#: what is added to the mean for the usual rate, and to that for the one to be found.
GUESS_AUDITS, GUESS_WORSE = 4, 0.1
MARGIN, RISE = 0.03, 0.22
#: Its log from which a model is suspected, and taken to have changed.
SUSPECT, CHANGED = math.log(2), math.log(200)
#: Audits of a changed model that are not forgotten: the last ones.
KEPT_AUDITS = 8


@dataclass(frozen=True, slots=True)
class Watch:
    """One model's audits in a policy, since it was last found changed.

    Attributes:
        audits, losses, squares: their number, the sum of their losses and of its squares.
        weight, weight_squares, weighed: with each audit weighed by 1 / the chance that it was drawn
            with, sums of weights, of their squares, and of losses.
        chosen, worse: audits of it as the choice, and those in which it was worse.
        drift: log of the CUSUM.
        recent: times and losses of the last audits.
        since: audits before that time (seconds since the epoch) are forgotten.
    """

    audits: int = 0
    losses: float = 0.0
    squares: float = 0.0
    weight: float = 0.0
    weight_squares: float = 0.0
    weighed: float = 0.0
    chosen: int = 0
    worse: int = 0
    drift: float = 0.0
    recent: tuple[tuple[float, float], ...] = ()
    since: float = 0.0

    @property
    def suspected(self) -> bool:
        return self.drift > SUSPECT

    @property
    def loss(self) -> float | None:
        """Its mean loss over all calls, as far as audits drawn by chance tell; None without any."""
        return self.weighed / self.weight if self.weight else None

    @property
    def effective(self) -> float:
        """How many audits of equal chance would tell as much of that."""
        return self.weight**2 / self.weight_squares if self.weight_squares else 0.0

    def audited(self, loss: float, at: float, chance: float = 1.0, *, chosen: bool) -> Watch:
        """With one more audit, drawn with a chance; `chosen`: of the model as the choice."""
        recent = (*self.recent, (at, loss))[-KEPT_AUDITS:]
        seen = replace(
            self,
            audits=self.audits + 1,
            losses=self.losses + loss,
            squares=self.squares + loss * loss,
            weight=self.weight + 1 / chance,
            weight_squares=self.weight_squares + 1 / chance**2,
            weighed=self.weighed + loss / chance,
            recent=recent,
        )
        if not chosen:
            return seen
        guess = self.worse + GUESS_WORSE * GUESS_AUDITS
        usual = min(guess / (self.chosen + GUESS_AUDITS) + MARGIN, 0.6)
        risen = min(usual + RISE, 0.9)
        worse = loss > 0.5
        gain = math.log(risen / usual if worse else (1 - risen) / (1 - usual))
        drift = max(0.0, self.drift + gain)
        return replace(seen, chosen=self.chosen + 1, worse=self.worse + worse, drift=drift)

    def forgotten(self) -> Watch:
        """Begun anew with the last audits: the model is no longer what it was."""
        losses = [loss for _, loss in self.recent]
        return Watch(
            audits=len(losses),
            losses=math.fsum(losses),
            squares=math.fsum(loss * loss for loss in losses),
            weight=float(len(losses)),
            weight_squares=float(len(losses)),
            weighed=math.fsum(losses),
            recent=self.recent,
            since=self.recent[0][0] if self.recent else 0.0,
        )
