"""Experiment 0: style transfer with a small classifier trained from scratch instead of VGG.

The images are folders of four classes (`--data DIR`), or by default a procedural set. The network has three
convolutions with 16, 32 and 64 filters and is trained for 10 epochs with Adam. Style transfer then makes 800 steps at
128 pixels, with style on all three convolutions and content on the last. With `--weights FILE`, that network is used
and none is trained.
"""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import jnst
from benchmarks.experiments.experiment import load_images, make_parser, parse, save, table_sheet
from benchmarks.experiments.procedural_images import save_classes
from jnst.apps.pixels import to_levels
from jnst.apps.report import Figure, Figures, Heading, Plot, Table, Tile
from jnst.apps.training.classifier import Epoch, Settings, Trained, train_classifier
from jnst.apps.training.data import Dataset, load_dataset

PROCEDURAL = 40
"""Images of each class in the procedural set."""
EXAMPLES = 4
TRAINED = ("train_loss", "test_loss", "test_accuracy")
PUBLISHED = {"train_loss": 0.90, "test_loss": 0.89, "style": 44892.40, "content": 127.82}


def train(data: Path | None, count: int, settings: Settings) -> tuple[Dataset, jnst.Backbone, Trained]:
    """Load the images, and train a classifier."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = load_dataset(data or save_classes(Path(folder), count), side=2 * settings.size)
    backbone = jnst.make_backbone("convnet", widths="16/32/64", training="classifier")
    return dataset, backbone, train_classifier(dataset, backbone, settings, on_epoch=print_epoch)


def print_epoch(history: Sequence[Epoch]) -> None:
    """Print a line for the last epoch."""
    last = history[-1]
    print(
        f"epoch {last.epoch}: train {last.train_loss:.4f}, test {last.test_loss:.4f}, {last.seconds:.1f} s", flush=True
    )


def examples(dataset: Dataset) -> Figures:
    """Figures of some images of every class."""
    shown = [
        Figure(example.pixels / 255, dataset.classes[label])
        for label in range(len(dataset.classes))
        for example in [each for each in dataset.train if each.label == label][:EXAMPLES]
        if example.pixels is not None
    ]
    return Figures(shown)


def settings_of(backbone: jnst.Backbone, steps: int) -> jnst.Preset:
    """Style on the three convolutions and content on the last; for other networks their usual layers."""
    settings = jnst.preset("scratch-cnn", num_steps=steps)
    if backbone.name == "convnet":
        return settings
    content = [layer for layer in backbone.content_layers if layer in backbone.layers][:1]
    style = [layer for layer in backbone.style_layers if layer in backbone.layers][:3]
    return jnst.preset(settings, content_layers=tuple(content), style_layers=tuple(style))


def main(words: Sequence[str]) -> None:
    """Run the experiment, and write its results."""
    parser = make_parser("classifier", __doc__, size=128, steps=800, several=False)
    parser.add_argument("--data", type=Path, help="a folder with one folder of images for each class")
    parser.add_argument("--count", type=int, default=PROCEDURAL, help="images of each class in the procedural set")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of training")
    parser.add_argument("--crop", type=int, default=224, help="the side of the crops in training, in pixels")
    args = parse(parser, words)
    parts, figures, epochs = [], [], []
    if args.weights:
        backbone, params = jnst.load_backbone(weights=args.weights[0])
        print(f"{args.weights[0]}: {backbone.name}, {backbone.training} weights, used without further training")
    else:
        dataset, backbone, trained = train(args.data, args.count, Settings(epochs=args.epochs, size=args.crop))
        params, epochs = trained.params["trunk"], list(map(dataclasses.asdict, trained.history))
        figures = [(f"{name.replace('_', ' ')}", epochs[-1][name], PUBLISHED.get(name)) for name in TRAINED]
        curves = {name: [epoch[name] for epoch in epochs] for name in TRAINED[:2]}
        parts = [("Training", [Plot(curves, axis="epoch")]), ("Examples from the training set", [examples(dataset)])]
    contents, styles = load_images(args, "contents", 2), load_images(args, "styles", 3)
    settings = settings_of(backbone, args.steps)
    sources = list(contents.values()), list(styles.values())
    solution = jnst.stylize_grid(*sources, params, backbone=backbone, preset=settings, fit="crop")
    losses = {
        kind: np.asarray(sum(values[0, 0] for name, values in solution.parts.items() if name.startswith(f"{kind}/")))
        for kind in ("style", "content")
    }
    figures.append(("first style loss", losses["style"][0], None))
    figures += [(f"last {kind} loss", values[-1], PUBLISHED[kind]) for kind, values in losses.items()]
    rows = [Heading(name, (to_levels(content),)) for name, content in contents.items()]
    columns = [Heading(name, (to_levels(style),)) for name, style in styles.items()]
    note = f"network {backbone.name} ({backbone.training}), {args.steps} steps"
    sheet = table_sheet(
        rows, columns, lambda row, column: Tile(to_levels(solution.image[row, column])), sources[0][0], note=note
    )
    parts = [("Figures", [Table(("", "ours", "project"), figures)]), *parts]
    parts.append(("Transfer", [Plot({"total": solution.losses[0, 0]} | losses)]))
    ours = {name: float(value) for name, value, _ in figures}
    save(args, "A classifier instead of VGG", sheet, parts, figures=ours, project=PUBLISHED, epochs=epochs)
