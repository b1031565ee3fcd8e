"""Contact sheets, montages of features, and HTML reports with images, loss curves, tables and settings."""

from jnst.apps.report.montage import feature_montage, gram_image
from jnst.apps.report.page import (
    Block,
    Code,
    Facts,
    Figure,
    Figures,
    Page,
    Plot,
    Table,
    cell_text,
    check_installed,
    save_page,
    versions,
)
from jnst.apps.report.sheet import Heading, Tile, contact_sheet
from jnst.apps.report.summaries import catalogue_page, run_page

__all__ = [
    "Block",
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
    "cell_text",
    "check_installed",
    "contact_sheet",
    "feature_montage",
    "gram_image",
    "run_page",
    "save_page",
    "versions",
]
