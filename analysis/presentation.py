"""How results are shown in Python: as a frame, a figure, one line, and a table in notebooks.

Computing needs no pandas and no matplotlib: :mod:`analysis.render.results` is imported when something is shown.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Presentable:
    """A result that can be shown; labels are names: of errors, categories and numbers."""

    def to_frame(self, by: str = "") -> "pd.DataFrame":
        """The result as a `pandas.DataFrame` of raw values.

        Args:
            by: what one row is, such as "class"; empty: the default of the result.

        Raises:
            BadInput: the result cannot be split this way; the message lists the possible values.
        """
        frame: pd.DataFrame = _results().frame(self, by)
        return frame

    def plot(self, by: str = "") -> "Figure":
        """The result as a `matplotlib.figure.Figure`, which notebooks show and ``savefig`` writes.

        Args:
            by: as for :meth:`to_frame`.

        Raises:
            BadInput: there is no such figure.
        """
        figure: Figure = _results().figure(self, by)
        return figure

    def __repr__(self) -> str:
        return str(_results().sentence(self))

    def _repr_html_(self) -> str:
        return str(_results().html(self))


def _results() -> Any:
    return import_module("analysis.render.results")
