"""Networks that compute features of images, and the table of them."""

import dataclasses
import functools
from collections.abc import Callable, Iterable

from jnst.backbones.alexnet import AlexNet
from jnst.backbones.backbone import OPTIONS, Backbone, check_options, flat_shapes
from jnst.backbones.kernels.algorithms import PRECISIONS
from jnst.backbones.modules import FeatureExtractor
from jnst.backbones.ops import PADDINGS, POOLINGS
from jnst.backbones.preprocessing import IDENTITY, IMAGENET, LPIPS, OXFORD, Preprocessing
from jnst.backbones.resnet import ResNet
from jnst.backbones.squeezenet import SqueezeNet
from jnst.backbones.vgg import (
    CONVNET_WIDTHS,
    MINI_WIDTHS,
    SLIM_HEADS,
    SLIM_WIDTHS,
    VGG,
    VGG16_WIDTHS,
    VGG19_WIDTHS,
    Widths,
    format_widths,
    parse_widths,
)
from jnst.errors import ArgumentError, hint

__all__ = [
    "BACKBONES",
    "IDENTITY",
    "IMAGENET",
    "LPIPS",
    "OXFORD",
    "PADDINGS",
    "POOLINGS",
    "PRECISIONS",
    "Architecture",
    "Backbone",
    "FeatureExtractor",
    "Preprocessing",
    "Widths",
    "find",
    "flat_shapes",
    "format_widths",
    "make_backbone",
    "param_shapes",
    "parse_widths",
]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A row of `BACKBONES`.

    Attributes:
        network: Builds the Flax module with its default options.
        preprocessing: The preprocessing of its usual weights. Weights files contain their own.
        content_layers: Candidates for the content layer, best first; empty: all ReLUs, deepest first.
        style_layers: The usual style layers; empty: the first ReLU of each block.
        free_widths: Whether `make_backbone` takes the option ``widths``.
    """

    network: Callable[[], FeatureExtractor]
    preprocessing: Preprocessing
    content_layers: tuple[str, ...] = ()
    style_layers: tuple[str, ...] = ()
    free_widths: bool = False


_VGG_CONTENT = ("relu4_2", "relu4_1", "relu3_2", "relu2_2", "relu1_2", "relu1_1")
_VGG_STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
_RESNET = (IMAGENET, ("block3_1", "block2_1"), ("relu1", "block1_1", "block2_1", "block3_1"))

BACKBONES: dict[str, Architecture] = {
    "vgg16": Architecture(lambda: VGG(VGG16_WIDTHS), OXFORD, _VGG_CONTENT, _VGG_STYLE),
    "vgg19": Architecture(lambda: VGG(VGG19_WIDTHS), OXFORD, _VGG_CONTENT, _VGG_STYLE),
    "vgg19-slim": Architecture(
        lambda: VGG(SLIM_WIDTHS, padding="reflect", input_convolution=True, heads=SLIM_HEADS),
        IDENTITY,
        _VGG_CONTENT,
        _VGG_STYLE,
    ),
    "mini": Architecture(lambda: VGG(MINI_WIDTHS), OXFORD, _VGG_CONTENT, _VGG_STYLE),
    "convnet": Architecture(lambda: VGG(CONVNET_WIDTHS), IMAGENET, free_widths=True),
    "squeezenet1.1": Architecture(
        SqueezeNet, IMAGENET, ("fire5", "fire4"), ("relu1", "fire2", "fire3", "fire4", "fire5")
    ),
    "alexnet": Architecture(
        AlexNet, IMAGENET, ("relu3", "relu2", "relu1"), ("relu1", "relu2", "relu3", "relu4", "relu5")
    ),
    "resnet18": Architecture(lambda: ResNet((2, 2, 2, 2), bottleneck=False), *_RESNET),
    "resnet34": Architecture(lambda: ResNet((3, 4, 6, 3), bottleneck=False), *_RESNET),
    "resnet50": Architecture(lambda: ResNet((3, 4, 6, 3)), *_RESNET),
    "resnet101": Architecture(lambda: ResNet((3, 4, 23, 3)), *_RESNET),
    "resnet152": Architecture(lambda: ResNet((3, 8, 36, 3)), *_RESNET),
}
"""All architectures by name. To add one, implement a `FeatureExtractor` and add a row."""


def find(name: str) -> Architecture:
    """Return the row of `BACKBONES` called ``name``.

    Raises:
        ArgumentError: An unknown name; the message suggests similar ones.
    """
    if name not in BACKBONES:
        raise ArgumentError(f"unknown backbone {name!r}: {hint(name, BACKBONES)}")
    return BACKBONES[name]


def make_backbone(
    name: str,
    *,
    preprocessing: Preprocessing | None = None,
    training: str = "random",
    available: Iterable[str] | None = None,
    **options: str | bool | Widths,
) -> Backbone:
    """Build a network without parameters. `Backbone.init` draws random ones, `jnst.load_backbone` loads trained ones.

    Args:
        name: A key of `BACKBONES`.
        preprocessing: The preprocessing of its inputs; None: that of its usual weights.
        training: Where its weights come from; see `Backbone`.
        available: The flat names of the available parameters, for partial weights; None: all.
        **options: Options of the network:

            - ``pooling``: "max", "avg", "l2" or "hann" (`ops.hann_pool`).
            - ``rescale_pooling``: Whether to scale pooled values to about those of max pooling.
            - ``padding``, ``input_padding``: "zero", "reflect", "replicate" or "circular", or a pair of these, for the
              rows above and below and the columns on the left and right (VGG networks only).
            - ``ceil_mode``: Whether to pool partial windows (SqueezeNet only).
            - ``precision``: "auto", "float32", "tf32" or "bfloat16"; see `Backbone.prepare` (not for ResNets).
            - ``remat``: Less memory for the gradient, for a second forward pass; see `FeatureExtractor`.
            - ``widths``: See `parse_widths` (``convnet`` only).

    Returns:
        A hashable `Backbone`.

    Raises:
        ArgumentError: An unknown name, option or value.
    """
    row = find(name)
    default = row.network()
    allowed = [field.name for field in dataclasses.fields(default) if field.name in OPTIONS]
    check_options(name, options, ["widths", *allowed] if row.free_widths else allowed)
    if "widths" in options:
        options["widths"] = parse_widths(options["widths"])
    whole = dataclasses.replace(default, parent=None, **options)
    relus = [layer for layer in whole.layers if layer.startswith("relu")]
    return Backbone(
        name=name,
        network=whole if available is None else whole.truncated(frozenset(available)),
        preprocessing=preprocessing or row.preprocessing,
        training=training,
        all_layers=whole.layers,
        content_layers=row.content_layers or tuple(relus[::-1]),
        style_layers=row.style_layers or tuple(relu for relu in relus if relu.endswith("_1")),
    )


@functools.lru_cache
def param_shapes(name: str, widths: str | bool | None = None) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter of an architecture by its flat name (``conv1_1/kernel``), in order of depth.

    Args:
        name: A key of `BACKBONES`.
        widths: See `make_backbone`, the only option that changes shapes; None: the default.

    Raises:
        ArgumentError: An unknown name, or invalid widths or widths for an architecture that does not take them.
    """
    backbone = make_backbone(name) if widths is None else make_backbone(name, widths=widths)
    return flat_shapes(backbone.network, backbone.smallest_side(backbone.layers))
