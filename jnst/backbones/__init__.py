"""Networks that turn images into features, and the table of them."""

import dataclasses
import functools
from collections.abc import Callable, Iterable

from jnst.backbones.backbone import Backbone, check_options, flat_shapes
from jnst.backbones.extractor import FeatureExtractor
from jnst.backbones.ops import PADDINGS, POOLINGS
from jnst.backbones.preprocessing import IDENTITY, IMAGENET, LPIPS, OXFORD, Preprocessing
from jnst.backbones.resnet import ResNet
from jnst.backbones.squeezenet import SqueezeNet
from jnst.backbones.vgg import MINI_WIDTHS, SLIM_HEADS, SLIM_WIDTHS, VGG, VGG16_WIDTHS, VGG19_WIDTHS, Widths
from jnst.backbones.widths import CONVNET_WIDTHS, format_widths, parse_widths
from jnst.errors import ArgumentError, JnstError, did_you_mean

__all__ = [
    "BACKBONES",
    "IDENTITY",
    "IMAGENET",
    "LPIPS",
    "OXFORD",
    "PADDINGS",
    "POOLINGS",
    "Backbone",
    "Preprocessing",
    "Widths",
    "format_widths",
    "make_backbone",
    "param_shapes",
    "parse_widths",
]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A row of `BACKBONES`.

    Attributes:
        network: The module with its default options; they can be replaced field by field.
        preprocessing: What its usual weights want; weights files carry their own.
        content_layers: Candidates for the content layer, best first; none: every ReLU, the last first.
        style_layers: The usual style layers; none: the first ReLU of each block.
        options: Which of the network's fields `make_backbone` can set.
    """

    network: Callable[[], FeatureExtractor]
    preprocessing: Preprocessing
    content_layers: tuple[str, ...] = ()
    style_layers: tuple[str, ...] = ()
    options: tuple[str, ...] = (
        *("pooling", "rescale_pooling", "padding", "input_padding", "ceil_mode", "precision", "remat"),
    )


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
    "mini": Architecture(lambda: VGG(MINI_WIDTHS, padding="reflect"), OXFORD, _VGG_CONTENT, _VGG_STYLE),
    "convnet": Architecture(lambda: VGG(CONVNET_WIDTHS), IMAGENET, options=("widths", *Architecture.options)),
    "squeezenet1.1": Architecture(
        SqueezeNet, IMAGENET, ("fire5", "fire4"), ("relu1", "fire2", "fire3", "fire4", "fire5")
    ),
    "resnet18": Architecture(lambda: ResNet((2, 2, 2, 2), bottleneck=False), *_RESNET),
    "resnet34": Architecture(lambda: ResNet((3, 4, 6, 3), bottleneck=False), *_RESNET),
    "resnet50": Architecture(lambda: ResNet((3, 4, 6, 3)), *_RESNET),
    "resnet101": Architecture(lambda: ResNet((3, 4, 23, 3)), *_RESNET),
    "resnet152": Architecture(lambda: ResNet((3, 8, 36, 3)), *_RESNET),
}
"""Every architecture by name."""


def find(name: str) -> Architecture:
    """The row of `BACKBONES` called ``name``.

    Raises:
        ArgumentError: There is none; the message names near matches.
    """
    if name not in BACKBONES:
        advice = f"{did_you_mean(name, BACKBONES)} there are {', '.join(BACKBONES)}".strip()
        raise ArgumentError(f"unknown backbone {name!r}: {advice}")
    return BACKBONES[name]


def make_backbone(
    name: str,
    *,
    preprocessing: Preprocessing | None = None,
    training: str = "random",
    held: Iterable[str] | None = None,
    **options: str | bool | Widths,
) -> Backbone:
    """Build a network without weights; `Backbone.init` makes random ones.

    Args:
        name: A key of `BACKBONES`.
        preprocessing: What the network is fed; None: what its usual weights want.
        training: Whose weights it will get.
        held: The flat names of the parameters at hand, if the weights reach only part of the network.
        **options: ``pooling`` ("max", "avg", "l2"), ``rescale_pooling`` (bool), ``remat`` (bool: less memory for the
            gradient at the price of a second forward pass, see `FeatureExtractor`), for all but ResNets ``precision``
            ("auto", "float32", "bfloat16": how runs compute, see `Backbone.lay_out`), for VGG networks also ``padding``
            and ``input_padding`` ("zero", "reflect", "replicate"), for SqueezeNet ``ceil_mode`` (bool), for
            ``convnet`` ``widths`` (see `parse_widths`).

    Returns:
        A hashable `Backbone`.

    Raises:
        ArgumentError: An unknown name, option or value.
    """
    row = find(name)
    usual = row.network()
    fields = [field.name for field in dataclasses.fields(usual) if field.name in row.options]
    check_options(name, options, fields)
    if "widths" in options:
        options["widths"] = parse_widths(options["widths"])
    whole = dataclasses.replace(usual, parent=None, **options)
    network = whole if held is None else whole.held(frozenset(held))
    relus = [layer for layer in whole.layers if layer.startswith("relu")]
    return Backbone(
        name=name,
        network=network,
        preprocessing=preprocessing or row.preprocessing,
        training=training,
        all_layers=whole.layers,
        content_layers=row.content_layers or tuple(relus[::-1]),
        style_layers=row.style_layers or tuple(relu for relu in relus if relu.endswith("_1")),
    )


@functools.lru_cache
def param_shapes(name: str, widths: str | bool | None = None) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter of an architecture by its flat name (``conv1_1/kernel``), in order of depth.

    Args:
        name: A key of `BACKBONES`.
        widths: The one option that changes shapes, as `make_backbone` takes it; None: the usual ones.

    Raises:
        ArgumentError: An unknown name, or widths that are not readable or not this network's to choose.
    """
    backbone = make_backbone(name) if widths is None else make_backbone(name, widths=widths)
    return flat_shapes(backbone.network, backbone.smallest_side(backbone.layers))
