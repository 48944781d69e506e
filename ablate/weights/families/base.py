"""A family of checkpoints: how it is recognised, how its tensors are mapped or ignored, its pixel statistics."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from ablate.weights.checkpoint import Checkpoint
from ablate.weights.settings import IMAGENET, PixelStatistics

CLASS_TOKEN = "the detector has only patch tokens, no class token"
FINAL_NORM = "the pyramid reads the block outputs, before the final norm"
HEAD = "the head of another task"


@dataclass(frozen=True)
class Rule:
    """What becomes of the source names that match a pattern: a target, or a reason to be left behind."""

    pattern: re.Pattern[str]
    to: str | None
    reason: str = ""


def keep(pattern: str, to: str) -> Rule:
    r"""Names that match become ``to``, in which \1 is the pattern's first group.

    Beside the names of ``ablate.models.ViT`` these are understood: ``pos_embed`` with its prefix tokens,
    ``blocks.N.attn.qkv.bias#q`` and ``#v`` (joined around a zero bias of the keys), ``table`` (shared by all blocks)
    and ``table.N`` (of one block), with three rows for the class token.
    """
    return Rule(re.compile(pattern), to)


def drop(pattern: str, reason: str) -> Rule:
    """Names that match are left behind, for a reason that a person reads."""
    return Rule(re.compile(pattern), None, reason)


@dataclass(frozen=True)
class Family:
    """Checkpoints that one recipe wrote.

    Attributes:
        name: as people call it.
        initialisation: as published tables call it; empty where the file does not tell.
        recognises: whether the content of a checkpoint is of this family.
        rules: the first that matches a whole source name counts; a name without one is an error.
        pixels: of its images; the file does not show which of two applies.
        classifier: a pattern of names that only a model trained on labels has; none where all are.
    """

    name: str
    initialisation: str
    recognises: Callable[[Checkpoint], bool]
    rules: tuple[Rule, ...]
    pixels: tuple[PixelStatistics, ...] = (IMAGENET,)
    classifier: str | None = None

    def rule(self, name: str) -> Rule | None:
        """The rule for a source name."""
        return next((rule for rule in self.rules if rule.pattern.fullmatch(name)), None)

    def is_fine_tuned(self, checkpoint: Checkpoint) -> bool:
        """Whether labels were learned after the pre-training that gives the family its name."""
        return self.classifier is not None and any(re.fullmatch(self.classifier, name) for name in checkpoint.tensors)
