"""Another style statistic in place of a preset's."""

import dataclasses
import difflib

from jnst.errors import JnstError
from jnst.losses import STYLE_LOSSES, SquaredError
from jnst.losses.relative import Relative
from jnst.presets.settings import Preset

STRENGTHS: dict[str, float] = {
    "gram": 1.0,
}
"""By how much the style weight of a preset with relative losses is multiplied, so that pictures are as stylised as with
Gram matrices; 1 where a row is missing. Found by eye and by figure on the embedded network."""


def with_style_statistic(settings: Preset, name: str) -> Preset:
    """A preset with another style loss.

    Presets whose losses are relative (such as ``jnst``) stay balanced: the loss is made relative too, and the style
    weight follows `STRENGTHS`. Otherwise the weights are left to the caller: the new loss has units of its own.

    Args:
        settings: Any preset.
        name: A key of `jnst.losses.STYLE_LOSSES`.

    Raises:
        JnstError: An unknown name.
    """
    if name not in STYLE_LOSSES:
        near = difflib.get_close_matches(name, STYLE_LOSSES, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(STYLE_LOSSES)}"
        raise JnstError(f"unknown style statistic {name!r}: {hint}")
    loss = STYLE_LOSSES[name]()
    if settings.content_loss != SquaredError("relative"):
        return dataclasses.replace(settings, style_loss=loss)
    weight = settings.style_weight * STRENGTHS.get(name, 1.0)
    return dataclasses.replace(settings, style_loss=Relative(loss), style_weight=weight)
