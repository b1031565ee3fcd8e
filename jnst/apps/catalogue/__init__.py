"""Catalogues: every content in every style, for every swept setting; each image made once, and resumable."""
