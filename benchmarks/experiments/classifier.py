"""Experiment 0: a small classifier trained from scratch, and its convolutions in place of VGG's.

Folders of images in four classes (`--data DIR`; without it a built-in set made by formula), three convolutions of 16,
32 and 64 filters, 10 epochs of Adam; then 800 steps of transfer at 128 pixels, style on all three, content on the last.
With `--weights FILE` that network is used instead of training one.
"""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import jnst
from benchmarks.experiments.classes import save_classes, to_pixels
from benchmarks.experiments.outcome import flags, images, parse, save, table_sheet
from jnst.apps.report import Figure, Figures, Heading, Plot, Table, Tile
from jnst.apps.training.classifier import Settings
from jnst.apps.training.data import Dataset, load_dataset
from jnst.apps.training.fit import Epoch, Trained, train_classifier

BUILT_IN = 40
"""Images of each class in the built-in set."""
EXAMPLES = 4
TRAINED = ("train_loss", "test_loss", "test_accuracy")
PUBLISHED = {"train_loss": 0.90, "test_loss": 0.89, "style": 44892.40, "content": 127.82}


def train(data: Path | None, count: int, settings: Settings) -> tuple[Dataset, jnst.Backbone, Trained]:
    """Read the images and train."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = load_dataset(data or save_classes(Path(folder), count), side=2 * settings.size)
    backbone = jnst.make_backbone("convnet", widths="16/32/64", training="classifier")
    return dataset, backbone, train_classifier(dataset, backbone, settings, on_epoch=say)


def say(history: Sequence[Epoch]) -> None:
    """A line for every epoch."""
    last = history[-1]
    print(
        f"epoch {last.epoch}: train {last.train_loss:.4f}, test {last.test_loss:.4f}, {last.seconds:.1f} s", flush=True
    )


def examples(dataset: Dataset) -> Figures:
    """Some images of every class."""
    shown = [
        Figure(example.pixels / 255, dataset.classes[label])
        for label in range(len(dataset.classes))
        for example in [each for each in dataset.train if each.label == label][:EXAMPLES]
        if example.pixels is not None
    ]
    return Figures(shown)


def settings_of(backbone: jnst.Backbone, steps: int) -> jnst.Preset:
    """Style on the three convolutions and content on the last; of another network, on its usual layers."""
    settings = jnst.preset("scratch-cnn", num_steps=(steps,))
    if backbone.name == "convnet":
        return settings
    content = [layer for layer in backbone.content_layers if layer in backbone.layers][:1]
    style = [layer for layer in backbone.style_layers if layer in backbone.layers][:3]
    return jnst.preset(settings, content_layers=tuple(content), style_layers=tuple(style))


def main(words: Sequence[str]) -> None:
    """Train, transfer, and write both."""
    parser = flags("classifier", __doc__, size=128, steps=800, several=False)
    parser.add_argument("--data", type=Path, help="folder of class folders")
    parser.add_argument("--count", type=int, default=BUILT_IN, help="images of each class in the built-in set")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--crop", type=int, default=224, help="side of the views that are trained on")
    args = parse(parser, words)
    parts, figures, epochs = [], [], []
    if args.weights:
        backbone, params = jnst.load_backbone(weights=args.weights[0])
        print(f"{args.weights[0]}: {backbone.name}, {backbone.training} weights, is not trained any further")
    else:
        dataset, backbone, trained = train(args.data, args.count, Settings(epochs=args.epochs, size=args.crop))
        params, epochs = trained.params["trunk"], list(map(dataclasses.asdict, trained.history))
        figures = [(f"{name.replace('_', ' ')}", epochs[-1][name], PUBLISHED.get(name)) for name in TRAINED]
        curves = {name: [epoch[name] for epoch in epochs] for name in TRAINED[:2]}
        parts = [("Training", [Plot(curves, axis="epoch")]), ("Trained on, among others", [examples(dataset)])]
    contents, styles = images(args, "contents", 2), images(args, "styles", 3)
    settings = settings_of(backbone, args.steps)
    sources = list(contents.values()), list(styles.values())
    made = jnst.stylize_grid(*sources, params, backbone=backbone, preset=settings, fit="crop")
    losses = {
        kind: np.asarray(sum(values[0, 0] for name, values in made.parts.items() if name.startswith(f"{kind}/")))
        for kind in ("style", "content")
    }
    figures.append(("first style loss", losses["style"][0], None))
    figures += [(f"last {kind} loss", values[-1], PUBLISHED[kind]) for kind, values in losses.items()]
    rows = [Heading(name, (to_pixels(content),)) for name, content in contents.items()]
    columns = [Heading(name, (to_pixels(style),)) for name, style in styles.items()]
    note = f"network {backbone.name} ({backbone.training}), {args.steps} steps"
    sheet = table_sheet(
        rows, columns, lambda row, column: Tile(to_pixels(made.image[row, column])), sources[0][0], note=note
    )
    parts = [("Figures", [Table(("", "ours", "document"), figures)]), *parts]
    parts.append(("Transfer", [Plot({"total": made.losses[0, 0]} | losses)]))
    ours = {name: float(value) for name, value, _ in figures}
    save(args, "A classifier in place of VGG", sheet, parts, figures=ours, document=PUBLISHED, epochs=epochs)
