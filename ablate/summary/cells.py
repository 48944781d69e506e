"""Numbers of a study in print: estimates, memory, seconds, counts, and over how many seeds they are."""

from ablate.summary.estimate import Estimate
from ablate.summary.summarise import Row, Summary


def banner(summary: Summary) -> str:
    """What must stand over every number of a study on the embedded data."""
    if not summary.synthetic:
        return ""
    about = ", ".join(part for part in ("synthetic data", over_seeds(summary)) if part)
    return f"{about}: shows the tool, is no evidence"


def over_seeds(summary: Summary) -> str:
    """How many runs a number is the mean of: n = 3, n = 1 to 3 where some are missing; nothing before the first."""
    counts = {row.n for row in summary.rows if row.n}
    if not counts:
        return ""
    return f"n = {min(counts)}" + (f" to {max(counts)}" if len(counts) > 1 else "")


def interval(found: Estimate | None, digits: int = 1, *, sign: bool = False) -> str:
    """An estimate in print: 41.3, or 41.3 ± 0.4 where there are several seeds; never a negative zero."""
    if found is None:
        return ""
    mean = f"{found.mean:{'+' if sign else ''}z.{digits}f}"
    return mean if found.half is None else f"{mean} ± {found.half:.{digits}f}"


def memory(gib: float | None) -> str:
    """A peak in print."""
    if gib is None:
        return ""
    return f"{gib:,.1f} GiB" if gib >= 1 else f"{gib * 1024:,.1f} MiB"


def seconds(value: float | None) -> str:
    """A time in print, three digits."""
    return "" if value is None else f"{value:.3g}" if value >= 1 else f"{value:.4f}"


def parameters(row: Row) -> float:
    """Millions; 0 where nothing is known."""
    return row.size.parameters / 1e6 if row.size else 0.0


def gmacs(row: Row) -> float:
    """Multiply-adds, 1e9."""
    return row.size.macs / 1e9 if row.size else 0.0


def activations(row: Row) -> float:
    """Millions."""
    return row.size.activations / 1e6 if row.size else 0.0


# Whatever a config hands on: the paper's convention, so that sizes of all studies compare.
COUNTED = "GMAC (1e9 multiply-adds) and activations: one image with 1,000 proposals and 20 masks."
# Head, value and fewest decimals of what is counted before anything runs.
COUNTS = (("param. M", parameters, 2), ("GMAC", gmacs, 2), ("activ. M", activations, 1))
