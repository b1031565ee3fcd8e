"""The presets: a row each, with the source of its numbers.

Where a system's paper and its code differ, the code stands here.
"""

import math

from jnst.backbones import OXFORD, Preprocessing
from jnst.images import SHARP, Pyramid
from jnst.losses import (
    Gram,
    HypercolumnSelfSimilarity,
    Relative,
    SlicedWasserstein,
    SquaredError,
    Strotss,
    TotalVariation,
    Wasserstein,
)
from jnst.presets.settings import Loading, Network, Preset, Schedule, Terms
from jnst.solve import LBFGS, OPTIMIZERS, SGD, Adam, RMSprop, Solver

STD5 = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
"""The style layers of Gatys 2016 and of nearly every program since."""

BEFORE_RELU = tuple(layer.replace("relu", "conv") for layer in STD5)

STROTSS_LAYERS = (
    "image",
    *("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2", "relu3_3", "relu4_1", "relu5_1"),
)
"""The hypercolumns of Kolkin's program."""

FOUR_BLOCKS = tuple(
    f"relu{block}_{index}" for block, count in ((1, 2), (2, 2), (3, 4), (4, 4)) for index in range(1, count + 1)
)

PRESETS: dict[str, Preset] = {
    "jnst": Preset(
        summary="Our default: losses relative to their targets, so that it works alike on every network.",
        source="jnst",
        terms=Terms(
            content_loss=Relative(SquaredError()),
            style_loss=Relative(Gram("chw")),
            style_weight=100.0,
            mean_of_styles=True,
        ),
        solver=Solver(optimizer=OPTIMIZERS["lbfgs-fourier"](), unit=255.0),
        schedule=Schedule(num_steps=(100, 80), pyramid=Pyramid(factor=2.0)),
    ),
    "gatys2016": Preset(
        summary="The first paper: sums of squares before the ReLU, average pooling, from white noise.",
        source="Gatys, Ecker & Bethge, CVPR 2016 (alpha/beta = 1e-3)",
        terms=Terms(
            content_layers=("conv4_2",),
            style_layers=BEFORE_RELU,
            content_loss=SquaredError("half_sum"),
            style_loss=Gram("hw", "quarter_mean"),
            style_weight=1e3,
            mean_of_styles=True,
        ),
        schedule=Schedule(init="noise", noise_power=0.0),
        network=Network(weights="oxford", pooling="avg"),
    ),
    "gatys2017": Preset(
        summary="Gatys' own later code: two sizes, 500 steps at half size, then 200.",
        source="Gatys et al., CVPR 2017; github.com/leongatys/NeuralImageSynthesis",
        terms=Terms(
            content_layers=("relu4_2",),
            style_layers=STD5,
            # (1e3 / c²) MSE(F Fᵀ / n) is 1e3 MSE(F Fᵀ / (c n)).
            style_loss=Gram("chw", "mean"),
            style_weight=1e3,
        ),
        schedule=Schedule(num_steps=(500, 200), pyramid=Pyramid(factor=2.0, min_size=1, levels=2)),
        network=Network(weights="oxford"),
        loading=Loading(size=1024, measure="area"),
    ),
    "neural-style": Preset(
        summary="Johnson's program in Torch: smoothed by a gradient that its loss leaves out.",
        source="github.com/jcjohnson/neural-style, the code's defaults",
        terms=Terms(
            content_layers=("relu4_2",),
            style_layers=STD5,
            content_weight=5.0,
            style_weight=100.0,
            style_loss=Gram("chw", "mean"),
            tv_weight=1e-3,
            total_variation=TotalVariation("isotropic", "half_sum", value_range=256.0, power=1.0, counted=False),
        ),
        solver=Solver(optimizer=LBFGS(), unit=256.0),
        schedule=Schedule(init="noise", noise_std=0.001 / 256, noise_power=0.0, resample="bilinear"),
        network=Network(weights="oxford", preprocessing=Preprocessing("bgr", 256.0, OXFORD.mean)),
        alternatives=(Adam(10.0),),
    ),
    "neural-style-pt": Preset(
        summary="ProGamerGov's PyTorch port of neural-style.",
        source="github.com/ProGamerGov/neural-style-pt, the code's defaults",
        terms=Terms(
            content_layers=("relu4_2",),
            style_layers=STD5,
            content_weight=5.0,
            style_weight=100.0,
            style_loss=Gram("chw", "mean"),
            tv_weight=1e-3,
            total_variation=TotalVariation("l1", "sum", value_range=255.0),
        ),
        solver=Solver(optimizer=LBFGS(memory_size=100), unit=255.0),
        schedule=Schedule(init="noise", noise_std=0.001 / 255, noise_power=0.0, resample="bilinear"),
        network=Network(weights="oxford"),
        loading=Loading(rounding="floor"),
        alternatives=(Adam(1.0),),
    ),
    "neural-style-tf": Preset(
        summary="Smith's TensorFlow program: average pooling, layer sizes under a root.",
        source="github.com/cysmith/neural-style-tf, the code's defaults",
        terms=Terms(
            content_layers=("conv4_2",),
            style_layers=STD5,
            content_weight=5.0,
            content_loss=SquaredError("half_sum_over_root"),
            style_weight=1e4,
            style_layer_weights=(0.2,) * 5,
            mean_of_styles=True,
            style_loss=Gram("hw", "quarter_mean"),
            tv_weight=1e-3,
            total_variation=TotalVariation("l1", "sum", value_range=255.0),
        ),
        schedule=Schedule(resample="bilinear"),
        network=Network(weights="oxford", pooling="avg"),
    ),
    "anishathalye": Preset(
        summary="Athalye's TensorFlow program: Adam from noise, squared total variation.",
        source="github.com/anishathalye/neural-style, the code's defaults",
        terms=Terms(
            content_layers=("relu4_2",),
            style_layers=STD5,
            content_weight=5.0,
            style_weight=500.0,
            style_layer_weights=(0.2,) * 5,
            style_loss=Gram("chw", "mean"),
            tv_weight=100.0,
            total_variation=TotalVariation("l2", "mean", value_range=255.0),
        ),
        solver=Solver(optimizer=Adam(10.0), unit=255.0),
        schedule=Schedule(init="noise", noise_std=0.256 / 255, noise_power=0.0),
        network=Network(weights="oxford"),
    ),
    "gordic": Preset(
        summary="Gordić's PyTorch program: torchvision's weights on the range 0-255.",
        source="github.com/gordicaleksa/pytorch-neural-style-transfer, the code's defaults (400 pixels high)",
        terms=Terms(
            content_layers=("relu4_2",),
            style_layers=STD5,
            content_weight=1e5,
            style_weight=3e4,
            mean_of_styles=True,
            style_loss=Gram("chw", "sum"),
            tv_weight=1.0,
            total_variation=TotalVariation("l1", "sum", value_range=255.0),
        ),
        solver=Solver(optimizer=LBFGS(zoom=True), unit=255.0),
        network=Network(weights="torchvision", preprocessing=Preprocessing("rgb", 255.0, (123.675, 116.28, 103.53))),
        loading=Loading(size=400, measure="height"),
        alternatives=(Adam(10.0),),
    ),
    "crowson": Preset(
        summary="Crowson's program: 2-Wasserstein distances, Adam through five sizes, averaged iterates.",
        source="github.com/crowsonkb/style-transfer-pytorch, the code's defaults",
        terms=Terms(
            content_layers=("relu4_2",),
            style_layers=STD5,
            content_weight=0.015,
            style_layer_weights=tuple(weight / 341 for weight in (256.0, 64.0, 16.0, 4.0, 1.0)),
            style_loss=Wasserstein(iterations=12),
            tv_weight=2.0,
            total_variation=TotalVariation("nine_point", "mean"),
        ),
        solver=Solver(optimizer=Adam(0.02, b2=0.99), unit=1.0, bounds=(0.0, 1.0), average=0.99),
        schedule=Schedule(
            num_steps=(1000, 500),
            pyramid=Pyramid(math.sqrt(2.0), min_size=128),
            carry_optimizer=True,
            carry_average=True,
            enlarge=SHARP,
        ),
        network=Network(weights="torchvision", rescale_pooling=True, input_padding="replicate"),
    ),
    "pytorch-tutorial": Preset(
        summary="PyTorch's tutorial: the first five convolutions before the ReLU, 300 evaluations.",
        source="pytorch.org/tutorials, Neural Transfer Using PyTorch",
        terms=Terms(
            content_layers=("conv2_2",),
            style_layers=("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"),
            style_weight=1e6,
            style_loss=Gram("chw", "mean"),
        ),
        solver=Solver(optimizer=LBFGS(), unit=1.0, bounds=(0.0, 1.0)),
        schedule=Schedule(num_steps=(300,), resample="bilinear"),
        network=Network(weights="torchvision"),
    ),
    "tf-tutorial": Preset(
        summary="TensorFlow's tutorial: Adam on [0, 1], strong total variation.",
        source="tensorflow.org/tutorials/generative/style_transfer",
        terms=Terms(
            content_layers=("relu5_2",),
            style_layers=STD5,
            content_weight=1e4,
            style_weight=1e-2,
            style_loss=Gram("hw", "mean"),
            mean_of_styles=True,
            tv_weight=30.0,
        ),
        solver=Solver(optimizer=Adam(0.02, b1=0.99, eps=0.1), unit=1.0, bounds=(0.0, 1.0)),
        schedule=Schedule(resample="bilinear"),
        network=Network(weights="oxford"),
    ),
    "tf-blogpost": Preset(
        summary="The eager TensorFlow tutorial of 2018, which most Keras notebooks copy.",
        source="TensorFlow blog, Neural Style Transfer with tf.keras and eager execution, August 2018",
        terms=Terms(
            content_layers=("relu5_2",),
            style_layers=STD5,
            content_weight=1e3,
            style_weight=1e-2,
            style_loss=Gram("hw", "mean"),
            mean_of_styles=True,
        ),
        solver=Solver(optimizer=Adam(5.0, b1=0.99, eps=0.1), unit=255.0, bounds=(0.0, 1.0), keep_best=True),
        schedule=Schedule(resample="lanczos"),
        network=Network(weights="oxford"),
    ),
    "keras-example": Preset(
        summary="Keras's example: gradient descent on sums of squares.",
        # SSE(F Fᵀ) / (4 · 9 · (h w)²) with the image's h w; block b has h w / 4^(b-1) positions. Exact where the
        # sides divide by 16 and the style has the image's size.
        source="keras.io/examples/generative/neural_style_transfer (400 pixels high)",
        terms=Terms(
            content_layers=("relu5_2",),
            style_layers=STD5,
            content_weight=2.5e-8,
            content_loss=SquaredError("sum"),
            style_weight=1e-6,
            style_layer_weights=tuple(16.0**-block / 36 for block in range(5)),
            mean_of_styles=True,
            style_loss=Gram("hw", "sum"),
            tv_weight=1e-6,
            total_variation=TotalVariation("isotropic", "sum", value_range=255.0, power=1.25),
        ),
        solver=Solver(optimizer=SGD(100.0, decay=0.96, decay_steps=100), unit=255.0),
        schedule=Schedule(num_steps=(4000,)),
        network=Network(weights="oxford"),
        loading=Loading(size=400, measure="height"),
    ),
    "strotss": Preset(
        summary="STROTSS: relaxed optimal transport of hypercolumns, content by self-similarity.",
        # Colours weigh 1/α there, with an α halved at each size; here with that of the last size.
        source="Kolkin, Salavon & Shakhnarovich, CVPR 2019; github.com/nkolkin13/STROTSS (VGG16)",
        terms=Terms(
            content_layers=STROTSS_LAYERS,
            style_layers=STROTSS_LAYERS,
            content_weight=16.0 / 4,
            content_loss=HypercolumnSelfSimilarity(),
            style_loss=Strotss(alpha=2.0, formula="program"),
        ),
        solver=Solver(optimizer=RMSprop(2e-3, levels=5), unit=1.0),
        schedule=Schedule(
            content_weight_per_size=0.5, last_learning_rate=1e-3, num_steps=(250,), pyramid=Pyramid(2.0, min_size=64)
        ),
        network=Network(weights="torchvision"),
    ),
    "sliced-wasserstein": Preset(
        summary="Texture synthesis by sorted projections, drawn afresh at each step (jnst.synthesize).",
        source="Heitz, Vanhoey, Chambon & Belcour, CVPR 2021",
        terms=Terms(content_layers=(), style_layers=FOUR_BLOCKS, style_loss=SlicedWasserstein()),
        schedule=Schedule(init="noise", noise_power=0.0),
        network=Network(weights="oxford", padding="reflect", pooling="avg"),
    ),
    "scratch-cnn": Preset(
        summary="A small classifier of one's own (jnst train classifier) in place of VGG.",
        source="jnst, after student projects: three convolutions, style weight 1e6, 800 steps at 128 pixels",
        terms=Terms(
            content_layers=("relu3_1",),
            style_layers=("relu1_1", "relu2_1", "relu3_1"),
            style_weight=1e6,
            style_loss=Gram("chw", "mean"),
        ),
        solver=Solver(optimizer=Adam(0.01), unit=1.0, bounds=(0.0, 1.0)),
        schedule=Schedule(num_steps=(800,)),
        network=Network(weights="classifier"),
        loading=Loading(size=128),
    ),
}
"""Every preset by name."""
