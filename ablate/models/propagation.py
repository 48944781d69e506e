"""Convolutions that carry information between windows (ViTDet, section 4.1 and Table 2)."""

from typing import Literal

from torch import Tensor, nn

Convolutions = Literal["conv_naive", "conv_basic", "conv_bottleneck"]


class ConvPropagation(nn.Module):
    """A residual block of convolutions, each followed by a LayerNorm, with GELU between; starts as the identity.

    Args:
        width: channels C of the tokens.
        kind: ``conv_naive`` one 3x3; ``conv_basic`` two 3x3; ``conv_bottleneck`` 1x1, 3x3, 1x1 with C/2 between.
    """

    def __init__(self, width: int, kind: Convolutions) -> None:
        super().__init__()
        inner = width // 2
        steps = {
            "conv_naive": [(width, width, 3)],
            "conv_basic": [(width, width, 3), (width, width, 3)],
            "conv_bottleneck": [(width, inner, 1), (inner, inner, 3), (inner, width, 1)],
        }[kind]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, kernel, padding=kernel // 2, bias=False) for i, o, kernel in steps)
        self.norms = nn.ModuleList(nn.LayerNorm(o, eps=1e-6) for _, o, _ in steps)
        self.activation = nn.GELU()
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]
        nn.init.zeros_(self.norms[-1].weight)  # type: ignore[arg-type]  # the last norm at 0: the block adds nothing at first

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, H, W, C] -> [B, H, W, C]."""
        out = x
        for step, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if step:
                out = self.activation(out)
            # Channels-last tokens are a channels-last image: neither permute moves memory.
            out = norm(conv(out.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return x + out
