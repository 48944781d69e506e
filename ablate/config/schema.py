"""The config of a run: ``RunConfig`` and its parts, frozen and validated, with all that can change a result.

Files are read and written by ``ablate.config.yaml``, hashed by ``ablate.config.identity``. No field holds a name, a
machine or a number of workers: those change nothing. A missing treatment is spelled ``none``. Sources: the paper is
"Benchmarking Detection Transfer Learning with Vision Transformers" (arXiv 2111.11429), ViTDet is arXiv 2203.16527.

Constructing a part checks it alone; ``RunConfig`` checks that the parts fit together. A bad value raises ``ValueError``
(in ``ablate.config.yaml``: ``BadInput``) with one sentence that names the field and the remedy.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import force_setattr


def _about(text: str) -> Meta:
    return Meta(description=text)


def _require(condition: bool, sentence: str) -> None:
    """Raise ValueError with the sentence if the condition does not hold."""
    if not condition:
        raise ValueError(sentence)


def _require_multiple(name: str, value: int, of: str, unit: int) -> None:
    """Raise ValueError, which names the nearest valid value, if a value is not a multiple of a unit."""
    nearest = max(1, round(value / unit)) * unit
    _require(value % unit == 0, f"{name} {value} is not a multiple of {of} {unit}; nearest is {nearest}")


Count = Annotated[int, Meta(ge=1)]
Size = Annotated[int, Meta(ge=1, le=2**16)]  # of a tensor's side: far beyond use, and products stay in 64 bits
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(ge=0, lt=1)]
Nothing = Literal["none"]
Blocks = tuple[Annotated[int, Meta(ge=0)], ...]  # 0-based block numbers


class Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of fields; a description in the annotation becomes the comment beside the value in a written YAML."""


class Attention(Part, frozen=True, kw_only=True):
    """Which tokens attend to each other, and how attention is computed (paper, section 2; ViTDet, section 3)."""

    pattern: Annotated[
        Literal["window", "hybrid", "global"], _about("hybrid: windows, with a few global blocks between them")
    ] = "hybrid"
    window_size: Annotated[Size, _about("side of a window in tokens")] = 14
    global_blocks: Annotated[
        Literal["even", "first", "last"] | Blocks, _about("position of the global (or convolution) blocks")
    ] = "even"
    global_count: Annotated[Count, _about("number of global blocks, unless they are listed")] = 4
    propagation: Annotated[
        Literal["none", "shift", "conv_naive", "conv_basic", "conv_bottleneck"],
        _about("exchange between windows if no block is global"),
    ] = "none"
    kernel: Annotated[
        Literal["naive", "fused", "fused_table"],
        _about(
            "naive stores all logits in memory, as the paper did; "
            "fused_table: fused, with a separate kernel for the gradient of the bias tables"
        ),
    ] = "fused"
    checkpoint: Annotated[Literal["none", "all"] | Blocks, _about("blocks recomputed in the backward pass")] = "none"


class Position(Part, frozen=True, kw_only=True):
    """Treatment of the two kinds of positional information (paper, table 4): pre-trained, random, zero or none."""

    relative: Annotated[
        Literal["pt", "rand", "zero", "none"],
        _about("start of the bias tables: pre-trained, random, zero; none: no tables"),
    ] = "zero"
    tables: Annotated[
        Literal["shared", "per_block"], _about("shared: one table for windowed, one for global blocks, as in the paper")
    ] = "shared"
    absolute: Annotated[
        Literal["pt", "rand", "zero", "none"], _about("start of the embedding added to the patches; likewise")
    ] = "rand"
    absolute_grid: Annotated[Size, _about("side of the stored embedding in tokens; resized to the image")] = 14


class ViT(Part, frozen=True, kw_only=True, tag_field="type", tag="vit"):
    """A plain Vision Transformer."""

    width: Annotated[Size, _about("channels of a token")]
    depth: Annotated[int, Meta(ge=1, le=1000), _about("number of blocks")]
    heads: Annotated[Size, _about("attention heads; they divide the width")]
    image_size: Annotated[Size, _about("side of the square input in pixels")]
    patch_size: Annotated[Size, _about("side of a patch in pixels")] = 16
    mlp_ratio: Annotated[float, Meta(gt=0, le=1000), _about("hidden width of the MLP divided by width")] = 4.0
    attention: Attention = Attention()
    position: Position = Position()
    layer_scale: Annotated[Positive | Nothing, _about("initial value; only BEiT weights use it")] = "none"
    drop_path: Annotated[Rate, _about("drop path rate of the last block; rises linearly from 0 at the first")] = 0.0
    qkv_bias: bool = True

    def __post_init__(self) -> None:
        divisors = [heads for heads in range(1, min(self.width, 32) + 1) if self.width % heads == 0]
        _require(
            self.width % self.heads == 0,
            f"heads {self.heads} does not divide width {self.width}; these do: {divisors}",
        )
        _require_multiple("image_size", self.image_size, "patch_size", self.patch_size)
        attention, grid = self.attention, self.image_size // self.patch_size
        _require(
            attention.pattern == "global" or attention.window_size <= grid,
            f"attention.window_size {attention.window_size} is larger than the grid of {grid} x {grid} tokens; "
            f"choose at most {grid}, or attention.pattern=global",
        )
        _require(
            attention.propagation == "none" or attention.pattern == "window",
            f"attention.propagation {attention.propagation} replaces global blocks and needs "
            f"attention.pattern=window, not {attention.pattern}",
        )
        _require(
            attention.kernel != "fused_table" or attention.propagation != "shift",
            "attention.kernel fused_table takes no mask, which attention.propagation=shift needs; "
            "choose attention.kernel=fused",
        )
        _require(
            self.width * self.mlp_ratio >= 1,
            f"mlp_ratio {self.mlp_ratio} leaves no hidden channel at width {self.width}",
        )
        _require(
            attention.propagation != "conv_bottleneck" or self.width >= 2,
            "attention.propagation conv_bottleneck halves the width and needs a width of at least 2",
        )
        self._check_count()
        for name, blocks in (("global_blocks", attention.global_blocks), ("checkpoint", attention.checkpoint)):
            if isinstance(blocks, tuple):
                _require(
                    len(blocks) > 0 and list(blocks) == sorted(set(blocks)) and blocks[-1] < self.depth,
                    f"attention.{name} {list(blocks)} must list blocks in rising order, from 0 to {self.depth - 1}",
                )

    def _check_count(self) -> None:
        attention = self.attention
        used = attention.pattern == "hybrid" or attention.propagation.startswith("conv")
        if used and not isinstance(attention.global_blocks, tuple):
            count = attention.global_count
            _require(count <= self.depth, f"attention.global_count {count} exceeds depth {self.depth}")
            divisors = [number for number in range(1, self.depth + 1) if self.depth % number == 0]
            _require(
                attention.global_blocks != "even" or count in divisors,
                f"attention.global_count {count} does not divide depth {self.depth}, which "
                f"attention.global_blocks=even needs; these do: {divisors}",
            )


class ResNet(Part, frozen=True, kw_only=True, tag_field="type", tag="resnet"):
    """A residual network, the convolutional comparison."""

    depth: Annotated[Literal[50, 101], _about("number of layers")]
    image_size: Annotated[Size, _about("side of the square input in pixels")]

    def __post_init__(self) -> None:
        _require_multiple("image_size", self.image_size, "the stride", 32)


class PluginBackbone(Part, frozen=True, kw_only=True, tag_field="type", tag="plugin"):
    """A backbone of another package (``ablate.detector.plugin``)."""

    name: Annotated[str, Meta(min_length=1, description="of an entry point of the group detablate.backbones")]
    image_size: Annotated[Size, _about("side of the square input in pixels")]
    options: Annotated[dict[str, Any], _about("arguments with which it is built")] = field(default_factory=dict)
    code: Annotated[
        str,
        Meta(min_length=1, description="auto: the installed package, its version and its sources, set when planned"),
    ] = "auto"

    def __post_init__(self) -> None:
        _require_multiple("image_size", self.image_size, "the stride", 32)

    def __hash__(self) -> int:
        return hash(msgspec.json.encode(self, order="sorted"))


class Pyramid(Part, frozen=True, kw_only=True):
    """Feature maps for the detector: the paper's four modules and FPN, one map, or ViTDet's variants."""

    type: Annotated[
        Literal["multi_scale", "single_scale", "simple", "last_map", "fpn"], _about("fpn: for backbones with four maps")
    ]
    channels: Annotated[Size, _about("channels of every map")] = 256


class Anchors(Part, frozen=True, kw_only=True):
    """RPN anchors, unrounded."""

    sizes: Annotated[
        tuple[Positive, ...],
        _about("sqrt(area) in pixels: one per level (four and a pooled fifth); single_scale: all on one"),
    ] = (32.0, 64.0, 128.0, 256.0, 512.0)
    aspect_ratios: Annotated[tuple[Positive, ...], _about("height / width")] = (0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        _require(all((self.sizes, self.aspect_ratios)), "anchors need at least one of sizes and one of aspect_ratios")


class Proposals(Part, frozen=True, kw_only=True):
    """How many boxes the RPN hands on in training (detectron2's values); in prediction: ``Evaluate``."""

    train_before_nms: Annotated[Count, _about("per level")] = 2000
    train_after_nms: Annotated[Count, _about("per image")] = 1000
    nms_threshold: Annotated[Fraction, _about("IoU of NMS; also in prediction")] = 0.7


class Detector(Part, frozen=True, kw_only=True):
    """Mask R-CNN, or Faster R-CNN without masks."""

    head: Annotated[
        Literal["paper", "plain", "vitdet"],
        _about("paper: BN, 2 RPN convs, 4 conv + 1 fc box head; vitdet: the same with LN; plain: the original heads"),
    ] = "paper"
    masks: Annotated[bool, _about("false: boxes only")] = True
    box_conv_channels: Annotated[Size, _about("channels of the box head's 4 convolutions (head: paper)")] = 256
    box_fc: Annotated[Size, _about("units of the box head's fully connected layers")] = 1024
    mask_conv_channels: Annotated[Size, _about("channels of the mask head's 4 convolutions")] = 256
    anchors: Anchors = Anchors()
    proposals: Proposals = Proposals()
    rpn_anchors_per_image: Annotated[Count, _about("sampled for the RPN loss")] = 256
    rois_per_image: Annotated[Count, _about("sampled for the head losses, a quarter of them positive")] = 512


class Model(Part, frozen=True, kw_only=True):
    """Backbone, pyramid and detector."""

    backbone: ViT | ResNet | PluginBackbone
    pyramid: Pyramid
    detector: Detector = Detector()
    pixel_mean: Annotated[tuple[float, float, float], _about("RGB, 0..1")] = (0.485, 0.456, 0.406)
    pixel_std: Annotated[tuple[Positive, Positive, Positive], _about("RGB, 0..1")] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        kind, backbone = self.pyramid.type, self.backbone
        valid = "multi_scale, single_scale, simple, last_map" if isinstance(backbone, ViT) else "fpn"
        _require(kind in valid.split(", "), f"pyramid.type {kind} does not fit this backbone; choose {valid}")
        if isinstance(backbone, ViT) and kind != "single_scale":
            self._check_scaled_maps(backbone)
        sizes = len(self.detector.anchors.sizes)
        _require(
            kind == "single_scale" or sizes == 5,
            f"detector.anchors.sizes has {sizes} entries; pyramid.type={kind} needs 5, one a level",
        )

    def _check_scaled_maps(self, backbone: ViT) -> None:
        """Check that the maps of a ViT can be scaled to a pyramid's strides."""
        kind, patch = self.pyramid.type, backbone.patch_size
        _require(
            kind != "multi_scale" or backbone.depth % 4 == 0,
            f"backbone.depth {backbone.depth} is not divisible by 4, which pyramid.type=multi_scale needs to tap every "
            "quarter; change the depth, or choose single_scale, simple or last_map",
        )
        _require(
            kind != "simple" or backbone.width % 4 == 0,
            f"backbone.width {backbone.width} is not divisible by 4, which pyramid.type=simple needs for its finest "
            "map; choose multi_scale, single_scale, last_map or another width",
        )
        _require(
            patch % 4 == 0,
            f"backbone.patch_size {patch} is not divisible by 4, which pyramid.type={kind} needs for its finest map; "
            "choose single_scale or another patch_size",
        )
        grid = backbone.image_size // patch
        _require(
            grid % 2 == 0,
            f"backbone.image_size {backbone.image_size} gives an odd grid of {grid} tokens, which cannot be "
            f"halved for pyramid.type={kind}; choose a multiple of {2 * patch}",
        )


# Which images of a data set are used (``ablate.data.subset``).
Limit = Annotated[Count | Literal["all"], _about("number of images to use")]
LimitSeed = Annotated[
    Annotated[int, Meta(ge=0, lt=2**32)] | Nothing,
    _about("none: the first images; a number: random images drawn with this seed"),
]
LimitList = Annotated[str, Meta(min_length=1, description="none, or a text file with one image name or id per line")]


class Shapes(Part, frozen=True, kw_only=True, tag_field="type", tag="shapes"):
    """The embedded synthetic data set (``ablate.data.shapes``)."""

    split: Literal["train", "validation"]
    limit: Limit = "all"
    limit_seed: LimitSeed = "none"
    limit_list: LimitList = "none"
    images: Count | Literal["all"] | UnsetType = UNSET  # the old spelling of limit: read, and never written

    def __post_init__(self) -> None:
        if self.images is not UNSET:
            _require(self.limit in ("all", self.images), "images is the old spelling of limit; write limit alone")
            force_setattr(self, "limit", self.images)
            force_setattr(self, "images", UNSET)


class Coco(Part, frozen=True, kw_only=True, tag_field="type", tag="coco"):
    """A COCO-style data set on disk; relative paths in a file count from that file."""

    annotations: Annotated[str, _about("instances JSON")]
    images: Annotated[str, _about("folder of the file names")]
    limit: Limit = "all"
    limit_seed: LimitSeed = "none"
    limit_list: LimitList = "none"


class Folder(Part, frozen=True, kw_only=True, tag_field="type", tag="folder"):
    """Images without annotations, in a folder and the folders in it."""

    path: str
    limit: Limit = "all"
    limit_seed: LimitSeed = "none"
    limit_list: LimitList = "none"


class Pretrain(Part, frozen=True, kw_only=True):
    """Pre-training on your own images: a masked autoencoder (MAE, arXiv 2111.06377), its images and its recipe."""

    images: Shapes | Folder
    image_size: Annotated[Size, _about("side of the square crops in pixels")] = 224
    mask_ratio: Annotated[Rate, _about("share of the patches that are masked")] = 0.75
    normalised_target: Annotated[bool, _about("each patch to be reconstructed at mean 0 and variance 1")] = True
    decoder_width: Size = 512
    decoder_depth: Annotated[Count, _about("number of blocks")] = 8
    decoder_heads: Annotated[Size, _about("attention heads; they divide decoder_width")] = 16
    epochs: Annotated[Positive, _about("number of epochs; every length is a separate full cosine schedule")] = 800.0
    warmup_epochs: Annotated[NonNegative, _about("linear from 0, before the cosine")] = 40.0
    batch_size: Annotated[Count, _about("images per optimizer step, over all devices and accumulation steps")] = 4096
    base_lr: Annotated[Positive, _about("peak learning rate for 256 images; scales with the batch size")] = 1.5e-4
    weight_decay: Annotated[NonNegative, _about("not on norms and biases")] = 0.05
    betas: tuple[Rate, Rate] = (0.9, 0.95)
    crop_scale: Annotated[tuple[Positive, Positive], _about("share of the image area in a crop")] = (0.2, 1.0)
    flip: Annotated[Fraction, _about("probability")] = 0.5
    precision: Annotated[
        Literal["fp32", "bf16", "fp16", "auto"], _about("auto: bf16, fp16 or fp32, resolved on the machine that plans")
    ] = "fp32"
    seed: Annotated[int, Meta(ge=0, lt=2**32), _about("not the seed of the run: one pre-training serves all seeds")] = 0

    def __post_init__(self) -> None:
        _require(
            self.decoder_width % self.decoder_heads == self.decoder_width % 4 == 0,
            f"decoder_width {self.decoder_width} must be a multiple of decoder_heads {self.decoder_heads} and of 4",
        )
        _check_warmup(self.warmup_epochs, self.epochs)
        low, high = self.crop_scale
        _require(low <= high <= 1, f"crop_scale [{low}, {high}] must be [smallest, largest], at most 1")

    def total_iterations(self, images: int) -> int:
        """Optimizer steps of the whole schedule on so many images."""
        return self.iterations_after(self.epochs, images)

    def iterations_after(self, epochs: float, images: int) -> int:
        """Optimizer steps of so many epochs."""
        return max(1, round(epochs * images / self.batch_size))

    def warmup_iterations(self, images: int) -> int:
        """Optimizer steps of the warm-up; fewer than the whole schedule has."""
        return min(round(self.warmup_epochs * images / self.batch_size), self.total_iterations(images) - 1)


def _check_warmup(warmup_epochs: float, epochs: float) -> None:
    _require(warmup_epochs < epochs, f"warmup_epochs {warmup_epochs} is not shorter than epochs {epochs}")


class Init(Part, frozen=True, kw_only=True):
    """Where the initial weights come from."""

    scheme: Annotated[
        Literal["random", "truncated"],
        _about("depth-scaled; random: std 0.02; truncated: cut at 0.02 (BEiT's pre-training code, MIMDet)"),
    ] = "random"
    weights: Annotated[
        str, Meta(min_length=1, description="none, or the file of a pre-trained ViT (see: weights inspect FILE)")
    ] = "none"
    pretraining: Annotated[
        Pretrain | Nothing, _about("pre-training by this program on your own images, instead of a file")
    ] = "none"
    pretraining_epoch: Annotated[
        Count | Literal["last"],
        _about("epoch whose weights are used; before the last, the cosine schedule is unfinished"),
    ] = "last"

    def __post_init__(self) -> None:
        epoch, recipe = self.pretraining_epoch, self.pretraining
        _require(
            "none" in (self.weights, recipe),
            "weights and pretraining both set the initial weights; set one of them to none",
        )
        _require(epoch == "last" or recipe != "none", f"pretraining_epoch {epoch} needs a pretraining; set it to last")
        if isinstance(epoch, int) and isinstance(recipe, Pretrain) and epoch > recipe.epochs:
            raise ValueError(f"pretraining_epoch {epoch} is beyond the {recipe.epochs:g} epochs of the pretraining")

    @property
    def is_random(self) -> bool:
        """Whether all weights are random at first."""
        return self.weights == self.pretraining == "none"


class Data(Part, frozen=True, kw_only=True):
    """The training set and the validation set."""

    train: Shapes | Coco
    validation: Shapes | Coco
    images_without_boxes: Annotated[Literal["drop", "keep"], _about("whether training uses images without a box")] = (
        "drop"
    )


class Freeze(Part, frozen=True, kw_only=True):
    """Parts of a ViT that keep their initial weights: no gradient, no optimizer step."""

    patch_embedding: Annotated[bool, _about("the patch embedding")] = False
    blocks: Annotated[
        int, Meta(ge=0, le=1000), _about("number of first blocks to freeze, with their own bias tables")
    ] = 0
    norms: Annotated[bool, _about("every norm of the backbone")] = False


class Train(Part, frozen=True, kw_only=True):
    """AdamW, large-scale jitter and the schedule (paper, appendix)."""

    epochs: Annotated[Positive | Nothing, _about("either epochs or iterations")] = "none"
    iterations: Annotated[Count | Nothing, _about("optimizer steps")] = "none"
    batch_size: Annotated[Count, _about("images per optimizer step, over all devices and accumulation steps")]
    images_per_norm: Annotated[
        Count | Literal["auto"],
        _about(
            "images per BatchNorm statistic, divides batch_size; auto: as many as fit into the GPUs, set when the "
            "study is planned"
        ),
    ]
    lr: Annotated[Positive, _about("peak learning rate")]
    weight_decay: Annotated[NonNegative, _about("not on norms, positions and biases of tables")]
    betas: tuple[Rate, Rate] = (0.9, 0.999)
    warmup_epochs: Annotated[NonNegative, _about("linear from 0")] = 0.25
    schedule: Annotated[
        Literal["cosine", "step", "linear"], _about("cosine: half a period down to 0; linear: straight down to 0")
    ] = "cosine"
    step_milestones: Annotated[tuple[Rate, ...], _about("shares of the schedule; each divides lr by 10")] = (
        8 / 9,
        26 / 27,
    )
    jitter_scale: Annotated[tuple[Positive, Positive], _about("range of large-scale jitter")] = (0.1, 2.0)
    flip: Annotated[Fraction, _about("probability")] = 0.5
    clip_norm: Annotated[Positive | Nothing, _about("largest gradient norm")] = "none"
    precision: Annotated[
        Literal["fp32", "bf16", "fp16", "auto"], _about("auto: bf16, fp16 or fp32, resolved on the machine that plans")
    ] = "fp32"
    memory_cap_gib: Annotated[Positive | Nothing, _about("memory limit, to simulate a smaller device")] = "none"
    layer_decay: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | Nothing,
        _about(
            "learning-rate factor per block, multiplied for every block further from the heads; 0.7 to 0.9 in ViTDet"
        ),
    ] = "none"
    freeze: Freeze = Freeze()
    ema: Annotated[
        Annotated[float, Meta(gt=0, lt=1)] | Nothing,
        _about("decay of an exponential moving average of the weights, which is then evaluated; such as 0.9998"),
    ] = "none"
    compile: Annotated[bool, _about("the blocks of the ViT by torch.compile; needs a compiler")] = False
    channels_last: Annotated[bool, _about("memory layout of pyramid, RPN and heads, and of a ResNet")] = False

    def __post_init__(self) -> None:
        _require(
            (self.epochs == "none") != (self.iterations == "none"),
            "exactly one of epochs and iterations must be a number, but "
            + (
                "both are none; set one of them"
                if self.epochs == "none"
                else "both are; add train.iterations=none, or train.epochs=none"
            ),
        )
        _require(
            self.images_per_norm == "auto" or self.batch_size % self.images_per_norm == 0,
            f"images_per_norm {self.images_per_norm} does not divide batch_size {self.batch_size}; "
            "set it to the images that share one BatchNorm statistic (devices x images on each)",
        )
        low, high = self.jitter_scale
        _require(low <= high, f"jitter_scale [{low}, {high}] must be [smallest, largest]")
        milestones = list(self.step_milestones)
        _require(milestones == sorted(set(milestones)), f"step_milestones {milestones} must rise")
        if isinstance(self.epochs, float):
            _check_warmup(self.warmup_epochs, self.epochs)

    @property
    def norm_images(self) -> int:
        """Images that share a BatchNorm statistic; `images_per_norm`, which is no longer ``auto``."""
        assert self.images_per_norm != "auto"
        return self.images_per_norm

    def total_iterations(self, images: int) -> int:
        """Optimizer steps of the whole schedule on a training set of ``images`` (those kept)."""
        if isinstance(self.iterations, int):
            return self.iterations
        assert isinstance(self.epochs, float)
        return max(1, round(self.epochs * images / self.batch_size))

    def warmup_iterations(self, images: int) -> int:
        """Optimizer steps of the warm-up on a training set of ``images``; shorter than the schedule."""
        return min(round(self.warmup_epochs * images / self.batch_size), self.total_iterations(images) - 1)


class Evaluate(Part, frozen=True, kw_only=True):
    """How the last checkpoint predicts."""

    score_threshold: Annotated[Fraction, _about("boxes below it are dropped")] = 0.05
    proposals_before_nms: Annotated[Count, _about("per level; proposals that the RPN passes on")] = 1000
    proposals_after_nms: Annotated[Count, _about("per image")] = 1000
    nms_threshold: Annotated[Fraction, _about("IoU, per class")] = 0.5
    max_detections: Annotated[Count, _about("per image")] = 100
    padding: Annotated[
        Literal["full", "least"], _about("full: to a square, as in the paper; least: to a multiple of the stride")
    ] = "full"


class RunConfig(Part, frozen=True, kw_only=True):
    """One run. Field by field it maps onto the keyword arguments of what it configures."""

    engine: Annotated[
        Literal["vision", "detectron2"],
        _about("vision: built on torchvision; detectron2: must be installed"),
    ] = "vision"
    model: Model
    init: Init = Init()
    data: Data
    train: Train
    evaluate: Evaluate = Evaluate()
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0

    def __post_init__(self) -> None:
        backbone = self.model.backbone
        kind = _kind_of(backbone)
        _require(
            isinstance(backbone, ViT) or self.init.weights == "none",
            f"init.weights loads into a ViT, but model.backbone is a {kind}; set init.weights=none",
        )
        _require(
            isinstance(backbone, ViT) or self.init.scheme == "random",
            f"init.scheme {self.init.scheme} draws the weights of a ViT, but model.backbone is a {kind}; "
            "set init.scheme=random",
        )
        _require(
            not isinstance(backbone, PluginBackbone) or self.engine == "vision",
            f"engine {self.engine} builds no backbone of another package; set engine=vision",
        )
        self._check_backbone_training(backbone)
        for name in ("compile", "channels_last"):
            _require(
                self.engine == "vision" or not getattr(self.train, name),
                f"train.{name} is an option of engine=vision, but engine is {self.engine}; set train.{name}=false",
            )
        if self.init.pretraining != "none":
            pretraining_of(self)  # raises an error if it does not fit
        elif isinstance(backbone, ViT) and self.init.weights == "none":
            for name in ("relative", "absolute"):
                _require(
                    getattr(backbone.position, name) != "pt",
                    f"model.backbone.position.{name}=pt needs pre-trained weights, but init.weights is none; "
                    "choose rand, zero or none",
                )

    def _check_backbone_training(self, backbone: ViT | ResNet | PluginBackbone) -> None:
        """Check that the settings in `train` that concern blocks fit the backbone."""
        decay, freeze = self.train.layer_decay, self.train.freeze
        _require(
            isinstance(backbone, ViT) or decay == "none",
            f"train.layer_decay {decay} counts the blocks of a ViT, but model.backbone is a {_kind_of(backbone)}; "
            "set train.layer_decay=none",
        )
        _require(
            isinstance(backbone, ViT) or not self.train.compile,
            "train.compile compiles the blocks of a ViT, but model.backbone is a resnet; set train.compile=false",
        )
        _require(
            isinstance(backbone, ViT) or freeze == Freeze(),
            f"train.freeze names parts of a ViT, but model.backbone is a {_kind_of(backbone)}; leave it out",
        )
        if isinstance(backbone, ViT):
            _require(
                freeze.blocks < backbone.depth,
                f"train.freeze.blocks {freeze.blocks} freezes all {backbone.depth} blocks; "
                f"choose at most {backbone.depth - 1}",
            )


def _kind_of(backbone: ViT | ResNet | PluginBackbone) -> str:
    return str(backbone.__struct_config__.tag)


class Encoder(Part, frozen=True, kw_only=True):
    """The settings of a ViT that its pre-training depends on."""

    width: Size
    depth: Annotated[int, Meta(ge=1, le=1000)]
    heads: Size
    patch_size: Size
    mlp_ratio: Annotated[float, Meta(gt=0, le=1000)]

    def __post_init__(self) -> None:
        _require(
            self.width % self.heads == self.width % 4 == 0,
            f"width {self.width} must be a multiple of heads {self.heads} and of 4 to be pre-trained",
        )


class Pretraining(Part, frozen=True, kw_only=True):
    """One pre-training: everything that decides its weights."""

    encoder: Encoder
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[Positive, Positive, Positive]
    pretrain: Pretrain

    def __post_init__(self) -> None:
        size, patch = self.pretrain.image_size, self.encoder.patch_size
        _require_multiple("pretraining.image_size", size, "patch_size", patch)
        patches = (size // patch) ** 2
        _require(
            0 < int(patches * (1 - self.pretrain.mask_ratio)) < patches,
            f"pretraining.mask_ratio {self.pretrain.mask_ratio} masks none or all of the {patches} patches of a crop",
        )


def pretraining_of(config: RunConfig) -> Pretraining:
    """The pre-training whose weights a run starts from; the encoder is the run's own backbone.

    Raises:
        ValueError: the run has none, or one that does not fit its model.
    """
    backbone, recipe = config.model.backbone, config.init.pretraining
    if not isinstance(recipe, Pretrain):
        raise ValueError("init.pretraining is none")
    if not isinstance(backbone, ViT):
        raise ValueError("init.pretraining pre-trains a ViT, and model.backbone is no ViT; set it to none")
    _require(
        backbone.position.relative != "pt",
        "model.backbone.position.relative=pt needs weights with bias tables, which init.pretraining does not give; "
        "choose zero, rand or none",
    )
    _require(
        backbone.qkv_bias and backbone.layer_scale == "none",
        "init.pretraining gives weights with qkv_bias=true and layer_scale=none; set them so",
    )
    return Pretraining(
        encoder=Encoder(
            width=backbone.width,
            depth=backbone.depth,
            heads=backbone.heads,
            patch_size=backbone.patch_size,
            mlp_ratio=backbone.mlp_ratio,
        ),
        pixel_mean=config.model.pixel_mean,
        pixel_std=config.model.pixel_std,
        pretrain=recipe,
    )


def epoch_of(init: Init) -> int:
    """After which epoch of the pre-training the weights are taken."""
    assert isinstance(init.pretraining, Pretrain)
    return round(init.pretraining.epochs) if init.pretraining_epoch == "last" else init.pretraining_epoch
