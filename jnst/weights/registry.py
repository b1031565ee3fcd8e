"""Where weights are published: addresses, hashes and licences, as their publishers document them."""

import dataclasses

from jnst.backbones import IMAGENET, OXFORD, Preprocessing


@dataclasses.dataclass(frozen=True)
class Source:
    """A row of `SOURCES`.

    Attributes:
        architecture: A key of `jnst.backbones.BACKBONES`.
        training: Who trained it, as in `jnst.weights.layouts.LAYOUTS`.
        address: The URL of the file; of a TensorFlow.js model that of its ``model.json``, with its shards beside it.
        megabytes: The size of the download in 10^6 bytes; None where it is not documented.
        hash_kind: "sha256", "sha256-prefix" (its first hexadecimal digits), "md5", or "none".
        hash_value: Hexadecimal digits; empty where the kind is "none".
        licence: An SPDX licence expression.
        preprocessing: What the network was trained to be fed.
    """

    architecture: str
    training: str
    address: str
    megabytes: float | None
    hash_kind: str
    hash_value: str
    licence: str
    preprocessing: Preprocessing


_TIMM = "https://huggingface.co/timm"
_KERAS = "https://github.com/fchollet/deep-learning-models/releases/download/v0.1"
_TORCH = "https://download.pytorch.org/models"
_TFJS = "https://raw.githubusercontent.com/DavidCai1993/vgg19-tensorflowjs-model/master/model"

SOURCES: dict[str, Source] = {
    "vgg19/oxford": Source(
        "vgg19",
        "oxford",
        f"{_KERAS}/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        80,
        "md5",
        "253f8cb515780f3b799900260a226db6",
        "CC-BY-4.0",
        OXFORD,
    ),
    "vgg19/oxford-tfjs": Source(
        "vgg19",
        "oxford",
        f"{_TFJS}/model.json",
        80,
        "sha256",
        "0a55a4ea97c30cdcee63cc614e9f2d41f43ea4f0a9554bb151e742cbfd59c256",
        "MIT AND CC-BY-4.0",
        OXFORD,
    ),
    "vgg19/torchvision": Source(
        "vgg19",
        "torchvision",
        f"{_TIMM}/vgg19.tv_in1k/resolve/128d4708565b3a414bcbb9bbad440b2fe37b9f18/model.safetensors",
        575,
        "sha256",
        "11aea017b543ff59233749d8f1cf544cda749378f5790d2fedab841fb86b7669",
        "BSD-3-Clause",
        IMAGENET,
    ),
    "vgg19/torchvision-pth": Source(
        "vgg19",
        "torchvision",
        f"{_TORCH}/vgg19-dcbb9e9d.pth",
        548,
        "sha256-prefix",
        "dcbb9e9d",
        "BSD-3-Clause",
        IMAGENET,
    ),
    "vgg19/flaxmodels": Source(
        "vgg19",
        "torchvision",
        "https://www.dropbox.com/s/1sn02fnkj579u1w/vgg19_weights.h5?dl=1",
        None,
        "none",
        "",
        "BSD-3-Clause",
        IMAGENET,
    ),
    "vgg16/oxford": Source(
        "vgg16",
        "oxford",
        f"{_KERAS}/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        59,
        "md5",
        "6d6bbae143d832006294945121d1f1fc",
        "CC-BY-4.0",
        OXFORD,
    ),
    "vgg16/torchvision": Source(
        "vgg16",
        "torchvision",
        f"{_TIMM}/vgg16.tv_in1k/resolve/main/model.safetensors",
        553,
        "sha256",
        "57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8",
        "BSD-3-Clause",
        IMAGENET,
    ),
    "vgg16/torchvision-pth": Source(
        "vgg16",
        "torchvision",
        f"{_TORCH}/vgg16-397923af.pth",
        528,
        "sha256-prefix",
        "397923af",
        "BSD-3-Clause",
        IMAGENET,
    ),
    "resnet50/torchvision": Source(
        "resnet50",
        "torchvision",
        f"{_TIMM}/resnet50.tv_in1k/resolve/aa6c2d36d56bc0209040c02b5a7b7d7bf11d57b8/model.safetensors",
        102,
        "sha256",
        "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
        "BSD-3-Clause",
        IMAGENET,
    ),
    "squeezenet1.1/torchvision": Source(
        "squeezenet1.1",
        "torchvision",
        f"{_TORCH}/squeezenet1_1-b8a52dc0.pth",
        5,
        "sha256-prefix",
        "b8a52dc0",
        "BSD-3-Clause",
        IMAGENET,
    ),
}
"""Published weights; the first row of an architecture and a training is the one to recommend."""


def where_to_get(architecture: str, training: str | None = None) -> str:
    """Say in one line where weights can be downloaded, for error messages.

    Args:
        architecture: A key of `jnst.backbones.BACKBONES`.
        training: Who trained them; None: whichever comes first.

    Returns:
        The address, size, hash and what to do; or, where no source is known, which are.
    """
    for source in SOURCES.values():
        if source.architecture == architecture and training in (None, source.training):
            size = f"{source.megabytes:g} MB, " if source.megabytes else ""
            digest = f"{source.hash_kind} {source.hash_value}" if source.hash_value else "no documented hash"
            return f"download {source.address} ({size}{digest}, {source.licence}) and pass its path as weights"
    wanted = architecture if training is None else f"{architecture}/{training}"
    return (
        f"no source of {wanted} weights is known (there are {', '.join(SOURCES)}): pass the path of a file as weights"
    )
