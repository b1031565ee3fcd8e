"""Catalogues: every content in every style under every swept setting, a file for each; done once, and resumable."""
