"""A web page, served on this machine, that shows a run while it goes on.

Example::

    from jnst.apps.preview import serve

    with serve() as preview:
        print(preview.address)
        result = jnst.stylize(content, style, callback=preview)
        preview.show(result.image)
"""

from jnst.apps.preview.server import Preview, serve

__all__ = ["Preview", "serve"]
