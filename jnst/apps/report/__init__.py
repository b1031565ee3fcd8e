"""What is made for looking at: contact sheets, curves, montages of features, and pages with all of it."""

from jnst.apps.report.curves import check_curves, curves_svg, save_curves
from jnst.apps.report.geometry import Heading
from jnst.apps.report.montage import feature_montage, gram_image
from jnst.apps.report.page import Code, Facts, Figure, Figures, Page, Plot, Table, render, save_page, versions
from jnst.apps.report.run import catalogue_page, loss_table, run_page, settings_facts
from jnst.apps.report.sheet import Tile, contact_sheet

__all__ = [
    "Code",
    "Facts",
    "Figure",
    "Figures",
    "Heading",
    "Page",
    "Plot",
    "Table",
    "Tile",
    "catalogue_page",
    "check_curves",
    "contact_sheet",
    "curves_svg",
    "feature_montage",
    "gram_image",
    "loss_table",
    "render",
    "run_page",
    "save_curves",
    "save_page",
    "settings_facts",
    "versions",
]
